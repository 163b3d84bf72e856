"""What both schedulers share, whether their methods block or are coroutines."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .model.errors import InvalidTask, NotAcceptingTasks, SchedulerClosed
from .model.options import Options, check_logger, instance_names, load_options
from .model.retry import Retry
from .model.task import Task
from .model.times import CENTURY_MS, YEAR_MS, parse_duration
from .support.forks import call_in_child, held_back
from .support.text import repr_of

if TYPE_CHECKING:
    from typing import Unpack

    from .model.options import OptionFields, OptionsGiven
    from .support.runtime import Runtime


_IMPORTED_BY_CALLS = (
    *("redis.asyncio.sentinel", "redis.sentinel", "redis.backoff", "hashlib", "importlib.resources", "zoneinfo"),
    *("encodings.ascii", "encodings.idna", "cronsim", "decimal"),
    *(".loop_thread", ".transport.blocking", ".transport.batching"),
)
"""What the first calls would import, one at a time, while other threads may fork."""


class BaseScheduler(ABC):
    """Options, state and callbacks: what `Scheduler` and `AsyncScheduler` share."""

    def __init__(
        self,
        options: OptionsGiven = None,
        logger: Any = None,
        *,
        runtime: Runtime | None = None,
        **fields: Unpack[OptionFields],
    ) -> None:
        """Checks the options. `Scheduler` and `AsyncScheduler` say what may be given."""
        # Imported here, so that importing the package stays quick: most modules come with the first scheduler.
        with held_back:
            from .engine import Engine

            for name in _IMPORTED_BY_CALLS:
                import_module(name, __package__)

        check_logger(logger)
        self._engine = Engine(load_options(options, fields), logger, runtime)
        self._accepting = False
        self._closed = False
        call_in_child(lambda scheduler: scheduler._forked(), self)

    def _forked(self) -> None:
        """Called in a forked child: nothing executes there until it starts that itself."""
        self._engine.forked()

    def __repr__(self) -> str:
        options = self.options
        states = ("closed", self._closed), ("accepting", self._accepting), ("executing", self.executing_tasks)
        state = [name for name, is_so in states if is_so]
        return repr_of(self, repr(options.namespace), instance_names(options.instances), *state)

    @property
    def options(self) -> Options:
        """The options in force."""
        return self._engine.options

    @property
    def accepting_tasks(self) -> bool:
        """Whether tasks can be assigned and removed."""
        return self._accepting

    @property
    def executing_tasks(self) -> bool:
        """Whether this scheduler runs a handler for due tasks."""
        return self._engine.worker is not None

    @property
    def online(self) -> bool:
        """Whether this scheduler has connected and the master instance answers."""
        return self._engine.health.online

    @property
    def concurrency(self) -> int:
        """Most handlers that run at once. It can be changed while they run."""
        # Not that of the worker: it gets a change on its event loop, a moment later.
        return self._engine.options.concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._engine.options = load_options(self._engine.options, {"concurrency": value}, {})
        if self._engine.worker is not None:
            self._set_concurrency(value)

    @abstractmethod
    def _set_concurrency(self, value: int) -> None:
        """Tells the worker, on its event loop."""

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Calls `callback` whenever `event` happens, on the scheduler's event loop (or in a handler's thread).

        For ``online`` and ``offline`` it gets no argument, for ``db-disconnect`` and ``db-reconnect`` the name of the
        instance, for all others an `Event`. A callback must be quick; what it raises is logged.

        Raises:
            InvalidOptions: for an event that does not exist, naming those that do.
        """
        self._engine.events.on(event, callback)

    def _open(self) -> None:
        """Checks that the scheduler is open.

        Raises:
            SchedulerClosed: where it is not.
        """
        if self._closed:
            raise SchedulerClosed

    def _require_accepting(self) -> None:
        """Checks that tasks may be changed.

        Raises:
            SchedulerClosed: where the scheduler was closed.
            NotAcceptingTasks: where it does not accept tasks.
        """
        self._open()
        if not self._accepting:
            raise NotAcceptingTasks


@dataclass(repr=False)
class PostedTask(Task):
    """The one-off task that `post` makes."""

    payload: Any
    id: str
    execute_on: datetime
    retry: Retry

    def serialize(self) -> Any:
        return self.payload


def posted_task(
    payload: Any, delay: float | timedelta, task_id: str | None, max_retries: int | None, runtime: Runtime
) -> PostedTask:
    """A one-off task due `delay` from now by the clock of this machine."""
    milliseconds = parse_duration(delay, "post", "delay", maximum_ms=CENTURY_MS)
    due = datetime.fromtimestamp(runtime.time(), UTC) + timedelta(milliseconds=milliseconds)
    return PostedTask(
        payload, os.urandom(16).hex() if task_id is None else task_id, due, Retry(max_retries=max_retries)
    )


_POST_FIELDS = {"serialize()": "payload", "execute_on": "delay"}


def explain_post(error: InvalidTask) -> None:
    """Makes an error name the arguments of `post`, and not the task that is made of them."""
    owner, field, rule, fix = error.args
    if owner in (PostedTask.__name__, Retry.__name__):
        error.field = _POST_FIELDS.get(field, field)
        error.args = "post", error.field, rule, fix


def token_for(task_id: object, fencing_token: int | None) -> int:
    """The fencing token to confirm a run with: the given one, or that of the handler which calls.

    Raises:
        InvalidTask: where none is given outside the handler of this task.
    """
    if fencing_token is not None:
        return fencing_token
    from .worker.run import run_of  # imported here, because a process without handlers does not need it

    run = run_of(task_id.encode()) if isinstance(task_id, str) else None
    if run is None:
        raise InvalidTask(
            "confirm_task",
            "fencing_token",
            "is missing, and this is not the handler of the task",
            "pass current_execution().fencing_token of the handler on to whoever confirms",
        )
    return run.header.token


def lock_milliseconds(seconds: object, field: str) -> int:
    """How long a lock is held, in ms: 1 ms to a year."""
    return parse_duration(seconds, "lock", field, minimum_ms=1, maximum_ms=YEAR_MS)
