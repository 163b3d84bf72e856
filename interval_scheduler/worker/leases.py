"""Renewing leases from a thread of its own, over connections of its own.

A handler that blocks the event loop, or a loop that is merely busy, therefore loses no lease. A run whose lease could
not be renewed in time, or whose task is gone, is told so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from ..model.errors import PartitionUnavailable, TopologyMismatch
from ..model.times import parse_duration
from ..protocol import calls
from ..protocol.commands import Command, Partition, Reply
from ..protocol.operation import Operation, batches, drive, drive_async
from ..support.runtime import Runtime
from ..transport.blocking import BlockingTransport
from .backoff import Backoff
from .run import Run
from .settler import Execute

_LONGEST_LEASE_MS = 7 * 86_400_000


class LeaseKeeper:
    """Keeps the leases of all live runs on one instance until `stop`: one that hangs delays no other."""

    def __init__(
        self,
        instance: str,
        transport: BlockingTransport,
        runtime: Runtime,
        lease_ms: int,
        live: Callable[[], Iterable[Run]],
        lost: Callable[[Run], None],
        report: Callable[[str, Exception], None],
    ) -> None:
        """`live()` gives the runs whose leases to keep; `lost(run)` is called in this thread for one that was lost,
        `report(instance, error)` for what failed and is tried again."""
        self._instance = instance
        self._transport = transport
        self._runtime = runtime
        self._lease_ms = lease_ms
        self._live = live
        self._lost = lost
        self._report = report
        # Every lease is renewed when two thirds are left, so that one missed round costs nothing.
        self._pause = lease_ms / 1000 / 6
        self._backoff = Backoff(runtime, lease_ms)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="interval-scheduler-leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Lets the thread end."""
        self._stopping.set()

    def join(self) -> None:
        """Waits for the thread to end, at most one round trip's deadline."""
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        pause = self._pause
        while not self._stopping.wait(pause):
            try:
                pause = self._pause_after(drive(self._renewal(), self._transport.execute))
            except Exception as error:
                pause = self._failed(error)

    async def run(self, execute: Execute) -> None:
        """Keeps the leases on the event loop until cancelled: what `start` does, where there are no threads."""
        pause = self._pause
        while True:
            await asyncio.sleep(pause)
            try:
                renewed = await drive_async(self._renewal(), lambda commands: execute(commands, "leases"))
                pause = self._pause_after(renewed)
            except Exception as error:
                pause = self._failed(error)

    def _failed(self, error: Exception) -> float:
        # No error ends this: without it every run would lose its lease.
        self._report(self._instance, error)
        return self._pause_after(False)

    def _pause_after(self, renewed: bool) -> float:
        if renewed:
            self._backoff.reset()
            return self._pause
        return self._backoff.next()

    def _renewal(self) -> Operation[bool]:
        """Renews what has to be; False where some of it has to be tried again soon."""
        horizon = self._runtime.monotonic() + self._lease_ms / 1000 * 2 / 3
        by_partition: dict[Partition, list[Run]] = {}
        for run in self._live():
            if run.deadline < horizon and not run.lost and run.partition.instance == self._instance:
                by_partition.setdefault(run.partition, []).append(run)
        groups = [batch for runs in by_partition.values() for batch in batches(runs)]
        if not groups:
            return True
        sent = self._runtime.monotonic()
        replies = yield [self._command(batch, self._lease_ms) for batch in groups]
        for batch, reply in zip(groups, replies, strict=True):
            self._apply(batch, reply, sent + self._lease_ms / 1000)
        return not any(isinstance(reply, PartitionUnavailable) for reply in replies)

    def _apply(self, runs: Sequence[Run], reply: Reply, deadline: float) -> None:
        now = self._runtime.monotonic()
        try:
            answers = calls.read_renew(runs[0].partition, reply).answers
        except PartitionUnavailable:
            # The lease counts from when it was last known to be ours. Once it is over, somebody else may run the task.
            gone = [run for run in runs if run.deadline <= now]
        except TopologyMismatch:
            gone = list(runs)
        else:
            gone = [run for run, answer in zip(runs, answers, strict=True) if answer != calls.RENEWED]
            for run in runs:
                run.deadline = max(run.deadline, deadline)
        for run in gone:
            run.lost = True
            self._lost(run)

    def extend(self, run: Run, seconds: float | timedelta | None) -> bool:
        """Renews one lease at once; False where it was lost. Callable from any thread; blocks for a round trip."""
        lease_ms = self._lease_ms
        if seconds is not None:
            lease_ms = parse_duration(seconds, "extend", "seconds", minimum_ms=1, maximum_ms=_LONGEST_LEASE_MS)
        sent = self._runtime.monotonic()
        [reply] = self._transport.execute([self._command([run], lease_ms)])
        try:
            renewed = calls.read_renew(run.partition, reply).answers[0] == calls.RENEWED
        except TopologyMismatch:
            renewed = False
        if not renewed:
            run.lost = True
            return False
        run.deadline = max(run.deadline, sent + lease_ms / 1000)
        return True

    def _command(self, runs: Sequence[Run], lease_ms: int) -> Command:
        args: list[Any] = []
        for run in runs:
            args += (run.raw_id, run.header.token)
        return calls.renew(runs[0].partition, self._runtime.script_now(), lease_ms, args)
