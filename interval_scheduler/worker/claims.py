"""Claims: makes runs of the records that were claimed, starts them, and follows each until its end is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core.definition import UNREADABLE, decode_body
from ..core.record import Header, parse_header, split_record
from ..core.settlement import SUSPECT_STRIKES, ClaimDecision, End, Outcome, Settlement, decide_claim
from ..model.errors import CorruptRecord
from ..protocol.commands import Partition, pairs
from .context import Context
from .handlers import Handler
from .run import Host, Run
from .run_events import RunEvents
from .runners import CANCELLED, make_runner
from .settler import Settler
from .slots import Slots
from .zone_watch import ZoneWatch

_RELEASE_DELAY_MS = 2000
"""How long a task that this worker cannot handle waits for one that can."""


class Claims:
    """All runs of a worker, from the claim until somebody has accepted or refused their end."""

    def __init__(
        self,
        context: Context,
        slots: Slots,
        handler: Handler,
        host: Host,
        zones: ZoneWatch | None = None,
        *,
        confirmed_by_hand: bool,
    ) -> None:
        self._context = context
        self._slots = slots
        self._host = host
        self._zones = zones
        self._confirmed_by_hand = confirmed_by_hand
        self._runs: set[Run] = set()
        self.tell = RunEvents(context.events, context.log)
        self.handler_begins = self.tell.start
        """A handler is about to begin. Called in its thread, where it has one."""
        self.runner = make_runner(handler, self, threads=context.runtime.threads)
        self.settlers: dict[str, Settler] = {}
        """Who reports the ends of runs, by instance. Filled by the worker."""

    def __contains__(self, run: object) -> bool:
        return run in self._runs

    def leased(self) -> set[Run]:
        """The runs whose leases have to be kept. Called in the threads of the lease keepers."""
        runs = self._runs.copy()
        # Where the loop has ended, nobody is left to finish or to report a run, but for a thread that is still in it.
        return runs if self._context.loop.is_running() else {run for run in runs if run.in_thread}

    # -- from records to runs ----------------------------------------------------------------------------------------

    def take(self, partition: Partition, entries: Sequence[bytes], now_ms: int, deadline: float) -> None:
        """Starts what one claim brought, on slots that were reserved for it.

        `entries` are ids and records in turn. `now_ms` is when they were claimed by the clock of the server, `deadline`
        when their leases end on the monotonic clock here.
        """
        self._slots.occupy(len(entries) // 2)
        token = 0
        for task_id, record in pairs(entries):
            run = self._read(partition, task_id, record, now_ms, deadline)
            if run is None:
                self._slots.free()
            else:
                token = run.header.token
                self._runs.add(run)
                if run.outcome is None and not (run.suspect or self._context.stopping):
                    self.runner.submit(run)  # as nearly all
                else:
                    self._start_or_end(run)
        if token and self._context.loss_detector is not None:
            self._context.loss_detector.learn_token(partition.number, token)

    def _read(self, partition: Partition, task_id: bytes, record: bytes, now_ms: int, deadline: float) -> Run | None:
        """Makes a run of a record. It has an outcome already if its handler shall not be called.

        None for a header that this version cannot read: it has no token to settle with, so its lease lapses.
        """
        raw, body = split_record(record)
        try:
            header = parse_header(raw)
        except CorruptRecord as error:
            self.tell.unreadable(task_id, error)
            return None
        try:
            name = task_id.decode()
            definition = decode_body(body)
            decision = decide_claim(name, header, definition, now_ms)
        except Exception as error:  # whatever is wrong with one record, the others of its claim go on
            self.tell.unreadable(task_id, error)
            if self._zones is not None:
                self._zones.unreadable(error)
            name = task_id.decode("utf-8", "backslashreplace")
            definition, decision = UNREADABLE, _put_back(header)
        run = Run(
            name,
            header,
            definition,
            decision.slot,
            now_ms,
            definition.schedule is not None,
            self._host,
            partition,
            task_id,
            raw,
            decision.due,
            deadline,
            header.strikes >= SUSPECT_STRIKES,
        )
        run.outcome = decision.outcome
        return run

    def _start_or_end(self, run: Run) -> None:
        if run.outcome is not None:
            self.finish(run, run.outcome)
        elif self._context.stopping:
            self.finish(run, Outcome(End.RELEASED))
        elif not self._slots.takes_suspects:
            self.finish(run, Outcome(End.RELEASED, delay=_RELEASE_DELAY_MS))
        else:
            self._slots.keep_suspect(run)
            self.runner.submit(run)

    def release_waiting(self) -> None:
        """Gives the runs back whose handlers have not begun."""
        for run in self.runner.withdraw():
            self.finish(run, Outcome(End.RELEASED))

    # -- what the runner tells ---------------------------------------------------------------------------------------

    def handler_ended(self, run: Run, outcome: Outcome) -> None:
        """A handler has ended, or its run was too late to begin."""
        if outcome is CANCELLED and self._context.is_loop_ending:
            # The end of a loop cancels all its tasks, the worker's own too: a shutdown, which costs no attempt. A
            # handler that cancels itself fails, or it would be released, and run again, for ever.
            outcome = Outcome(End.RELEASED)
        if self._confirmed_by_hand and outcome.end is End.DONE:
            outcome = Outcome(End.UNCONFIRMED)
        if outcome.end is End.DONE and run.successor is not None:
            outcome = replace(outcome, successor=run.successor)
        if outcome.end is End.FAILED:
            self.tell.failure(run, outcome)
        self.finish(run, outcome)

    def finish(self, run: Run, outcome: Outcome) -> None:
        """Frees the slot of a run. Its end is reported in the background."""
        run.outcome = outcome
        self._slots.end(run)
        if run.lost:
            self.refuse(run)
            self._slots.settle()
        else:
            self.settlers[run.partition.instance].add(run)

    # -- what settlers and lease keepers tell ------------------------------------------------------------------------

    def settle(self, run: Run, settlement: Settlement) -> None:
        """The end of a run was reported and accepted."""
        self._runs.discard(run)
        self.tell.settlement(run, settlement)

    def refuse(self, run: Run) -> None:
        """The end of a run was refused, or need not be reported because its lease is lost."""
        self._runs.discard(run)
        self.tell.refusal(run)

    def count_settled(self, count: int) -> None:
        """The ends of `count` runs were accepted or refused."""
        self._slots.settle(count)

    def lose_lease(self, run: Run) -> None:
        """A lease was lost: a coroutine is cancelled, a plain function can ask `lease_lost`. Called in any thread."""
        if run.owner is not None and not run.in_thread:
            self._context.loop.call_soon_threadsafe(run.cancel)


def _put_back(header: Header) -> ClaimDecision:
    """What becomes of a task whose body this version cannot read: another worker may, as in a rolling deploy."""
    return ClaimDecision(header.grid, header.due, Outcome(End.UNREADABLE, delay=_RELEASE_DELAY_MS))
