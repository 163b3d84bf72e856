"""One live run, and what its handler can learn about it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from ..core.settlement import LiveRun, Outcome, Successor
from ..model.errors import LeaseLost, SchedulerError
from ..model.task import Task
from ..model.times import to_datetime
from ..protocol.commands import Partition
from ..support.text import repr_of, short_repr


class Host(Protocol):
    """What a handler asks of the worker that runs it, from whatever thread."""

    def lease_deadline(self, run: Run) -> datetime:
        """When the lease of a run ends, by the clock of this machine."""
        ...

    def extend(self, run: Run, seconds: float | timedelta | None) -> bool:
        """Renews a lease at once. False if it is lost."""
        ...

    def successor(self, run: Run, task: Task) -> Successor:
        """Checks and encodes the task that shall follow a run."""
        ...


@dataclass(slots=True, eq=False)
class Run(LiveRun):
    """A claimed task in this process. `deadline` is when its lease ends, on the monotonic clock of this machine.

    It is the only object that is made for a run. Each further one would take time to make and to free, and the garbage
    collector would look at it in between.
    """

    host: Host
    partition: Partition
    raw_id: bytes
    raw_header: bytes
    due: int
    deadline: float
    suspect: bool = False
    owner: asyncio.Task[None] | int | None = None
    """The task or the thread that is in the handler."""
    lost: bool = False
    timed_out: bool = False
    should_have_ended: float | None = None
    """From when on it is to be told that the handler goes on after its timeout; None where there is nothing to tell."""
    cancellations: int = 0
    """How often the asyncio task was cancelled because of this run. Other cancellations mean the task itself."""
    successor: Successor | None = None
    """What replaces the task if this run ends well (`continue_as`)."""
    outcome: Outcome | None = None
    """How the run ended; None until then."""
    unsure: bool = False
    """Whether the end of this run was reported and no answer came."""

    @property
    def in_thread(self) -> bool:
        """Whether a thread is in the handler. A thread goes on even if the event loop has ended."""
        return isinstance(self.owner, int)

    def cancel(self) -> None:
        """Cancels the handler if it is a coroutine that runs. Must be called on the loop."""
        if self.owner is not None and not isinstance(self.owner, int):
            self.cancellations += 1
            self.owner.cancel()


class Execution:
    """What a handler can learn about its run: see `current_execution`."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Execution) and other._run is self._run

    def __hash__(self) -> int:
        return hash(self._run)

    def __repr__(self) -> str:
        due = f"due {self.due.isoformat(sep=' ', timespec='milliseconds')}"
        lost = "lease lost" if self.lease_lost else ""
        return repr_of(
            self, short_repr(self.id), due, f"attempt {self.attempt}", f"fencing_token={self.fencing_token}", lost
        )

    @property
    def id(self) -> str:
        """The id of the task."""
        return self._run.task_id

    @property
    def due(self) -> datetime:
        """When this occurrence was due (aware, UTC)."""
        return to_datetime(self._run.due)

    @property
    def slot(self) -> datetime:
        """The place of this occurrence on the grid (aware, UTC): the same in all its attempts, wherever it is moved."""
        return to_datetime(self._run.slot)

    @property
    def attempt(self) -> int:
        """1 for the first run of an occurrence, 2 for its first retry, and so on."""
        return self._run.header.attempt + 1

    @property
    def fencing_token(self) -> int:
        """Larger for every run of a task: let what the handler writes to refuse smaller ones."""
        return self._run.header.token

    @property
    def partition(self) -> int:
        """The number of the task's partition."""
        return self._run.partition.number

    @property
    def lease_deadline(self) -> datetime:
        """Until when this run owns its task for certain (aware, UTC, by the clock of this machine)."""
        return self._run.host.lease_deadline(self._run)

    @property
    def lease_lost(self) -> bool:
        """Whether the run was told that it does not own its task any more. Its outcome will be dropped: stop."""
        return self._run.lost

    def extend(self, seconds: float | timedelta | None = None) -> None:
        """Makes the lease last at least `seconds` (default: the ``lease_seconds`` option) from now, at most a week.

        Only needed to make sure right now: leases of running handlers are renewed anyway. Blocks for one round trip.

        Raises:
            InvalidTask: for what is no duration.
            LeaseLost: where the run does not own its task any more.
            PartitionUnavailable: where the instance cannot be reached.
        """
        if self._run.lost or not self._run.host.extend(self._run, seconds):
            raise LeaseLost(
                f"the run of {self.id!r} with token {self.fencing_token} lost its lease, or its task was removed; "
                "stop working on it: its outcome is dropped"
            )

    def continue_as(self, task: Task) -> None:
        """Makes `task`, of the same id, what follows this run if it ends well: payload, time, interval and options.

        It is written in the very step that ends the run, and only if the run still owns its task. What was assigned,
        moved or removed while the run was live wins over it; an extra run (``run_task_now``) is followed by the pending
        occurrence, as it is. Called again, the newest one counts.

        Raises:
            InvalidTask: for a task of another id, or one that could not be assigned either.
            SchedulerError: where runs are confirmed by hand.
        """
        self._run.successor = self._run.host.successor(self._run, task)


_current: contextvars.ContextVar[Run] = contextvars.ContextVar("interval_scheduler_run")


def current_execution() -> Execution:
    """The run that the calling handler is in.

    Raises:
        SchedulerError: outside a handler.
    """
    try:
        return Execution(_current.get())
    except LookupError:
        raise SchedulerError("current_execution() was called outside a handler: call it inside one.") from None


def run_of(task_id: bytes) -> Run | None:
    """The run that the calling handler is in, if it is one of this task."""
    run = _current.get(None)
    return run if run is not None and run.raw_id == task_id else None


def calling_run() -> Run | None:
    """The run whose handler is calling: not one that merely started the task or thread that does."""
    run = _current.get(None)
    if run is None:
        return None
    try:
        caller: object = asyncio.current_task() or threading.get_ident()
    except RuntimeError:
        caller = threading.get_ident()
    return run if run.owner == caller else None


enter = _current.set
"""`enter(run)`: from now on this is the run that the present context is in."""
