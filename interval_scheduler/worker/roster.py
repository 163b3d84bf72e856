"""The list of live workers, which decides who wakes first for which partition.

Every worker sends a beat to the master instance every few seconds. Ranks follow from the sorted list of live workers,
so workers need no agreement. No promise depends on the list: a worker with a wrong list only wakes too early or late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..core.placement import preference
from ..model.errors import PartitionUnavailable
from ..protocol import calls
from ..protocol.commands import Reply
from ..support.cancellation import is_cancelled
from .context import Context
from .zone_watch import ZoneWatch

BEAT_SECONDS = 3.0
"""Time between beats: rare enough to cost nothing, often enough that a dead worker is replaced within `TTL_MS`."""
TTL_MS = 10_000
BACKUP_SECONDS = 0.025
"""How much later the second in line wakes: long enough that the first one has mostly taken the work, and short if the
first one is gone."""
NEWS_SECONDS = 0.001
"""After news of a change, each worker waits up to this long per live worker before its next beat: so not all beat in
the same moment, and workers that start together are seen together."""
OTHERS_SECONDS = 1.0
"""How much later each further one in line wakes, up to `BEAT_SECONDS`: a list full of dead workers delays no run."""


class Roster:
    """This worker's view of all live workers of the namespace."""

    def __init__(self, context: Context, zones: ZoneWatch | None = None) -> None:
        self.on_change: Callable[[], None] | None = None
        """Called on the loop whenever the ranks may have changed."""
        self._context = context
        self._zones = zones
        self._worker = context.worker_id
        self._master = context.layout.master
        self._namespace = context.layout.namespace
        self._execute = context.execute
        self._runtime = context.runtime
        self._members: tuple[str, ...] = (self._worker,)
        self._ranks: dict[int, int] = {}
        self._news = asyncio.Event()

    def rank(self, partition: int) -> int:
        """The place of this worker in line for a partition: 0 wakes first."""
        found = self._ranks.get(partition)
        if found is None:
            found = self._ranks[partition] = preference(partition, self._members, self._worker)
        return found

    def delay(self, partition: int) -> float:
        """How many seconds after a due time of the partition this worker wakes."""
        rank = self.rank(partition)
        if rank == 0:
            return 0.0
        return BACKUP_SECONDS if rank == 1 else min(OTHERS_SECONDS * (rank - 1), BEAT_SECONDS)

    def other(self) -> str | None:
        """Some other live worker."""
        others = [member for member in self._members if member != self._worker]
        return self._runtime.random.choice(others) if others else None

    async def beat(self) -> None:
        """Sends one beat: this worker is alive."""
        self._learn(await self._send(TTL_MS))

    async def run(self) -> None:
        """Sends beats until it is cancelled. No error ends it."""
        while not is_cancelled():
            pause = self._runtime.routine(BEAT_SECONDS) * self._runtime.random.uniform(0.8, 1)
            try:
                if await self._hears_news(pause):
                    spread = min(NEWS_SECONDS * len(self._members), BEAT_SECONDS / 3)
                    await asyncio.sleep(spread * self._runtime.random.random())
                    self._news.clear()
                await self.beat()
            except Exception as error:
                self._context.report(self._master, error)

    def news(self) -> None:
        """A worker came or went. Until this one knows, two workers or none may believe to be first for a partition."""
        self._news.set()

    async def _hears_news(self, seconds: float) -> bool:
        try:
            return await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return False

    async def leave(self) -> None:
        """Takes this worker off the list; without it the others would notice after `TTL_MS`."""
        await self._send(0)

    async def _send(self, ttl_ms: int) -> Reply:
        request = calls.workers(self._master, self._namespace, self._runtime.script_now(), self._worker, ttl_ms)
        [reply] = await self._execute([request], "main")
        return reply

    def _learn(self, reply: Reply) -> None:
        try:
            alive = calls.read_workers(reply)
        except PartitionUnavailable:
            return  # while the master is down, the last known list stays
        members: Sequence[str] = sorted({*alive, self._worker})
        if tuple(members) != self._members:
            self._members = tuple(members)
            self._ranks.clear()
            if self._zones is not None:
                self._zones.compare(members)
            if self.on_change is not None:
                self.on_change()
