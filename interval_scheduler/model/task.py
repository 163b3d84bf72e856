"""The values users meet: tasks, and what the scheduler tells about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from .errors import InvalidTask
from .retry import Retry

if TYPE_CHECKING:
    from ..core.schedule import Cron

State = Literal["scheduled", "running", "retrying", "dead"]
Misfire = Literal["coalesce", "skip", "all"]
Delivery = Literal["at_least_once", "at_most_once"]


class Task:
    """What the application schedules. Subclass it with properties, plain attributes or as a dataclass.

    `id` and `serialize` are required; everything else has a default:

    - ``id``: a str, the identity of the task: not empty, at most 1,024 bytes of UTF-8. The same id is the same task.
    - ``execute_on``: the first due time: aware datetime, unix seconds, or None for as soon as possible (Cron: next
      match).
    - ``reschedule_interval``: seconds between occurrences (rounded to 1 ms), a timedelta, a `Cron`, or None to run
      once.
    - ``retry``: a `Retry`: how often and when a run that failed is repeated.
    - ``timeout``: seconds (or a timedelta) a run may take; None for as long as it likes.
    - ``misfire``: what becomes of occurrences that were missed: ``"coalesce"`` into one run, ``"skip"`` to the
      latest, or ``"all"``.
    - ``misfire_limit``: the most missed occurrences that ``misfire="all"`` makes up for: the newest ones.
    - ``delivery``: whether a run whose worker died is repeated, ``"at_least_once"``, or kept as a dead letter with
      unknown outcome, ``"at_most_once"``.
    - ``jitter``: seconds (or a timedelta) over which tasks are spread: each id is always late by the same part of it.
    """

    # Type checkers do not see these. Declared as attributes they could not be properties of a subclass, declared as
    # properties they could not be set in its __init__; both are wanted, and assigning checks every value anyway.
    if not TYPE_CHECKING:
        execute_on = None
        reschedule_interval = None
        retry = Retry()
        timeout = None
        misfire = "coalesce"
        misfire_limit = 100
        delivery = "at_least_once"
        jitter = 0

    def serialize(self) -> Any:
        """The payload; the handler gets it back equal.

        Anything msgpack carries exactly: None, bool, int of 64 bits, float, str, bytes, and lists and dicts of these.
        Tuples, which would come back as lists, are refused.
        """
        owner = type(self).__name__
        raise InvalidTask(owner, "serialize()", "is missing", f"define serialize(self) on {owner}")


@dataclass(frozen=True, slots=True)
class ScheduledTask:
    """One task as it is stored right now. Datetimes are aware, in UTC."""

    id: str
    payload: Any
    due: datetime
    """When the pending occurrence is due; for a running task when the live run was due; for a dead one when it died."""
    time_left: float
    """Seconds until `due` by the clock of the task's instance; 0 if it is past."""
    interval: timedelta | Cron | None
    state: State
    attempt: int
    """The number of the run that is live or comes next, 1 for the first; of a dead letter the last that was allowed."""
    last_error: str | None = None
    version: str = ""
    """Changes whenever the task is assigned, moved, asked to run or replaced, not by its runs; "" of a dead letter."""


@dataclass(frozen=True, slots=True)
class DeadTask:
    """A task, or an occurrence of one, that failed more often than its retry policy allows.

    Also one that took down its workers too often, or whose outcome is unknown under ``delivery="at_most_once"``.
    `first` and `last` are when that happened for the first and for the last time (aware, UTC).
    """

    id: str
    payload: Any
    error: str
    """The newest error."""
    count: int
    """How many occurrences of this id ended so."""
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class AssignResult:
    """How many of the assigned tasks were new, and how many existed and were updated."""

    created: int
    updated: int


@dataclass(frozen=True, slots=True)
class PartitionStats:
    """One partition right now; times in seconds. `error` is set, and everything else 0, where it cannot be reached."""

    partition: int
    instance: str
    scheduled: int = 0
    running: int = 0
    retrying: int = 0
    dead: int = 0
    buckets: int = 0
    lateness: float = 0.0
    """How long the oldest waiting task is overdue; 0 if none is."""
    next_due: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """All partitions, and their sums; `lateness` is the largest one, in seconds."""

    partitions: tuple[PartitionStats, ...]
    scheduled: int = field(init=False)
    running: int = field(init=False)
    retrying: int = field(init=False)
    dead: int = field(init=False)
    lateness: float = field(init=False)

    def __post_init__(self) -> None:
        for name in ("scheduled", "running", "retrying", "dead"):
            object.__setattr__(self, name, sum(getattr(partition, name) for partition in self.partitions))
        object.__setattr__(self, "lateness", max((p.lateness for p in self.partitions), default=0.0))


@dataclass(frozen=True, slots=True)
class Event:
    """What the callbacks of ``on()`` get: the name of the event and what belongs to it."""

    name: str
    details: Mapping[str, Any] = field(default_factory=dict)


def to_datetime(milliseconds: int) -> datetime:
    """An aware datetime in UTC."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
