"""What follows a run: the pure decisions of a worker, from a record and an outcome to the next record.

Next occurrences are computed from the grid slot, never from the clock or from a moved time, so that nothing drifts.
What was assigned, rescheduled or asked for while the run was live wins over its outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..model.schedule import Schedule
from .definition import Definition, with_error
from .record import CONFIRMED, EXTRA, RETRYING, RUN_NOW, SCHEDULED, UNCONFIRMED, UNCONFIRMED_LAPSE, Header
from .schedule import latest_slot, missed_slots, next_slot, next_slot_after

MAX_STRIKES = 5
"""Claims of one occurrence that may lapse without a report before it is taken for what kills its workers."""


SUSPECT_STRIKES = 2
"""From so many strikes on a process runs a task alone among its like, so that a killer strikes no innocent one again.
One strike is what every crash gives to everything that ran: those are all taken up again at once, and whoever was
struck along with a killer is freed of suspicion as soon as it has run."""


class End(Enum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    """It counts as an attempt: repeated if the retry policy allows, else a dead letter."""
    ABANDONED = "abandoned"
    """It must not be repeated, whatever the retry policy says: a dead letter."""
    RELEASED = "released"
    """It did not begin, or cannot be handled here: it counts as nothing."""
    UNREAD = "unread"
    """Its record is not for this version to read, nor to decide on: it is put back as it is, for another worker."""
    UNCONFIRMED = "unconfirmed"
    """Its handler returned, and it waits to be confirmed."""


# These are not frozen: a worker makes some for every run, and that would take three times as long. Nobody changes one.
@dataclass(slots=True)
class Successor:
    """What takes the place of a task whose run ended well, because its handler said so. Times in ms."""

    slot: int
    due: int
    revision: str
    body: bytes


@dataclass(slots=True)
class Outcome:
    """The end of a run; `error` for a failed or abandoned one, and the `exception` its handler raised.

    One released for later waits `delay` ms; one whose occurrence is not due yet waits until `due`. A failed one is
    repeated after `pause` ms where its handler said when.
    """

    end: End
    error: str = ""
    delay: int = 0
    due: int = 0
    exception: BaseException | None = None
    pause: int | None = None
    successor: Successor | None = None


@dataclass(slots=True)
class Settlement:
    """What to write: the new header (None: delete the task), the new body and the dead letter where there is one."""

    header: Header | None
    body: bytes = b""
    dead: bytes = b""

    @property
    def what(self) -> str:
        """The name of the event that tells of it."""
        if self.dead:
            return "dead"
        if self.header is not None and self.header.state == RETRYING and self.header.attempt:
            return "retry"
        return "done"


@dataclass(slots=True)
class Start:
    """What to do with a claimed task: run the occurrence of `slot`, due at `due`, or settle it right away."""

    slot: int
    due: int
    outcome: Outcome | None = None


def begin(task_id: str, header: Header, definition: Definition, now: int) -> Start:
    """Decides what a claim means. `now` is the server's time of the claim, in ms."""
    slot, due = header.grid, header.due
    if not (header.flags or header.follow or header.strikes) and definition.misfire == "coalesce" and due <= now:
        return Start(slot, due)
    if CONFIRMED in header.flags:
        return Start(slot, due, Outcome(End.DONE))
    if supersedes(header, slot, definition.schedule is not None):
        # The run that lapsed is over, and what was asked for while it ran wins over its outcome.
        return Start(slot, due, Outcome(End.RELEASED))
    if UNCONFIRMED_LAPSE in header.flags and not definition.retry.allows(header.attempt):
        return Start(slot, due, Outcome(End.ABANDONED, "was not confirmed before its lease ended"))
    if definition.delivery == "at_most_once" and (header.strikes or UNCONFIRMED_LAPSE in header.flags):
        return Start(slot, due, Outcome(End.ABANDONED, "outcome unknown: the run that had begun was not reported"))
    if header.strikes >= MAX_STRIKES:
        return Start(slot, due, Outcome(End.ABANDONED, f"its worker vanished {header.strikes} times while running it"))
    if _misfired(task_id, header, definition, now):
        assert definition.schedule is not None
        if definition.misfire == "skip":
            slot = latest_slot(definition.schedule, slot, now)
        elif definition.misfire == "all":
            slot = missed_slots(definition.schedule, slot, now, definition.misfire_limit)[0]
        if slot != header.grid:
            due = slot + definition.delay(task_id, slot)
    if due > now:
        # A skipped misfire whose jitter ends later.
        return Start(slot, due, Outcome(End.RELEASED, due=due))
    return Start(slot, due)


def _misfired(task_id: str, header: Header, definition: Definition, now: int) -> bool:
    """Whether the following occurrence was already due; never for one that is extra, moved or a repeat."""
    if definition.schedule is None or definition.misfire == "coalesce" or header.attempt or EXTRA in header.flags:
        return False
    if header.due != header.grid + definition.delay(task_id, header.grid):
        return False
    return next_slot(definition.schedule, header.grid) <= now


@dataclass(slots=True, eq=False)
class Live:
    """A live run, as far as it decides what follows. Times are ms of the server's clock."""

    task_id: str
    header: Header
    definition: Definition
    slot: int
    claimed_at: int
    was_recurring: bool
    """Whether the task was recurring when it was claimed; an assignment during the run may have changed that."""


GONE = Settlement(None)
"""Nothing follows: what settles a one-off task that ran well."""


def is_over(header: Header, definition: Definition, outcome: Outcome) -> bool:
    """Whether `settle` comes to `GONE` without more thought, as for nearly every one-off task."""
    return definition.schedule is None and _went_plainly(header, outcome)


def _went_plainly(header: Header, outcome: Outcome) -> bool:
    """Whether a run ended well, and nobody asked for anything else to follow, as for nearly every run."""
    return outcome.end is End.DONE and not (header.flags or header.follow) and outcome.successor is None


def settle(live: Live, outcome: Outcome, now: int, random: float) -> Settlement:
    """What to write at the end of a run. `random`, from [0, 1), spreads retries."""
    header, definition = live.header, live.definition
    if live.was_recurring and definition.schedule is not None and _went_plainly(header, outcome):
        return Settlement(_at(live, _next_slot(live, definition.schedule)), _forgiven(definition))
    if outcome.end is End.UNREAD:
        due = max(header.due, now + outcome.delay)
        return Settlement(header.moved(state=RETRYING, token=0, slot=header.grid, due=due))
    if CONFIRMED in header.flags:
        outcome = Outcome(End.DONE)
    superseded = supersedes(header, live.slot, live.was_recurring and definition.schedule is not None)
    if outcome.end is End.UNCONFIRMED and not superseded:
        return Settlement(header.moved(flags=_without(header.flags, UNCONFIRMED_LAPSE) + UNCONFIRMED))
    if outcome.end is End.RELEASED and not superseded:
        return Settlement(_released(live, outcome, now))
    if outcome.end is End.FAILED and not superseded:
        attempt = header.attempt + 1
        if definition.retry.allows(attempt):
            return _repeated(live, attempt, outcome, now, random)
    dead = b""
    if outcome.end in (End.FAILED, End.ABANDONED) and not superseded:
        dead = with_error(definition, outcome.error)
    successor = None if superseded or EXTRA in header.flags else outcome.successor
    if successor is not None:
        replaced = Header(SCHEDULED, successor.due, successor.revision, 0, successor.slot)
        return Settlement(replaced, successor.body)
    following = _following(live)
    if RUN_NOW in header.flags:
        following = _extra_first(following, header, now)
    return Settlement(following, b"" if following is None else _forgiven(definition), dead)


def supersedes(header: Header, slot: int, recurs: bool) -> bool:
    """Whether what was asked for during a run of `slot` replaces its outcome. `recurs`: the task does, and did before.

    A recurring task that is assigned again for a first time in the past is only updated: nothing in that says to leave
    out an occurrence that was claimed and never begun, or to give up the retries of one that failed.
    """
    kind = header.follow[:1]
    if EXTRA in header.flags or not kind:
        return False
    return kind == ">" or not recurs or (kind == "=" and int(header.follow[1:]) > slot)


def _released(live: Live, outcome: Outcome, now: int) -> Header:
    header = live.header
    flags = _without(header.flags, UNCONFIRMED, UNCONFIRMED_LAPSE)
    if outcome.due:
        return header.moved(state=SCHEDULED, token=0, slot=live.slot, due=outcome.due, flags=flags)
    if header.attempt or header.strikes or outcome.delay:
        due = max(header.due, now + outcome.delay) if outcome.delay else header.due
        return header.moved(state=RETRYING, token=0, slot=header.grid, due=due, flags=flags)
    return header.moved(state=SCHEDULED, token=0, flags=flags)


def _repeated(live: Live, attempt: int, outcome: Outcome, now: int, random: float) -> Settlement:
    header = live.header
    delay = live.definition.retry.delay_ms(attempt, random) if outcome.pause is None else outcome.pause
    if RUN_NOW in header.flags:
        delay = 0
    kept = header.follow if EXTRA in header.flags else ""
    flags = _without(header.flags, RUN_NOW, UNCONFIRMED, UNCONFIRMED_LAPSE)
    again = Header(RETRYING, now + delay, header.revision, 0, live.slot, attempt, 0, flags, kept)
    return Settlement(again, with_error(live.definition, outcome.error))


def _following(live: Live) -> Header | None:
    """The pending occurrence after the run, on its grid unless it was moved; None where nothing follows."""
    header, definition = live.header, live.definition
    if EXTRA in header.flags:
        return Header(SCHEDULED, int(header.follow), header.revision, 0, header.grid)
    kind, time = header.follow[:1], int(header.follow[1:] or 0)
    schedule = definition.schedule
    continues = live.was_recurring and schedule is not None
    if kind == "=" and not (continues and time <= live.slot):
        return _at(live, time)
    if kind == "~" and not continues:
        return _at(live, time)
    if schedule is None:
        return Header(SCHEDULED, time, header.revision, 0, time) if kind == ">" else None
    slot = _next_slot(live, schedule)
    if kind == ">":
        return Header(SCHEDULED, time, header.revision, 0, slot)
    return _at(live, slot)


def _next_slot(live: Live, schedule: Schedule) -> int:
    # One catch-up run makes up for everything that was due when it was claimed.
    reference = live.claimed_at if live.definition.misfire == "coalesce" else live.slot
    return next_slot_after(schedule, live.slot, reference)


def _forgiven(definition: Definition) -> bytes:
    """The body that leaves out the error of a task whose trouble is over; empty where there is none."""
    return with_error(definition, None) if definition.error else b""


def _at(live: Live, slot: int) -> Header:
    due = slot + live.definition.delay(live.task_id, slot)
    return Header(SCHEDULED, due, live.header.revision, 0, slot)


def _extra_first(following: Header | None, header: Header, now: int) -> Header:
    """An extra run, due now, before what follows."""
    if following is None:
        return Header(SCHEDULED, now, header.revision, 0, now)
    if following.due <= now:
        return following
    return following.moved(due=now, slot=following.grid, flags=EXTRA, follow=str(following.due))


def _without(flags: str, *gone: str) -> str:
    return "".join(flag for flag in flags if flag not in gone)
