"""What the scheduler tells about tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from ..support.text import repr_of, short_repr
from .schedule import Cron

State = Literal["scheduled", "running", "retrying", "dead"]


@dataclass(frozen=True, slots=True, repr=False)
class ScheduledTask:
    """One task as it is stored right now. Datetimes are aware, in UTC."""

    id: str
    payload: Any
    due: datetime
    """When the pending occurrence is due; of a running task, when its run was due; of a dead letter, when it failed."""
    time_left: float
    """Seconds until `due` by the clock of the task's instance; 0 if it is past."""
    interval: timedelta | Cron | None
    state: State
    attempt: int
    """The number of the present or next run of the occurrence, from 1; of a dead letter, of its last run."""
    last_error: str | None = None
    version: str = ""
    """Changes when the task is assigned, moved, replaced or asked to run now; not by its runs. "" of a dead letter."""
    problem: str = ""
    """Why this version cannot read what is stored of the task; the other fields but `id` are then as far as known."""

    def __repr__(self) -> str:
        return repr_of(
            self,
            short_repr(self.id, 40),
            self.state,
            f"due {_moment(self.due)}",
            "" if self.interval is None else f"every {self.interval}",
            f"attempt {self.attempt}" if self.attempt != 1 else "",
            f"payload {short_repr(self.payload, 30)}",
            f"error {short_repr(self.last_error, 30)}" if self.last_error else "",
        )


@dataclass(frozen=True, slots=True, repr=False)
class DeadTask:
    """A dead letter: a task, or an occurrence of it, that failed more often than its `Retry` allows.

    Also one that killed its worker too often, or whose outcome is unknown under ``delivery="at_most_once"``.
    `first` and `last` are when that happened for the first and for the last time (aware, UTC).
    """

    id: str
    payload: Any
    error: str
    """The newest error."""
    count: int
    """How many occurrences of this id became dead letters."""
    first: datetime
    last: datetime
    problem: str = ""
    """Why this version cannot read what is stored of it; the other fields but `id` are then as far as known."""

    def __repr__(self) -> str:
        times = f"{self.count} times, last " if self.count > 1 else ""
        return repr_of(
            self,
            short_repr(self.id, 40),
            f"{times}{_moment(self.last)}",
            f"error {short_repr(self.error, 50)}",
            f"payload {short_repr(self.payload, 30)}",
        )


@dataclass(frozen=True, slots=True)
class AssignResult:
    """How many of the assigned tasks were new, and how many existed and were updated."""

    created: int
    updated: int


@dataclass(frozen=True, slots=True, repr=False)
class PartitionStats:
    """One partition right now; times in seconds. If it cannot be reached, `error` says why and all numbers are 0."""

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

    def __repr__(self) -> str:
        place = f"{self.partition} on {short_repr(self.instance, 40)}"
        if self.error is not None:
            return repr_of(self, place, f"error {short_repr(self.error, 70)}")
        next_due = "" if self.next_due is None else f"next due {_moment(self.next_due)}"
        return repr_of(self, place, *_counts(self), next_due)


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        failed = sum(partition.error is not None for partition in self.partitions)
        unreachable = f"{failed} of them unreachable" if failed else ""
        return repr_of(self, f"{len(self.partitions)} partitions", unreachable, *_counts(self))


def _counts(stats: PartitionStats | Stats) -> list[str]:
    """The counts for a repr; lateness only if there is any."""
    counts = [f"{name}={getattr(stats, name)}" for name in ("scheduled", "running", "retrying", "dead")]
    return [*counts, f"lateness={stats.lateness:.3f}"] if stats.lateness else counts


def _moment(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="milliseconds")
