"""What both schedulers are, whether their methods block or are coroutines."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .model.errors import InvalidTask, NotAcceptingTasks, SchedulerClosed
from .model.options import Options, check_logger, load_options
from .model.retry import Retry
from .model.task import Task
from .model.times import CENTURY_MS, YEAR_MS, parse_duration

if TYPE_CHECKING:
    from .support.runtime import Runtime


class BaseScheduler(ABC):
    """Options, state and callbacks. See `Scheduler` and `AsyncScheduler`."""

    def __init__(
        self, options: Any = None, logger: Any = None, *, runtime: Runtime | None = None, **fields: Any
    ) -> None:
        """Checks the options; nothing is connected yet.

        Args:
            options: nothing (``redis://localhost:6379/0``), a URL, a list of URLs or mappings, a nested mapping
                ``{"namespace": …, "storage": {"instances": […]}}``, or an `Options` value.
            logger: a structlog or standard library logger, or an object with their methods; structlog's by default.
            runtime: only for tests and simulations.
            **fields: single options by name, on top of `options`, such as ``namespace="shop"``.

        Raises:
            InvalidOptions: naming every wrong field, and what is allowed.
        """
        # Most of what a scheduler consists of comes with the first one, so that importing the names stays quick.
        from .engine import Engine

        check_logger(logger)
        self._engine = Engine(load_options(options, fields), logger, runtime)
        self._accepting = False
        self._closed = False

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
        """Whether a handler is run for due tasks here."""
        return self._engine.worker is not None

    @property
    def online(self) -> bool:
        """Whether the topology was read and the master instance answers."""
        return self._engine.health.online

    @property
    def concurrency(self) -> int:
        """Most handlers running at once; may be changed while they run."""
        # Not the worker's, which learns of a change on its event loop, a moment later.
        return self._engine.options.concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._engine.options = load_options(self._engine.options, {"concurrency": value}, {})
        if self._engine.worker is not None:
            self._set_concurrency(value)

    @abstractmethod
    def _set_concurrency(self, value: int) -> None:
        """Tells the worker, where its event loop is."""

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Calls `callback` whenever `event` happens, on the scheduler's event loop (or in a handler's thread).

        ``online`` and ``offline`` come without arguments, ``db-disconnect`` and ``db-reconnect`` with the name of the
        instance, all others with an `Event`. A callback must be quick; what it raises is logged.

        Raises:
            InvalidOptions: for an event that does not exist, naming those that do.
        """
        self._engine.events.on(event, callback)

    def _open(self) -> None:
        if self._closed:
            raise SchedulerClosed

    def _require_accepting(self) -> None:
        self._open()
        if not self._accepting:
            raise NotAcceptingTasks


@dataclass
class PostedTask(Task):
    """What `post` makes: a one-off task."""

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


def token_for(task_id: object, fencing_token: int | None) -> int:
    """The token to confirm with: the given one, or that of the handler this is called in.

    Raises:
        InvalidTask: where neither is there.
    """
    if fencing_token is not None:
        return fencing_token
    from .worker.run import run_of  # a process that runs no handlers has no use for the worker, and starts sooner

    run = run_of(task_id.encode()) if isinstance(task_id, str) else None
    if run is None:
        raise InvalidTask(
            "confirm_task",
            "fencing_token",
            "may be left out inside the handler of this very task only",
            "pass current_execution().fencing_token on to whoever confirms",
        )
    return run.header.token


def lock_milliseconds(seconds: object, field: str) -> int:
    """The life of a lock, 1 ms to a year."""
    return parse_duration(seconds, "lock", field, minimum_ms=1, maximum_ms=YEAR_MS)
