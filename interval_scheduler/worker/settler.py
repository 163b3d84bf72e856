"""Reporting the ends of runs, in batches: whatever ends while one batch is under way goes with the next.

A report is in no hurry, and a server that works on it does not give out what is due. So while the claimer is behind
they wait for each other, for a moment at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from ..core.definition import decode_body
from ..core.record import RUNNING, parse_header, split_record
from ..core.settlement import GONE, Settlement, is_over, settle
from ..model.errors import CorruptRecord, PartitionUnavailable, TopologyMismatch
from ..protocol import calls
from ..protocol.commands import Command, Partition, Reply
from ..protocol.operation import batches
from ..support.log import Log
from ..support.runtime import Runtime
from .backoff import Backoff
from .run import Run

_WAIT_SECONDS = 0.02
_WAIT_RUNS = 250
"""How long reports wait for claims at most, and how many."""
_NEVER = 1 << 63

Execute = Callable[[Sequence[Command], str], Awaitable[list[Reply]]]


class Settler:
    """Settles the runs of one instance."""

    def __init__(
        self,
        execute: Execute,
        runtime: Runtime,
        log: Log,
        lease_ms: int,
        now_ms: Callable[[], int],
        settled: Callable[[Run, Settlement], None],
        refused: Callable[[Run], None],
        hint: Callable[[int, int], None],
        is_behind: Callable[[], bool],
    ) -> None:
        """`now_ms()` is the server's time; `settled` and `refused` are called on the loop, once for each run, and
        `hint(partition, due_ms)` for the next of what runs again. While `is_behind()` there is more to claim, and
        somebody calls `flush` when that is over."""
        self._execute = execute
        self._runtime = runtime
        self._log = log
        self._lease_ms = lease_ms
        self._now_ms = now_ms
        self._settled = settled
        self._refused = refused
        self._hint = hint
        self._is_behind = is_behind
        self._backoff = Backoff(runtime, lease_ms)
        self._queue: list[Run] = []
        self._task: asyncio.Task[None] | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def add(self, run: Run) -> None:
        """Takes a run that has its outcome; returns at once."""
        self._empty.clear()
        self._queue.append(run)
        if self._task is not None:
            return
        if not self._is_behind() or len(self._queue) >= _WAIT_RUNS:
            self.flush()
        elif self._waiting is None:
            self._waiting = asyncio.get_running_loop().call_later(_WAIT_SECONDS, self.flush)

    def flush(self) -> None:
        """Reports what was added so far."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._queue and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._queue:
                batch, self._queue = self._queue, []
                try:
                    again = await self._settle(batch)
                except Exception as error:  # an error in here must not lose the ends of runs
                    self._log.write("error", "settling failed and is tried again", error=repr(error))
                    again = batch
                if again:
                    self._queue = again + self._queue
                    await asyncio.sleep(self._backoff.next())
                else:
                    self._backoff.reset()
        finally:
            self._task = None
            self._empty.set()

    async def _settle(self, batch: list[Run]) -> list[Run]:
        """Reports a batch; returns what has to be tried again after a pause."""
        groups: dict[Partition, list[Run]] = {}
        for run in batch:
            groups.setdefault(run.partition, []).append(run)
        chunks = [chunk for group in groups.values() for chunk in batches(group)]
        now = self._now_ms()
        decided = [[self._decide(run, now) for run in chunk] for chunk in chunks]
        requests = [self._command(chunk, settlements) for chunk, settlements in zip(chunks, decided, strict=True)]
        again: list[Run] = []
        for chunk, settlements, reply in zip(chunks, decided, await self._execute(requests, "settle"), strict=True):
            try:
                settled = calls.read_settle(chunk[0].partition, reply)
            except (PartitionUnavailable, TopologyMismatch) as error:
                for run in chunk:
                    run.unsure = run.unsure or not isinstance(error, PartitionUnavailable) or error.unknown_outcome
                again += chunk
            else:
                self._answered(chunk, settlements, settled)
        return again

    def _decide(self, run: Run, now: int) -> Settlement:
        assert run.outcome is not None
        if is_over(run.header, run.definition, run.outcome):
            return GONE
        return settle(run, run.outcome, now, self._runtime.random.random())

    def _answered(self, runs: Sequence[Run], settlements: Sequence[Settlement], settled: calls.Settled) -> None:
        records = iter(settled.changed)
        next_due = _NEVER
        for run, settlement, answer in zip(runs, settlements, settled.answers, strict=True):
            if answer == calls.ACCEPTED or (answer != calls.CHANGED and run.unsure):
                # What was sent before without an answer, and is not known any more, was accepted then.
                header = settlement.header
                if header is not None and header.due < next_due and header.state != RUNNING:
                    next_due = header.due
                self._settled(run, settlement)
            elif answer == calls.CHANGED:
                self._changed(run, next(records))
            else:
                self._refused(run)
        if next_due < _NEVER:
            self._hint(runs[0].partition.number, next_due)

    def _changed(self, run: Run, record: bytes) -> None:
        """The task was assigned, moved or asked for while it ran: decide again, on what it is now."""
        raw, body = split_record(record)
        try:
            run.definition = decode_body(body)
            run.header = parse_header(raw)
            run.raw_header = raw
        except CorruptRecord as error:
            self._log.write("error", "a task was changed to something this version cannot read", error=str(error))
            self._refused(run)
            return
        # What was asked for while the run was live wins over what its handler wanted to follow.
        assert run.outcome is not None
        run.outcome = replace(run.outcome, successor=None)
        self._queue.append(run)

    def _command(self, chunk: Sequence[Run], settlements: Sequence[Settlement]) -> Command:
        return calls.settle(chunk[0].partition, self._runtime.script_now(), self._lease_ms, chunk, settlements)

    async def drain(self) -> None:
        """Waits until everything added so far was accepted or refused."""
        self.flush()
        await self._empty.wait()

    def cancel(self) -> None:
        """Gives up on what is still not reported: its leases lapse."""
        if self._waiting is not None:
            self._waiting.cancel()
        if self._task is not None:
            self._task.cancel()
