"""Events and log lines: what schedulers and workers tell about themselves."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from .errors import InvalidOptions

EVENTS = {
    "online": "the master instance is reachable again; called without arguments",
    "offline": "the master instance was lost; called without arguments",
    "db-disconnect": "an instance was lost; called with its name",
    "db-reconnect": "an instance is back; called with its name",
    "ready": "a worker has begun to look for due tasks; called with an Event",
    "task-started": "a handler was started; called with an Event (id, due as a datetime, attempt, fencing_token)",
    "task-done": "a run ended well; called with an Event (id, attempt)",
    "task-retry": "a run failed and will be repeated; called with an Event (id, attempt, error text, exception)",
    "task-dead": "a run failed for good; called with an Event (id, attempt, error text, exception)",
    "lease-lost": "a run lost its lease, or its task was removed; called with an Event (id, fencing_token)",
    "data-loss": "an instance came back without acknowledged writes; called with an Event (instance, partitions)",
    "error": "something failed and will be tried again; called with an Event (error as an exception, where)",
}
"""Every event, what it says, and what its callbacks get."""


class Log:
    """One way to write log lines to a structlog logger, a standard library logger, or any object with their methods.

    By default structlog's logger named "interval_scheduler", which writes to stderr unless the application has set
    structlog up; the root logger is never touched.
    """

    def __init__(self, logger: Any = None) -> None:
        """
        Raises:
            InvalidOptions: for something that cannot log.
        """
        if logger is not None and not callable(getattr(logger, "warning", None)):
            raise InvalidOptions([f"logger is {logger!r}: pass a structlog or standard library logger"])
        self._logger = logger

    def write(self, level: str, message: str, **fields: object) -> None:
        """One line at `level` ("debug" … "error"). A logger that raises does not stop the scheduler.

        `exc_info` may be an exception, whose traceback structlog and the standard library then show.
        """
        logger = _default_logger() if self._logger is None else self._logger
        method = getattr(logger, level, None)
        if method is None:
            return
        try:
            if fields.get("exc_info") is None:
                fields.pop("exc_info", None)
            if hasattr(logger, "bind"):
                method(message, **fields)
            elif isinstance(logger, logging.Logger):
                method("%s", _text(message, fields), exc_info=fields.get("exc_info"))
            else:
                method(_text(message, fields))
        except BaseException as error:  # a user's logger, or an error's own text, may do anything
            if isinstance(error, KeyboardInterrupt):
                raise
            # There is nowhere else to complain.
            logging.getLogger("interval_scheduler").debug("the logger failed: %s", type(error).__name__)


def _default_logger() -> Any:
    """structlog as the application has set it up; where it has not, lines to stderr: stdout is the program's."""
    import structlog

    if structlog.is_configured():
        return structlog.stdlib.get_logger("interval_scheduler")
    render = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        # The other ways show the variables of each frame too: pages, and whatever secrets are in them.
        exception_formatter=structlog.dev.plain_traceback,
    )
    stamp = structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False)
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), processors=[structlog.processors.add_log_level, stamp, render]
    )


def _text(message: str, fields: dict[str, object]) -> str:
    return " ".join([message, *(f"{name}={value!r}" for name, value in fields.items() if name != "exc_info")])


class Events:
    """The callbacks of ``on()``. They run where the event happens, must be quick, and cannot break anything."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._callbacks: dict[str, list[Callable[..., object]]] = {}

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Registers a callback.

        Raises:
            InvalidOptions: for an event that does not exist.
        """
        if event not in EVENTS:
            raise InvalidOptions([f"event {event!r} is unknown: use {', '.join(EVENTS)}"])
        if not callable(callback):
            raise InvalidOptions([f"the callback for {event!r} is not callable"])
        self._callbacks.setdefault(event, []).append(callback)

    def wanted(self, event: str) -> bool:
        """Whether anybody listens: lets the hot path skip making the event."""
        return event in self._callbacks

    def emit(self, event: str, *args: object) -> None:
        for callback in tuple(self._callbacks.get(event, ())):
            try:
                callback(*args)
            except BaseException as error:  # SystemExit too: a callback must not end what it listens to
                if isinstance(error, KeyboardInterrupt):
                    raise
                self._log.write("error", "an event callback failed", event_name=event, error=repr(error))


class Health:
    """Which instances answer, as far as anybody noticed; tells of every change."""

    def __init__(self, master: str, events: Events, log: Log) -> None:
        self._master = master
        self._events = events
        self._log = log
        self._down: dict[str, str] = {}
        self.joined = False
        """Whether the topology has been read, so that there is something to be online with."""

    @property
    def online(self) -> bool:
        return self.joined and self._master not in self._down

    def up(self, instance: str) -> None:
        if instance in self._down:
            del self._down[instance]
            self._log.write("info", "instance is back", instance=instance)
            self._events.emit("db-reconnect", instance)
            if instance == self._master:
                self._events.emit("online")

    def down(self, instance: str, reason: str) -> None:
        if instance not in self._down:
            self._down[instance] = reason
            self._log.write("warning", "instance lost", instance=instance, reason=reason)
            self._events.emit("db-disconnect", instance)
            if instance == self._master:
                self._events.emit("offline")
