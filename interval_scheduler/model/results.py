"""What the scheduler tells about tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from .schedule import Cron

State = Literal["scheduled", "running", "retrying", "dead"]


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
