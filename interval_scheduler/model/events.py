"""Events and log lines: what schedulers and workers tell about themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..support.log import Log
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


@dataclass(frozen=True, slots=True)
class Event:
    """What the callbacks of ``on()`` get: the name of the event and what belongs to it."""

    name: str
    details: Mapping[str, Any] = field(default_factory=dict)


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
