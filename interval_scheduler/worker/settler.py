"""Reports the ends of runs, in batches: what ends while one batch is under way goes with the next.

A report is not urgent, and while a server works on it, the server gives out nothing that is due. So while the claimer
is behind, reports wait for more reports, at most for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.record import RUNNING
from ..core.settlement import NOTHING_FOLLOWS, Settlement, given_up, nothing_follows, settle
from ..model.errors import PartitionUnavailable, TopologyMismatch
from ..protocol import calls
from ..protocol.calls import ACCEPTED, CHANGED
from ..protocol.commands import Command, Partition
from ..protocol.operation import batches
from ..protocol.settling import take_change
from ..support.text import error_text
from .backoff import Backoff
from .context import Context
from .run import Run

if TYPE_CHECKING:
    from .claimer import Claimer
    from .claims import Claims

_WAIT_SECONDS = 0.02
_WAIT_RUNS = 250
"""How long, and how many, reports wait while the claimer is behind."""
_NEVER = 1 << 63


class Settler:
    """Settles the runs of one instance."""

    def __init__(self, context: Context, claimer: Claimer, claims: Claims) -> None:
        """`claimer` is the one of the same instance: while it is behind, reports wait."""
        self._context = context
        self._claimer = claimer
        self._claims = claims
        self._lease_ms = context.options.lease_ms
        self._backoff = Backoff(context.runtime, context.options.lease_ms)
        self._queue: list[Run] = []
        self._task: asyncio.Task[None] | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._given_up = False
        self._empty = asyncio.Event()
        self._empty.set()
        claimer.before_rest = self.flush

    def add(self, run: Run) -> None:
        """Takes a run that has its outcome. Returns at once."""
        self._empty.clear()
        self._queue.append(run)
        if self._task is not None:
            return
        if not self._claimer.is_behind or len(self._queue) >= _WAIT_RUNS:
            self.flush()
        elif self._waiting is None:
            self._waiting = asyncio.get_running_loop().call_later(_WAIT_SECONDS, self.flush)

    def flush(self) -> None:
        """Reports now what was added so far."""
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
                except asyncio.CancelledError:  # by other code, which cancels every task: the next end reports them too
                    for run in batch:
                        run.unsure = True
                    self._queue = batch + self._queue
                    raise
                except Exception as error:  # no error may lose the ends of runs
                    self._context.log.write("error", "settling failed and is tried again", error=error_text(error))
                    again = batch
                if again:
                    self._queue = again + self._queue
                    await asyncio.sleep(self._backoff.next())
                else:
                    self._backoff.reset()
        finally:
            self._task = None
            if not self._queue or self._given_up:
                self._empty.set()

    async def _settle(self, batch: list[Run]) -> list[Run]:
        """Reports a batch. Returns the runs whose report must be repeated after a pause."""
        groups: dict[Partition, list[Run]] = {}
        for run in batch:
            groups.setdefault(run.partition, []).append(run)
        chunks = [chunk for group in groups.values() for chunk in batches(group)]
        now = self._now_ms()
        decided = [[self._decide(run, now) for run in chunk] for chunk in chunks]
        requests = [self._command(chunk, settlements) for chunk, settlements in zip(chunks, decided, strict=True)]
        again: list[Run] = []
        for chunk, settlements, reply in zip(
            chunks, decided, await self._context.execute(requests, "settle"), strict=True
        ):
            try:
                settled = calls.read_settle(chunk[0].partition, reply)
            except (PartitionUnavailable, TopologyMismatch) as error:
                for run in chunk:
                    run.unsure = run.unsure or not isinstance(error, PartitionUnavailable) or error.unknown_outcome
                again += chunk
            else:
                self._answered(chunk, settlements, settled)
        return again

    def _now_ms(self) -> int:
        """The time of the server, as far as it is known."""
        runtime = self._context.runtime
        return int(runtime.script_now() or self._claimer.server.now_ms(runtime.monotonic()))

    def _decide(self, run: Run, now: int) -> Settlement:
        assert run.outcome is not None
        if nothing_follows(run.header, run.definition, run.outcome):
            return NOTHING_FOLLOWS
        try:
            return settle(run, run.outcome, now, self._context.runtime.random.random())
        except Exception as error:  # what is stored of one task must not hold up the reports of the others
            self._claims.tell.undecided(run, error)
            return given_up(run, f"what follows a run cannot be decided: {error_text(error)}")

    def _answered(self, runs: Sequence[Run], settlements: Sequence[Settlement], settled: calls.Settled) -> None:
        records = iter(settled.changed)
        next_due = _NEVER
        changed = 0
        for run, settlement, answer in zip(runs, settlements, settled.answers, strict=True):
            if answer == ACCEPTED or (answer != CHANGED and run.unsure):
                # A report was sent before, and no answer came. That the run is unknown now shows that it was accepted.
                header = settlement.header
                if header is not None and header.due < next_due and header.state != RUNNING:
                    next_due = header.due
                self._claims.settle(run, settlement)
            elif answer == CHANGED:
                changed += self._changed(run, next(records))
            else:
                self._claims.refuse(run)
        self._claims.count_settled(len(runs) - changed)
        if next_due < _NEVER:
            self._claimer.hint(runs[0].partition.number, next_due)

    def _changed(self, run: Run, record: bytes) -> bool:
        """The task was assigned, moved or asked to run now during the run: decides again, on what it is now.

        False if the record cannot be read: the run is refused then.
        """
        assert run.outcome is not None
        try:
            run.outcome = take_change(run, run.outcome, record)
        except Exception as error:  # one record that cannot be read must not hold up the others
            self._claims.tell.unreadable(run.raw_id, error)
            self._claims.refuse(run)
            return False
        self._queue.append(run)
        return True

    def _command(self, chunk: Sequence[Run], settlements: Sequence[Settlement]) -> Command:
        now = self._context.runtime.script_now()
        return calls.settle(chunk[0].partition, now, self._lease_ms, chunk, settlements)

    async def drain(self) -> None:
        """Waits until everything added so far was accepted or refused."""
        self.flush()
        await self._empty.wait()

    def cancel(self) -> None:
        """Gives up the reports that were not accepted so far: the leases of these runs lapse."""
        self._given_up = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self._task is not None:
            self._task.cancel()
