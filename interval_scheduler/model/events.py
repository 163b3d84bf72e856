"""Events: what schedulers and workers tell the callbacks of ``on()``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..support.log import Log
from ..support.signals import is_interrupt
from ..support.text import repr_of, short_repr, type_with_article
from .errors import InvalidOptions

EVENTS = {
    "online": "the master instance answers again; called without arguments",
    "offline": "the master instance does not answer; called without arguments",
    "db-disconnect": "an instance does not answer; called with its name",
    "db-reconnect": "an instance answers again; called with its name",
    "ready": "a worker looks for due tasks from now on; called with an Event",
    "task-started": "a handler was started; called with an Event (id, due as a datetime, attempt, fencing_token)",
    "task-done": "a run ended well; called with an Event (id, attempt)",
    "task-retry": "a run failed and will be repeated; called with an Event (id, attempt, error text, exception)",
    "task-dead": "a run failed and became a dead letter; called with an Event (id, attempt, error text, exception)",
    "lease-lost": "a run lost its lease, or its task was removed; called with an Event (id, fencing_token)",
    "data-loss": "an instance came back without acknowledged writes; called with an Event (instance, partitions)",
    "clock-jump": "the clock of an instance jumped; called with an Event (instance, seconds, direction, new_server)",
    "error": "something failed and will be tried again; called with an Event (error as an exception, where)",
}
"""Every event: when it happens, and what its callbacks are called with."""


@dataclass(frozen=True, slots=True, repr=False)
class Event:
    """What the callbacks of ``on()`` get: the name of the event, and its details by name (see `EVENTS`)."""

    name: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        details = (f"{name}={short_repr(value, 60)}" for name, value in self.details.items())
        return repr_of(self, short_repr(self.name), *details)


class Events:
    """The callbacks of ``on()``. They run where the event happens and must be quick; what they raise is logged."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._callbacks: dict[str, list[Callable[..., object]]] = {}

    def on(self, event: str, callback: Callable[..., object]) -> None:
        """Registers a callback.

        Raises:
            InvalidOptions: for an event that does not exist, or a callback that cannot be called.
        """
        if event not in EVENTS:
            raise InvalidOptions([f"event {short_repr(event)} is unknown: use {', '.join(EVENTS)}"])
        if not callable(callback):
            raise InvalidOptions([f"the callback for {event!r} is {type_with_article(callback)}: use a function"])
        if inspect.iscoroutinefunction(callback):
            rule = f"the callback for {event!r} is a coroutine function, which nobody would await"
            raise InvalidOptions([f"{rule}: use a plain function, which may start a task"])
        self._callbacks.setdefault(event, []).append(callback)

    def wanted(self, event: str) -> bool:
        """Whether there is a callback for an event. If not, nobody needs to make the `Event`, which takes time."""
        return event in self._callbacks

    def emit(self, event: str, *args: object) -> None:
        """Calls the callbacks of an event, one after the other."""
        for callback in tuple(self._callbacks.get(event, ())):
            try:
                callback(*args)
            except BaseException as error:  # SystemExit too: a callback must not end the worker that calls it
                # An exception of a handler that is looked at may raise it too, and then nobody pressed a key.
                if is_interrupt(error) and not _carries_exception(args):
                    raise
                self._log.write("error", "an event callback failed", event_name=event, error=short_repr(error, 500))


def _carries_exception(args: tuple[object, ...]) -> bool:
    return any(isinstance(arg, Event) and "exception" in arg.details for arg in args)
