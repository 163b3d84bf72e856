"""How many requests a client may make: a client is an API key, or an address where there are no keys.

The limit is per process of the service: with n processes behind a balancer a client gets up to n times as much.
A shared limit would cost a round trip to Redis per request, which is more than most requests cost themselves.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_CLIENTS_KEPT = 100_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a client has left. Times are whole seconds, rounded up, as in the headers."""

    allowed: bool
    limit: int
    remaining: int
    reset: int
    """Until the client has its full limit again."""
    retry_after: int
    """Until one more request is allowed; 0 if one is allowed right now."""

    def headers(self) -> dict[str, str]:
        headers = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }
        return headers if self.allowed else headers | {"Retry-After": str(self.retry_after)}


class RateLimit:
    """A token bucket per client: `per_second` tokens are added every second, up to `burst`.

    A request is allowed while there is a token. A request that costs more, such as a batch, may leave a debt, which
    must be paid off before the next request. So a batch of any size passes, and its whole price is paid.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __repr__(self) -> str:
        return f"RateLimit({self._rate:g} per second, burst {self._burst}, {len(self._buckets)} clients)"

    def take(self, client: str) -> Allowance:
        """Takes the token of one request, if there is one."""
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
        """Takes further tokens for a request that was allowed already."""
        self._keep(client, self._tokens(client) - cost)

    def _tokens(self, client: str) -> float:
        tokens, since = self._buckets.get(client, (float(self._burst), 0.0))
        return min(float(self._burst), tokens + (self._clock() - since) * self._rate)

    def _keep(self, client: str, tokens: float) -> None:
        self._buckets[client] = (tokens, self._clock())
        self._buckets.move_to_end(client)
        if len(self._buckets) > _CLIENTS_KEPT:
            self._buckets.popitem(last=False)  # the client that asked longest ago: most likely its bucket is full
