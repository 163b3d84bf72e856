"""Knows which instances answer, and tells of every change."""

from __future__ import annotations

from ..model.events import Events
from ..support.log import Log


class Health:
    """Which instances answer, as far as is known. Every change is logged and told as an event."""

    def __init__(self, master: str, events: Events, log: Log) -> None:
        self._master = master
        self._events = events
        self._log = log
        self._down: dict[str, str] = {}
        self.joined = False
        """Whether the topology was read. Before that nothing is online."""

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
