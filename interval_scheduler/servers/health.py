"""Knows which instances answer, and tells of every change."""

from __future__ import annotations

from ..model.errors import PartitionUnavailable, UnusableInstance
from ..model.events import Events
from ..support.log import Log


class Health:
    """Which instances answer, as far as is known. Every change is logged and told as an event."""

    def __init__(self, master: str, events: Events, log: Log) -> None:
        self._master = master
        self._events = events
        self._log = log
        self._down: set[str] = set()
        self._told: dict[str, set[str]] = {}
        """The remedies that were logged, by instance."""
        self.joined = False
        """Whether the topology was read. Before that nothing is online."""

    @property
    def online(self) -> bool:
        return self.joined and self._master not in self._down

    def up(self, instance: str) -> None:
        self._told.pop(instance, None)
        if instance in self._down:
            self._down.discard(instance)
            self._log.write("info", "instance is back", instance=instance)
            self._events.emit("db-reconnect", instance)
            if instance == self._master:
                self._events.emit("online")

    def down(self, instance: str, failure: PartitionUnavailable) -> None:
        if isinstance(failure, UnusableInstance):
            self.tell(failure)
        elif instance not in self._down:
            self._log.write("warning", "instance lost", instance=instance, reason=failure.reason)
        if instance not in self._down:
            self._down.add(instance)
            self._events.emit("db-disconnect", instance)
            if instance == self._master:
                self._events.emit("offline")

    def tell(self, failure: UnusableInstance) -> None:
        """Logs what must be corrected about an instance, each thing once until the instance is back."""
        told = self._told.setdefault(failure.instance, set())
        if failure.remedy not in told:
            told.add(failure.remedy)
            self._log.write(
                "error",
                "instance cannot be used, and is tried again",
                instance=failure.instance,
                reason=failure.reason,
                fix=failure.remedy,
            )
