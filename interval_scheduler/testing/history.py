"""What was observed in a run: the values that the judge judges.

The simulation writes them in virtual time, the tests of real processes read them from journals. Times are seconds of
the run's own clock (virtual seconds, or unix seconds of the machine); due times and intervals are unix ms of servers.

One word, one meaning: an *assignment* is an acknowledged call that promises runs; an *occurrence* is a due time; a
*run* is a handler's run; a *report* tells a server how a run ended; a *lease* is the time until which a run owns its
task; a *loss window* is the time whose writes a server forgot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

ASSIGN = "assign"
REMOVALS = ("remove", "clear")


@dataclass(slots=True)
class Call:
    """One call of a producer. `outcome`: "ok", "failed" (nothing was written) or "unknown"."""

    operation: str
    id: str
    version: int = 0
    start: float = 0.0
    end: float = inf
    outcome: str = "unknown"
    due: int | None = None
    interval: int | None = None
    misfire: str = "coalesce"
    process: str = ""
    server: str = ""
    """The instance that holds the task; empty where the observer does not know it."""

    @property
    def assigns(self) -> bool:
        """Whether it may have written an assignment."""
        return self.operation == ASSIGN and self.outcome != "failed"

    @property
    def removes(self) -> bool:
        """Whether it may have removed the task."""
        return self.operation in REMOVALS and self.outcome != "failed"


@dataclass(slots=True)
class Run:
    """One run of a handler. `lease` is the last deadline it knew of while it owned its task.

    `end` is None while it runs, and where its process died; `how` is "done", "failed", "cancelled" or "live".
    """

    id: str
    version: int
    due: int
    token: int
    attempt: int
    partition: int
    process: str
    start: float
    lease: float
    end: float | None = None
    how: str = "live"
    server: str = ""
    server_ms: int | None = None
    """The clock of its server at the start; None where it is the clock of the run's times."""
    follows: str = ""
    """What has to follow a hostile deed (see `hostility`); empty where the handler did none."""

    @property
    def started_ms(self) -> float:
        """When it started, by the clock that decides what is due."""
        return self.start * 1000 if self.server_ms is None else self.server_ms


@dataclass(frozen=True, slots=True)
class LossWindow:
    """The time whose writes a server forgot, or may have forgotten. An empty `server` is any of them."""

    server: str
    since: float
    until: float

    def overlaps(self, server: str, start: float, end: float) -> bool:
        """Whether something that a server did within a time may be forgotten. An empty name is any server."""
        return (not server or self.server in ("", server)) and self.since <= end and start <= self.until


@dataclass(frozen=True, slots=True)
class Stop:
    """A process stood still, or died where `until` is infinite."""

    process: str
    since: float
    until: float = inf


@dataclass(frozen=True, slots=True)
class ClockStep:
    """A server's clock jumped by so many seconds."""

    server: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Notice:
    """A scheduler told of lost data, by the event "data-loss"."""

    server: str
    at: float


@dataclass(frozen=True, slots=True)
class Jump:
    """A worker told of a jump of a server's clock, by the event "clock-jump". `seconds` is negative for one back."""

    process: str
    server: str
    at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a task at the end: which version, and for how many seconds it has been waiting though due."""

    version: float
    overdue: float = 0.0
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A server gave out a task. `scheduled_due` is the time of its schedule; `extra` is a run besides the schedule."""

    server: str
    partition: bytes
    at: float
    id: str
    token: int
    scheduled_due: int
    claimed_ms: int
    extra: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """A server accepted how a run ended.

    `is_last`: no further attempt of this occurrence follows. `next_due` is the time of the schedule at which the task
    goes on, None where it ended.
    """

    server: str
    at: float
    id: str
    token: int
    is_last: bool
    next_due: int | None
    retries: int = 0
    """The attempts so far, where the occurrence is repeated."""
    is_dead: bool = False
    """Whether the occurrence became a dead letter."""


@dataclass
class History:
    """Everything that was observed.

    `server_log` is what servers did, in its order; only the simulation sees it. `remaining` is what is left at the end,
    by task id. `failures` are answers that no server may ever give.
    """

    calls: list[Call] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    losses: list[LossWindow] = field(default_factory=list)
    steps: list[ClockStep] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    jumps: list[Jump] = field(default_factory=list)
    remaining: dict[str, Remaining] = field(default_factory=dict)
    server_log: list[Claim | Report | LossWindow] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def may_have_lost(self, server: str, start: float, end: float = inf) -> bool:
        """Whether a server may have forgotten what it did within a time. An empty name is any server."""
        return any(loss.overlaps(server, start, end) for loss in self.losses)

    def died_at(self, process: str) -> float:
        """When a process died; infinite where it lives."""
        return min((stop.since for stop in self.stops if stop.process == process and stop.until == inf), default=inf)

    def stood_still(self, run: Run, until: float) -> bool:
        """Whether the process of a run died or was stopped after the claim and before a time."""
        return any(
            stop.process == run.process and stop.since <= until and stop.until >= run.start - 1 for stop in self.stops
        )

    def stepped(self, server: str, start: float, end: float) -> Iterable[float]:
        """By how many seconds a server's clock jumped within a time, one by one."""
        return (step.seconds for step in self.steps if step.server == server and start <= step.at <= end)
