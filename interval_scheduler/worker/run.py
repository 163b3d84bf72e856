"""One live run, and what its handler can learn about it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..commands import Partition
from ..definition import Definition
from ..errors import LeaseLost, SchedulerError
from ..model import Task, to_datetime
from ..record import Header
from ..settlement import Successor


@dataclass(slots=True, eq=False)
class Run:
    """A claimed task in this process. `deadline` is when its lease ends, on the monotonic clock of this machine."""

    partition: Partition
    id: bytes
    raw_header: bytes
    header: Header
    definition: Definition
    slot: int
    due: int
    claimed_at: int
    deadline: float
    was_recurring: bool
    suspect: bool = False
    begun: bool = False
    in_thread: bool = False
    """Whether a thread is in the handler: it goes on though the event loop may have ended."""
    owner: object = None
    """The task or the thread that is in the handler."""
    lost: bool = False
    timed_out: bool = False
    unsure: bool = False
    """Whether a settle of this run was sent and not answered."""
    cancel: Callable[[], object] | None = field(default=None, repr=False)
    """Stops the handler, where it is a coroutine that is under way."""

    successor: Successor | None = None
    """What takes the place of the task if this run ends well."""

    @property
    def key(self) -> tuple[bytes, int]:
        return self.id, self.header.token


class Execution:
    """What a handler can learn about its run: see `current_execution`."""

    __slots__ = ("_extend", "_lease_deadline", "_prepare", "_run")

    def __init__(
        self,
        run: Run,
        lease_deadline: Callable[[Run], datetime],
        extend: Callable[[Run, float | timedelta | None], bool],
        prepare: Callable[[Run, Task], Successor],
    ) -> None:
        self._run = run
        self._prepare = prepare
        self._lease_deadline = lease_deadline
        self._extend = extend

    @property
    def id(self) -> str:
        """The id of the task."""
        return self._run.id.decode()

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
        return self._lease_deadline(self._run)

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
        if self._run.lost or not self._extend(self._run, seconds):
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
        self._run.successor = self._prepare(self._run, task)


_current: contextvars.ContextVar[Execution] = contextvars.ContextVar("interval_scheduler_execution")


def current_execution() -> Execution:
    """The run that the calling handler is in.

    Raises:
        SchedulerError: outside a handler.
    """
    try:
        return _current.get()
    except LookupError:
        raise SchedulerError("current_execution() was called outside a handler: call it inside one.") from None


def execution_of(task_id: bytes) -> Execution | None:
    """The run that the calling handler is in, if it is one of this task."""
    execution: Any = _current.get(None)
    return execution if execution is not None and execution.id.encode() == task_id else None


def running_execution() -> Execution | None:
    """The run whose handler is calling: not one that merely started the task or thread that does."""
    execution = _current.get(None)
    if execution is None:
        return None
    try:
        caller: object = asyncio.current_task() or threading.get_ident()
    except RuntimeError:
        caller = threading.get_ident()
    return execution if execution._run.owner == caller else None


def enter(execution: Execution) -> contextvars.Token[Execution]:
    return _current.set(execution)


def leave(token: contextvars.Token[Execution]) -> None:
    _current.reset(token)
