"""Sending webhooks: one attempt is one POST, and the answer decides what follows it."""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from .._version import __version__
from ..model.errors import GiveUp, RetryAfter
from .destinations import CheckedResolver, DestinationRefused, Destinations, Lookup, joined
from .hosts import HostSlots
from .metrics import Metrics
from .settings import Settings
from .signing import Signer
from .stored import Failure, encode_failure

_DRAIN_SECONDS = 2.0
"""How long the rest of an answer is read: the status has decided by then."""
_EXCERPT_BYTES = 200
_KEEP_ALIVE_SECONDS = 2.0
"""How long a connection is kept for the next delivery: shorter than most receivers keep it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt. `due` is when it should have begun, unix ms; `webhook_id` is the same in all attempts."""

    timer_id: str
    webhook_id: str
    url: str
    message: str
    due: int
    attempt: int
    fencing_token: int


class WebhookSender:
    """Sends deliveries, at most so many to one host at once."""

    def __init__(self, settings: Settings, metrics: Metrics, concurrency: int, lookup: Lookup | None = None) -> None:
        """`concurrency`: of the worker. `lookup` resolves names instead of the system. Needs a running event loop."""
        self._settings = settings
        self._policy = settings.retry
        self._metrics = metrics
        self._signer = Signer(settings.webhook_secrets)
        self._destinations = Destinations(settings.allowed_networks)
        # Deliveries that wait for a host hold slots of the worker: at most a quarter of them.
        self._hosts = HostSlots(settings.host_concurrency, max(1, concurrency // 4))
        self._resolver = CheckedResolver(self._destinations, lookup)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                limit=0,
                ttl_dns_cache=10,
                keepalive_timeout=_KEEP_ALIVE_SECONDS,
            ),
            headers={
                "User-Agent": f"interval-scheduler/{__version__}",
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # so that a small answer cannot become a large one
            trust_env=False,  # a proxy would resolve names by itself
        )

    def __repr__(self) -> str:
        return f"WebhookSender({self._signer!r}, {self._hosts!r})"

    async def close(self) -> None:
        await self._session.close()
        await self._resolver.close()  # the session does not close a resolver that it was given

    async def send(self, delivery: Delivery) -> None:
        """Makes one attempt.

        Raises:
            RetryAfter: it failed, and is retried if attempts are left.
            GiveUp: it failed, and is not retried.
            Postpone: its host is busy. This does not count as an attempt.
        """
        try:
            url = self._destinations.url(delivery.url)
        except DestinationRefused as error:
            # The url was allowed when the timer was created, but the settings have changed.
            self._metrics.deliveries.labels("gave_up").inc()
            raise GiveUp(encode_failure(Failure.of(f"the url {error}", delivery.attempt))) from error
        outcome = "postponed"
        try:
            waited = time.time() - delivery.due / 1000
            async with self._hosts.slot(f"{url.raw_host}:{url.port}", waited):
                outcome = "failed"
                await self._post(delivery, str(joined(url, delivery.timer_id)))
                outcome = "delivered"
        except GiveUp:
            outcome = "gave_up"
            raise
        finally:
            self._metrics.deliveries.labels(outcome).inc()

    async def _post(self, delivery: Delivery, url: str) -> None:
        begin = time.time()
        lateness = max(0.0, begin - delivery.due / 1000)
        if delivery.attempt == 1:
            self._metrics.lateness.observe(lateness)
        status = "delayed" if lateness > self._settings.delayed_after_seconds else "on-time"
        body = f'{{"message":{delivery.message},"timerId":"{delivery.timer_id}","status":"{status}"}}'.encode()
        headers = self._signer.headers(delivery.webhook_id, int(begin), body)
        headers["webhook-fencing-token"] = str(delivery.fencing_token)
        headers["webhook-attempt"] = str(delivery.attempt)
        try:
            await self._request(url, body, headers, delivery.attempt)
        except (aiohttp.ClientError, DestinationRefused, OSError, ValueError) as error:
            text = "no answer in time" if isinstance(error, TimeoutError) else f"{error or type(error).__name__}"
            raise self._retry(text, delivery.attempt) from error
        finally:
            self._metrics.delivery_seconds.observe(max(0.0, time.time() - begin))

    async def _request(self, url: str, body: bytes, headers: dict[str, str], attempt: int) -> None:
        """One request, or two: a receiver may close a kept connection at the moment when it is used again."""
        begin, total = time.time(), self._settings.total_seconds
        try:
            await self._request_once(url, body, headers, attempt, total)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError) as error:
            left = total - (time.time() - begin)
            if left <= 0 or isinstance(error, aiohttp.ClientConnectorError):
                raise  # no time is left, or the connection was a new one
            await self._request_once(url, body, headers, attempt, left)

    async def _request_once(self, url: str, body: bytes, headers: dict[str, str], attempt: int, seconds: float) -> None:
        timeout = aiohttp.ClientTimeout(
            total=seconds,
            connect=self._settings.connect_seconds,
            sock_connect=self._settings.connect_seconds,
            sock_read=self._settings.read_seconds,
        )
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False, timeout=timeout
        ) as response:
            excerpt = await self._excerpt(response)
            if 200 <= response.status < 300:
                return
            text = f"HTTP {response.status} {response.reason or ''}".rstrip()
            text = f"{text}: {excerpt}" if excerpt else text
            if response.status == 410:
                raise GiveUp(encode_failure(Failure.of(text, attempt)))
            raise self._retry(text, attempt, retry_after(response.headers.get("Retry-After")))

    def _retry(self, reason: str, attempt: int, asked: float | None = None) -> RetryAfter:
        """A retry after the backoff, or later if the receiver asked for that; `asked` in seconds."""
        own = self._policy.delay_ms(attempt, random.random()) / 1000
        pause = max(own, min(asked or 0.0, self._settings.max_retry_after_seconds))
        return RetryAfter(pause, encode_failure(Failure.of(reason, attempt)))

    async def _excerpt(self, response: aiohttp.ClientResponse) -> str:
        """The beginning of an answer. If the answer is long, slow or broken, only its connection is closed."""
        excerpt = b""
        size = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                async for chunk in response.content.iter_any():
                    excerpt += chunk[: _EXCERPT_BYTES - len(excerpt)]
                    size += len(chunk)
                    if size > self._settings.max_answer_bytes:
                        response.close()
                        break
        except (aiohttp.ClientError, OSError):
            response.close()  # the status has arrived, and only that decides
        return excerpt.decode("utf-8", "replace")


def retry_after(text: str | None, now: float | None = None) -> float | None:
    """The seconds that a ``Retry-After`` header asks for, as a number or an HTTP date; None for anything else."""
    if text is None:
        return None
    text = text.strip()
    if text.isdecimal():
        return float(text[:20])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    reference = datetime.now(UTC) if now is None else datetime.fromtimestamp(now, UTC)
    return max(0.0, (moment - reference).total_seconds())
