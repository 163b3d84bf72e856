"""A limit of deliveries for every destination host, so that a slow receiver does not delay the others.

Where all slots of a host are taken, a delivery waits a moment, if the host is quick and few others wait for it. If not,
the delivery is postponed: its slot in the worker is free for others, and it comes back about when its host is free.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ..model.errors import Postpone

LONGEST_WAIT_SECONDS = 1.0
_SHORTEST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 30.0
_WEIGHT = 0.2
"""The share of the newest duration in the moving average."""
_HOSTS_KEPT = 10_000


@dataclass(slots=True)
class _Host:
    active: int = 0
    seconds: float = 0.0
    """How long a delivery takes: a moving average."""
    waiters: OrderedDict[asyncio.Future[None], None] = field(default_factory=OrderedDict)


class HostSlots:
    """At most `limit` deliveries to a host at once, and at most `waiting` more that wait for a slot."""

    def __init__(self, limit: int, waiting: int) -> None:
        self._limit = limit
        self._waiting = waiting
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def __repr__(self) -> str:
        return f"HostSlots(limit={self._limit}, waiting={self._waiting}, {len(self._hosts)} hosts)"

    @asynccontextmanager
    async def slot(self, name: str, waited: float = 0.0) -> AsyncIterator[None]:
        """Holds a slot of the host. `waited`: seconds since the delivery should have begun.

        Raises:
            Postpone: no slot will be free soon.
        """
        host = self._hosts.setdefault(name, _Host())
        self._hosts.move_to_end(name)
        if host.active >= self._limit:
            await self._wait(host, waited)
        else:
            host.active += 1
        begin = time.monotonic()
        try:
            yield
        finally:
            host.seconds += _WEIGHT * (time.monotonic() - begin - host.seconds)
            self._leave(host)

    async def _wait(self, host: _Host, waited: float) -> None:
        expected = host.seconds * (len(host.waiters) + 1) / self._limit
        if expected > LONGEST_WAIT_SECONDS or len(host.waiters) >= self._waiting:
            raise self._postpone(host, waited)
        waiter = asyncio.get_running_loop().create_future()
        host.waiters[waiter] = None
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self._leave(host)  # the slot was handed over at the same moment
            host.waiters.pop(waiter, None)
            if isinstance(error, TimeoutError):
                # No delivery to this host ended within this time.
                host.seconds = max(host.seconds, LONGEST_WAIT_SECONDS)
                raise self._postpone(host, waited) from None
            raise

    def _leave(self, host: _Host) -> None:
        """Hands the slot to the delivery that waits longest, or frees it."""
        while host.waiters:
            waiter, _ = host.waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                return
        host.active -= 1
        while len(self._hosts) > _HOSTS_KEPT and not next(iter(self._hosts.values())).active:
            self._hosts.popitem(last=False)

    def _postpone(self, host: _Host, waited: float) -> Postpone:
        """Postpones until the deliveries that wait now are done, and at least by a quarter of the time waited so far.

        The second rule keeps a long queue for a slow host from being claimed over and over. In return a delivery comes
        up to a quarter later than it could.
        """
        drained = host.seconds * (len(host.waiters) + 1) / self._limit
        pause = min(max(drained, waited / 4, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        return Postpone(pause * random.uniform(0.75, 1.25))
