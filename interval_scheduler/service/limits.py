"""API keys, and how much each of them, or each address without one, may ask.

The limit is per process of the service: with n processes behind a balancer a client gets up to n times as much.
Sharing it would cost a round trip to Redis per request, more than most requests themselves.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_CLIENTS_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's name and the SHA-256 of its key in hex: keys are 256 random bits, which need no slow hash."""

    name: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> ApiKey:
        """``NAME:DIGEST`` as configured.

        Raises:
            ValueError: with the rule.
        """
        if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,64}:[0-9a-f]{64}", text):
            raise ValueError("use NAME:DIGEST as `interval-scheduler serve --new-key NAME` prints it")
        return cls(*text.split(":"))


def new_key(name: str) -> tuple[str, ApiKey]:
    """A fresh key, to be given to the client, and what is configured of it."""
    key = secrets.token_urlsafe(32)
    return key, ApiKey.parse(f"{name}:{_digest(key)}")


def client_of(key: str, keys: Sequence[ApiKey]) -> str | None:
    """The name that a key belongs to, or None; takes as long for any key."""
    digest = _digest(key)
    found = None
    for candidate in keys:
        if hmac.compare_digest(candidate.digest, digest):
            found = candidate.name
    return found


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left to a client. Seconds are whole ones, rounded up, as headers have them."""

    allowed: bool
    limit: int
    remaining: int
    reset: int
    """Until all of it is there again."""
    retry_after: int
    """Until one more request is let in; 0 if one is right now."""

    def headers(self) -> dict[str, str]:
        headers = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }
        return headers if self.allowed else headers | {"Retry-After": str(self.retry_after)}


class RateLimit:
    """A token bucket per client: `per_second` tokens a second, at most `burst` of them.

    A request is let in while there is a token. One that costs more, such as a batch, leaves a debt that has to be
    paid off first, so that batches of any size pass and none is free.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> Allowance:
        """Asks for one request."""
        tokens = self._tokens(client)
        allowed = tokens >= 1
        if allowed:
            tokens -= 1
            self._keep(client, tokens)
        return Allowance(
            allowed,
            self._burst,
            max(0, int(tokens)),
            math.ceil((self._burst - tokens) / self._rate),
            0 if tokens >= 1 else max(1, math.ceil((1 - tokens) / self._rate)),
        )

    def charge(self, client: str, cost: int) -> None:
        """Takes further tokens for a request that was let in."""
        self._keep(client, self._tokens(client) - cost)

    def _tokens(self, client: str) -> float:
        tokens, since = self._buckets.get(client, (float(self._burst), 0.0))
        return min(float(self._burst), tokens + (self._clock() - since) * self._rate)

    def _keep(self, client: str, tokens: float) -> None:
        self._buckets[client] = (tokens, self._clock())
        self._buckets.move_to_end(client)
        if len(self._buckets) > _CLIENTS_KEPT:
            self._buckets.popitem(last=False)  # who asked longest ago has most likely all of it again
