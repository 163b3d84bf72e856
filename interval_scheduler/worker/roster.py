"""Who else works, and so who wakes first for which partition.

Workers report alive on the master instance every few seconds. Ranks follow from the sorted list of the live ones, so
they need no agreement. No promise depends on the list: a worker that is wrong about it only wakes too early or late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..core.placement import preference
from ..model.errors import PartitionUnavailable
from ..protocol import calls
from ..protocol.commands import Reply
from ..support.cancellation import is_cancelled
from ..support.runtime import Runtime
from .settler import Execute

BEAT_SECONDS = 3.0
"""Pause between reports: rare enough to cost nothing, often enough that a dead worker is replaced within `TTL_MS`."""
TTL_MS = 10_000
BACKUP_SECONDS = 0.025
"""How much later the second in line wakes: long enough that it mostly finds the work taken, short for a stand-in."""
NEWS_SECONDS = 0.001
"""For each live worker, how long the report after news of a change may be put off: not all ask in the same moment, and
who come together are learned of together."""
OTHERS_SECONDS = 1.0
"""The same for each further one."""


class Roster:
    """This worker's view of all live workers of the namespace."""

    def __init__(
        self,
        worker: str,
        master: str,
        namespace: str,
        execute: Execute,
        runtime: Runtime,
        changed: Callable[[], None],
        report: Callable[[str, Exception], None],
    ) -> None:
        """`changed()` is called on the loop whenever the ranks may have changed, `report(instance, error)` for what
        failed and is tried again."""
        self._worker = worker
        self._master = master
        self._namespace = namespace
        self._execute = execute
        self._runtime = runtime
        self._changed = changed
        self._report = report
        self._members: tuple[str, ...] = (worker,)
        self._ranks: dict[int, int] = {}
        self._news = asyncio.Event()

    def rank(self, partition: int) -> int:
        """0 for the worker that wakes first for a partition."""
        found = self._ranks.get(partition)
        if found is None:
            found = self._ranks[partition] = preference(partition, self._members, self._worker)
        return found

    def delay(self, partition: int) -> float:
        """How many seconds after a due time of the partition this worker wakes."""
        rank = self.rank(partition)
        if rank == 0:
            return 0.0
        return BACKUP_SECONDS if rank == 1 else OTHERS_SECONDS * (rank - 1)

    def other(self) -> str | None:
        """Some other live worker."""
        others = [member for member in self._members if member != self._worker]
        return self._runtime.random.choice(others) if others else None

    async def beat(self) -> None:
        """Reports this worker alive once."""
        self._learn(await self._send(TTL_MS))

    async def run(self) -> None:
        """Reports this worker alive until cancelled. No error ends it."""
        while not is_cancelled():
            pause = self._runtime.routine(BEAT_SECONDS) * self._runtime.random.uniform(0.8, 1)
            try:
                if await self._hears_news(pause):
                    await asyncio.sleep(NEWS_SECONDS * len(self._members) * self._runtime.random.random())
                    self._news.clear()
                await self.beat()
            except Exception as error:
                self._report(self._master, error)

    def news(self) -> None:
        """Somebody came or went: until this worker knows, two may believe to be first for a partition, or nobody."""
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
            return  # with the master down the last known list goes on
        members: Sequence[str] = sorted({*alive, self._worker})
        if tuple(members) != self._members:
            self._members = tuple(members)
            self._ranks.clear()
            self._changed()
