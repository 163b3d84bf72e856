"""What a claim means and what follows a run: a worker's decisions, from a record and an outcome to the next record.

There are two: `decide_claim` when a task was claimed, and `settle` when its run has ended. Both are pure.

Next occurrences are computed from the grid slot, never from the clock or from a moved time, so that nothing drifts.
A change that was asked for while the run was live (assign, reschedule, run now) wins over the outcome of the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..model.schedule import Schedule
from .definition import Definition, with_error
from .record import CONFIRMED, EXTRA, RETRYING, RUN_NOW, SCHEDULED, UNCONFIRMED, UNCONFIRMED_LAPSE, Header
from .schedule import latest_slot, missed_slots, next_slot, next_slot_after

MAX_STRIKES = 5
"""After so many strikes (claims of one occurrence that lapsed without a report) the task counts as one that kills its
workers: the occurrence becomes a dead letter."""
SUSPECT_STRIKES = 2
"""A task with so many strikes is a suspect: a process runs only one suspect at a time, so that a task that kills its
worker does not give further strikes to innocent ones. One strike is not enough: a crash gives one to every task that
ran in the process, and those are all run again at once. A run that is reported clears the strikes of its task."""


class End(Enum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    """It counts as an attempt: it is repeated if the retry policy allows that, else it becomes a dead letter."""
    ABANDONED = "abandoned"
    """It must not be repeated, whatever the retry policy says: it becomes a dead letter."""
    RELEASED = "released"
    """It did not start, or this worker cannot handle it: it counts neither as a success nor as an attempt."""
    UNREADABLE = "unreadable"
    """This version cannot read its record: it is put back unchanged, for a worker of another version."""
    UNCONFIRMED = "unconfirmed"
    """Its handler returned under ``confirm="manual"``: it waits for `confirm_task`."""


# These are not frozen: a worker makes some for every run, and that would take three times as long. Nobody changes one.
@dataclass(slots=True)
class Successor:
    """What replaces a task whose run ended well: the handler asked for it by `continue_as`. Times in ms."""

    slot: int
    due: int
    revision: str
    body: bytes


@dataclass(slots=True)
class Outcome:
    """How a run ended, and what came with it. Times in ms."""

    end: End
    error: str = ""
    """The error text of a failed or abandoned run."""
    delay: int = 0
    """How long a released or unreadable run waits before it can be claimed again."""
    due: int = 0
    """When a released run is due, where its occurrence is not due yet; 0 where it is."""
    exception: BaseException | None = None
    """What the handler raised."""
    pause: int | None = None
    """How long a failed run waits for its retry, where its handler said so (`RetryAfter`); None: as `Retry` says."""
    successor: Successor | None = None
    """What replaces the task, where the handler called `continue_as`."""


@dataclass(slots=True)
class Settlement:
    """What to write at the end of a run."""

    header: Header | None
    """The next header; None deletes the task."""
    body: bytes = b""
    """The next body; empty keeps the present one."""
    dead: bytes = b""
    """The body of the dead letter; empty where there is none."""

    @property
    def event(self) -> str:
        """Which event tells of it: ``task-`` and this word."""
        if self.dead:
            return "dead"
        if self.header is not None and self.header.state == RETRYING and self.header.attempt:
            return "retry"
        return "done"


@dataclass(slots=True)
class ClaimDecision:
    """What a claim means: run the occurrence of `slot`, which was due at `due`, or settle it without a run.

    `outcome` is None for a run; else it is what the claim is settled with.
    """

    slot: int
    due: int
    outcome: Outcome | None = None


def decide_claim(task_id: str, header: Header, definition: Definition, now: int) -> ClaimDecision:
    """Decides whether a claimed task runs, and for which occurrence. `now`: the server's time of the claim, in ms."""
    slot, due = header.grid, header.due
    if not (header.flags or header.follow or header.strikes) and definition.misfire == "coalesce" and due <= now:
        return ClaimDecision(slot, due)  # nearly every claim
    outcome = _outcome_without_run(header, definition)
    if outcome is not None:
        return ClaimDecision(slot, due, outcome)
    if _misfired(task_id, header, definition, now):
        assert definition.schedule is not None
        if definition.misfire == "skip":
            slot = latest_slot(definition.schedule, slot, now)
        elif definition.misfire == "all":
            slot = missed_slots(definition.schedule, slot, now, definition.misfire_limit)[0]
        if slot != header.grid:
            due = slot + definition.delay(task_id, slot)
    if due > now:
        # Missed occurrences were skipped, and the jitter of the latest one has not passed yet.
        return ClaimDecision(slot, due, Outcome(End.RELEASED, due=due))
    return ClaimDecision(slot, due)


def _outcome_without_run(header: Header, definition: Definition) -> Outcome | None:
    """The outcome of a claim that must not run, because of the run before, whose lease lapsed; None where it may."""
    if CONFIRMED in header.flags:
        return Outcome(End.DONE)
    if change_wins(header, header.grid, definition.schedule is not None):
        return Outcome(End.RELEASED)
    if UNCONFIRMED_LAPSE in header.flags and not definition.retry.allows(header.attempt):
        return Outcome(End.ABANDONED, "was not confirmed before its lease ended")
    if definition.delivery == "at_most_once" and (header.strikes or UNCONFIRMED_LAPSE in header.flags):
        return Outcome(End.ABANDONED, "outcome unknown: a run had started and was not reported")
    if header.strikes >= MAX_STRIKES:
        return Outcome(End.ABANDONED, f"its worker vanished {header.strikes} times while it ran")
    return None


def _misfired(task_id: str, header: Header, definition: Definition, now: int) -> bool:
    """Whether the following occurrence is already due. Extra runs, moved occurrences and retries never misfire."""
    if definition.schedule is None or definition.misfire == "coalesce" or header.attempt or EXTRA in header.flags:
        return False
    if header.due != header.grid + definition.delay(task_id, header.grid):
        return False
    return next_slot(definition.schedule, header.grid) <= now


@dataclass(slots=True, eq=False)
class LiveRun:
    """What is known of a live run and decides what follows it. Times are ms of the server's clock."""

    task_id: str
    header: Header
    definition: Definition
    slot: int
    claimed_at: int
    was_recurring: bool
    """Whether the task was recurring when it was claimed. `definition` tells whether it is now: it may have been
    assigned again during the run."""


NOTHING_FOLLOWS = Settlement(None)
"""The settlement of a one-off task that ran well: the task is deleted."""


def nothing_follows(header: Header, definition: Definition, outcome: Outcome) -> bool:
    """Whether a run is settled by `NOTHING_FOLLOWS`: a quick test, true for nearly every one-off task."""
    return definition.schedule is None and _is_plain_success(header, outcome)


def _is_plain_success(header: Header, outcome: Outcome) -> bool:
    """Whether a run ended well and no change was asked for meanwhile, as for nearly every run."""
    return outcome.end is End.DONE and not (header.flags or header.follow) and outcome.successor is None


def settle(live: LiveRun, outcome: Outcome, now: int, random: float) -> Settlement:
    """Decides what is written at the end of a run. `now`: server time in ms; `random`, in [0, 1), spreads retries."""
    header, definition = live.header, live.definition
    if live.was_recurring and definition.schedule is not None and _is_plain_success(header, outcome):
        return Settlement(_scheduled_at(live, _next_slot(live, definition.schedule)), _body_without_error(definition))
    settlement = _settle_otherwise(live, outcome, now, random)
    if header.rest and settlement.header is not None:
        settlement.header.rest = header.rest
    return settlement


def _settle_otherwise(live: LiveRun, outcome: Outcome, now: int, random: float) -> Settlement:
    """`settle` for all but the plain success of a recurring task."""
    header, definition = live.header, live.definition
    if outcome.end is End.UNREADABLE:
        due = max(header.due, now + outcome.delay)
        return Settlement(header.moved(state=RETRYING, token=0, slot=header.grid, due=due))
    if CONFIRMED in header.flags:
        outcome = Outcome(End.DONE)
    superseded = change_wins(header, live.slot, live.was_recurring and definition.schedule is not None)
    if outcome.end is End.UNCONFIRMED and not superseded:
        return Settlement(header.moved(flags=_without(header.flags, UNCONFIRMED_LAPSE) + UNCONFIRMED))
    if outcome.end is End.RELEASED and not superseded:
        return Settlement(_release(live, outcome, now))
    if outcome.end is End.FAILED and not superseded:
        attempt = header.attempt + 1
        if definition.retry.allows(attempt):
            return _retry_later(live, attempt, outcome, now, random)
    dead = b""
    if outcome.end in (End.FAILED, End.ABANDONED) and not superseded:
        dead = with_error(definition, outcome.error)
    successor = None if superseded or EXTRA in header.flags else outcome.successor
    if successor is not None:
        replaced = Header(SCHEDULED, successor.due, successor.revision, 0, successor.slot)
        return Settlement(replaced, successor.body)
    following = _next_occurrence(live)
    if RUN_NOW in header.flags:
        following = _extra_run_first(following, header, now)
    return Settlement(following, b"" if following is None else _body_without_error(definition), dead)


def given_up(live: LiveRun, error: str) -> Settlement:
    """The settlement of a run after which nothing can be decided: the task ends as a dead letter."""
    try:
        return Settlement(None, dead=with_error(live.definition, error))
    except Exception:  # its body is damaged too: the record stays, for a repair or another version
        return Settlement(live.header.moved(state=RETRYING, token=0, slot=live.header.grid))


def change_wins(header: Header, slot: int, recurs: bool) -> bool:
    """Whether a change that was asked for during a run of `slot` (assign, reschedule) wins over the run's outcome.

    `recurs`: the task is recurring, and was when it was claimed. If such a task is assigned again with a first time in
    the past, only its definition changes: a claimed occurrence that did not start still runs, and one that failed keeps
    its retries.
    """
    kind = header.follow[:1]
    if EXTRA in header.flags or not kind:
        return False
    return kind == ">" or not recurs or (kind == "=" and int(header.follow[1:]) > slot)


def _release(live: LiveRun, outcome: Outcome, now: int) -> Header:
    """The header of an occurrence that is put back: attempts and strikes stay as they are."""
    header = live.header
    flags = _without(header.flags, UNCONFIRMED, UNCONFIRMED_LAPSE)
    if outcome.due:
        return header.moved(state=SCHEDULED, token=0, slot=live.slot, due=outcome.due, flags=flags)
    if header.attempt or header.strikes or outcome.delay:
        due = max(header.due, now + outcome.delay) if outcome.delay else header.due
        return header.moved(state=RETRYING, token=0, slot=header.grid, due=due, flags=flags)
    return header.moved(state=SCHEDULED, token=0, flags=flags)


def _retry_later(live: LiveRun, attempt: int, outcome: Outcome, now: int, random: float) -> Settlement:
    """The same occurrence after its pause; at once where an extra run was asked for meanwhile."""
    header = live.header
    delay = live.definition.retry.delay_ms(attempt, random) if outcome.pause is None else outcome.pause
    if RUN_NOW in header.flags:
        delay = 0
    kept = header.follow if EXTRA in header.flags else ""
    flags = _without(header.flags, RUN_NOW, UNCONFIRMED, UNCONFIRMED_LAPSE)
    again = Header(RETRYING, now + delay, header.revision, 0, live.slot, attempt, 0, flags, kept)
    return Settlement(again, with_error(live.definition, outcome.error))


def _next_occurrence(live: LiveRun) -> Header | None:
    """The occurrence after the run, on the grid unless it was moved; None where nothing follows."""
    header, definition = live.header, live.definition
    if EXTRA in header.flags:
        return Header(SCHEDULED, int(header.follow), header.revision, 0, header.grid)
    kind, time = header.follow[:1], int(header.follow[1:] or 0)
    schedule = definition.schedule
    continues = live.was_recurring and schedule is not None
    if kind == "=" and not (continues and time <= live.slot):
        return _scheduled_at(live, time)
    if kind == "~" and not continues:
        return _scheduled_at(live, time)
    if schedule is None:
        return Header(SCHEDULED, time, header.revision, 0, time) if kind == ">" else None
    slot = _next_slot(live, schedule)
    if kind == ">":
        return Header(SCHEDULED, time, header.revision, 0, slot)
    return _scheduled_at(live, slot)


def _next_slot(live: LiveRun, schedule: Schedule) -> int:
    # With "coalesce", one run stands for all occurrences that were due when it was claimed.
    reference = live.claimed_at if live.definition.misfire == "coalesce" else live.slot
    return next_slot_after(schedule, live.slot, reference)


def _body_without_error(definition: Definition) -> bytes:
    """The body of a task that ran well again: without its newest error. Empty (keep the body) where it has none."""
    return with_error(definition, None) if definition.error else b""


def _scheduled_at(live: LiveRun, slot: int) -> Header:
    """The header of the occurrence of `slot`, due after its jitter."""
    due = slot + live.definition.delay(live.task_id, slot)
    return Header(SCHEDULED, due, live.header.revision, 0, slot, 0, 0, "", "", live.header.rest)


def _extra_run_first(following: Header | None, header: Header, now: int) -> Header:
    """An extra run that is due now; the occurrence that was to follow the run comes after it."""
    if following is None:
        return Header(SCHEDULED, now, header.revision, 0, now)
    if following.due <= now:
        return following
    return following.moved(due=now, slot=following.grid, flags=EXTRA, follow=str(following.due))


def _without(flags: str, *removed: str) -> str:
    return "".join(flag for flag in flags if flag not in removed)
