"""Renews the leases of live runs, from a thread and over connections of its own.

So a handler that blocks the event loop, or a busy loop, does not lose its lease. If a lease could not be renewed in
time, or its task is gone, the run is told.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from ..model.errors import PartitionUnavailable, TopologyMismatch
from ..model.times import parse_duration
from ..protocol import calls
from ..protocol.commands import Argument, Command, Partition, Reply
from ..protocol.operation import Operation, batches, drive, drive_async
from ..transport.blocking import BlockingTransport
from .backoff import Backoff
from .context import Context
from .run import Run

if TYPE_CHECKING:
    from .claims import Claims

_LONGEST_LEASE_MS = 7 * 86_400_000


class LeaseKeeper:
    """Keeps the leases of all live runs on one instance, until `stop`. An instance that hangs delays no other."""

    def __init__(self, instance: str, context: Context, transport: BlockingTransport, claims: Claims) -> None:
        """`transport` is for the thread of the keeper, apart from that of the event loop."""
        self._instance = instance
        self._context = context
        self._transport = transport
        self._claims = claims
        self._runtime = context.runtime
        self._lease_ms = lease_ms = context.options.lease_ms
        # Every lease is renewed when two thirds are left, so that one missed round costs nothing.
        self._pause = lease_ms / 1000 / 6
        self._backoff = Backoff(context.runtime, lease_ms)
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

    async def run(self) -> None:
        """Keeps the leases on the event loop until it is cancelled: used instead of `start` if there are no threads."""
        pause = self._pause
        while True:
            await asyncio.sleep(pause)
            try:
                renewed = await drive_async(self._renewal(), lambda commands: self._context.execute(commands, "leases"))
                pause = self._pause_after(renewed)
            except Exception as error:
                pause = self._failed(error)

    def _failed(self, error: Exception) -> float:
        # No error ends this: without it every run would lose its lease.
        self._context.report_from_thread(self._instance, error)
        return self._pause_after(False)

    def _pause_after(self, renewed: bool) -> float:
        if renewed:
            self._backoff.reset()
            return self._pause
        return self._backoff.next()

    def _renewal(self) -> Operation[bool]:
        """Renews the leases that are due for it. False if some of them must be tried again soon."""
        now = self._runtime.monotonic()
        horizon = now + self._lease_ms / 1000 * 2 / 3
        by_partition: dict[Partition, list[Run]] = {}
        for run in self._claims.leased():
            if run.should_have_ended is not None and run.should_have_ended < now and run.owner is not None:
                run.should_have_ended = None
                self._claims.tell.overrun(run)
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
            # A lease counts from when it was last known to be ours. When it is over, another worker may run the task.
            gone = [run for run in runs if run.deadline <= now]
        except TopologyMismatch:
            gone = list(runs)
        else:
            gone = [run for run, answer in zip(runs, answers, strict=True) if answer != calls.RENEWED]
            for run in runs:
                run.deadline = max(run.deadline, deadline)
        for run in gone:
            run.lost = True
            self._claims.lose_lease(run)

    def extend(self, run: Run, seconds: float | timedelta | None) -> bool:
        """Renews one lease at once. False if it is lost. May be called in any thread; blocks for a round trip."""
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
        args: list[Argument] = []
        for run in runs:
            args += (run.raw_id, str(run.header.token))
        return calls.renew(runs[0].partition, self._runtime.script_now(), lease_ms, args)
