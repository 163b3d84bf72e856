"""Delivering timers: one POST per attempt, and what its answer means."""

from __future__ import annotations

import asyncio
import email.utils
import hashlib
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from .._version import __version__
from ..async_scheduler import AsyncScheduler
from ..model.errors import GiveUp, RetryAfter
from ..worker.run import Execution, current_execution
from .destinations import CheckedResolver, DestinationRefused, Destinations, Lookup, joined
from .hosts import HostSlots
from .metrics import Metrics
from .settings import Settings
from .signing import Signer
from .timers import Json, TimerTask, finished, record_task, status_of, sweep

_DRAIN_SECONDS = 2.0
"""How long the rest of an answer is read for: its status has decided by then."""
_EXCERPT_BYTES = 200
_TOLD_CHARACTERS = 300
"""Longest text of a failure that is stored with the timer."""
_KEEP_ALIVE_SECONDS = 2.0
"""How long a connection is kept for the next delivery: less than most receivers keep it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt. `due` is when it should have begun, unix ms; `webhook_id` is the same in all attempts."""

    timer_id: str
    webhook_id: str
    url: str
    message: str
    due: int
    attempt: int
    token: int


class Deliverer:
    """The handler of the scheduler: delivers timers, and keeps what is left of them."""

    def __init__(
        self, scheduler: AsyncScheduler, settings: Settings, metrics: Metrics, lookup: Lookup | None = None
    ) -> None:
        """`lookup` resolves names instead of the system. To be made on the event loop."""
        self._scheduler = scheduler
        self._settings = settings
        self._retry = settings.retry
        self._metrics = metrics
        self._signer = Signer(settings.webhook_secrets)
        self._destinations = Destinations(settings.allowed_networks)
        # A host's waiting deliveries hold slots of the worker: at most a quarter of them.
        self._hosts = HostSlots(settings.host_concurrency, max(1, scheduler.options.concurrency // 4))
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

    async def close(self) -> None:
        await self._session.close()
        await self._resolver.close()  # the session leaves what it was given to its giver

    async def handle(self, payload: Json) -> None:
        """What the scheduler calls for every due task of the namespace."""
        execution = current_execution()
        if "job" in payload:
            await sweep(self._scheduler, self._settings)
        elif "end" in payload:
            # A cancelled timer whose record was not moved to the end of its retention.
            if _ms(execution.due) < payload["end"]["until"]:
                execution.continue_as(record_task(execution.id, payload))
        elif "run" in payload:
            timer = await self._scheduler.peek_task(payload["run"])
            if timer is not None and status_of(timer) in ("pending", "processing", "retrying"):
                await self._deliver(self._delivery(timer.id, timer.payload, execution, _id(execution.id)))
        elif payload["repeat"] is not None:
            webhook_id = _id(execution.id, payload["made"], _ms(execution.slot))
            await self._deliver(self._delivery(execution.id, payload, execution, webhook_id))
        elif payload["due"] > _ms(execution.due):
            # An update of which only the first half was written: the timer is not due yet.
            execution.continue_as(TimerTask(execution.id, payload, payload["due"] / 1000, None, self._retry))
        else:
            webhook_id = _id(execution.id, payload["made"], payload["armed"])
            await self._deliver(self._delivery(execution.id, payload, execution, webhook_id))
            record = finished(payload, "completed", execution.attempt, None, self._settings)
            execution.continue_as(record_task(execution.id, record))

    def _delivery(self, timer_id: str, payload: Json, execution: Execution, webhook_id: str) -> Delivery:
        due = _ms(execution.slot)
        if payload["due"] is not None and not execution.id.startswith(":"):
            # A timer that was moved is late by its new time.
            due = payload["due"] if payload["repeat"] is None else max(due, payload["due"])
        return Delivery(
            timer_id, webhook_id, payload["url"], payload["message"], due, execution.attempt, execution.fencing_token
        )

    async def _deliver(self, delivery: Delivery) -> None:
        """One attempt.

        Raises:
            RetryAfter: to be tried again, if attempts are left.
            GiveUp: never to be tried again.
            Postpone: its host is busy; this was no attempt.
        """
        try:
            url = self._destinations.url(delivery.url)
        except DestinationRefused as error:
            # What was allowed when the timer was made may not be any more.
            self._metrics.deliveries.labels("gave_up").inc()
            raise GiveUp(f"the url {error} (attempt {delivery.attempt})") from error
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
        headers["webhook-fencing-token"] = str(delivery.token)
        headers["webhook-attempt"] = str(delivery.attempt)
        total = self._settings.total_seconds
        try:
            try:
                await self._send(url, body, headers, delivery.attempt, total)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError) as error:
                # Most likely the receiver closed a kept connection at this very moment: a new one tells.
                left = total - (time.time() - begin)
                if left <= 0 or isinstance(error, aiohttp.ClientConnectorError):
                    raise  # out of time, or this was a new one
                await self._send(url, body, headers, delivery.attempt, left)
        except (aiohttp.ClientError, DestinationRefused, OSError, ValueError) as error:
            text = "no answer in time" if isinstance(error, TimeoutError) else f"{error or type(error).__name__}"
            raise self._failed(f"{_told(text)} (attempt {delivery.attempt})", delivery.attempt) from error
        finally:
            self._metrics.delivery_seconds.observe(max(0.0, time.time() - begin))

    async def _send(self, url: str, body: bytes, headers: dict[str, str], attempt: int, seconds: float) -> None:
        timeout = aiohttp.ClientTimeout(
            total=seconds,
            connect=self._settings.connect_seconds,
            sock_connect=self._settings.connect_seconds,
            sock_read=self._settings.read_seconds,
        )
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False, timeout=timeout
        ) as response:
            excerpt = await self._rest_of(response)
            if not 200 <= response.status < 300:
                said = f"HTTP {response.status} {response.reason or ''}".rstrip()
                said = f"{said}: {excerpt}" if excerpt else said
                self._refused(response, f"{_told(said)} (attempt {attempt})", attempt)

    def _refused(self, response: aiohttp.ClientResponse, said: str, attempt: int) -> None:
        if response.status == 410:
            raise GiveUp(said)
        raise self._failed(said, attempt, retry_after(response.headers.get("Retry-After")))

    def _failed(self, said: str, attempt: int, asked: float | None = None) -> RetryAfter:
        """A failure to be tried again after the backoff, or later if the receiver asked for that."""
        own = self._retry.delay_ms(attempt, random.random()) / 1000
        return RetryAfter(max(own, min(asked or 0.0, self._settings.max_retry_after_seconds)), said)

    async def _rest_of(self, response: aiohttp.ClientResponse) -> str:
        """The beginning of an answer. One that is long, slow or broken costs its connection and nothing else."""
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
            response.close()  # the status came through, and that is what counts
        return excerpt.decode("utf-8", "replace")


def retry_after(text: str | None, now: float | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, which has seconds or an HTTP date; None for neither."""
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


def _told(text: str) -> str:
    """What a receiver said, or what went wrong with it, as it is stored, logged and shown."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_TOLD_CHARACTERS]).strip()


def _id(*parts: object) -> str:
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()
    return f"msg_{digest}"


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
