"""Tells where workers compute the times of time zones from data of different versions, or have none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ..model.errors import InvalidTask
from ..support.log import Log
from ..support.zones import INSTALL, NONE, UPDATE

_SUFFIX = re.compile(r"@(\d{4}[a-z]+|none)$")


def with_version(worker: str, version: str) -> str:
    """The id of a worker, which carries the version of its time-zone data; without it where that is unknown."""
    return f"{worker}@{version}" if version else worker


def versions(workers: Iterable[str]) -> Mapping[str, str]:
    """The versions of time-zone data of those workers whose ids carry one: older releases do not."""
    return {worker: found[1] for worker in workers if (found := _SUFFIX.search(worker)) is not None}


class ZoneWatch:
    """Compares the time-zone data here, of the version `own`, with that of other workers."""

    def __init__(self, own: str, log: Log) -> None:
        self._own = own
        self._log = log
        self._told: set[str] = set()

    def compare(self, workers: Iterable[str]) -> None:
        """Tells once of each newer version that another worker has. What is newer here, is told there."""
        others = {version: worker for worker, version in versions(workers).items() if version != NONE}
        newest = max(others, default="")
        if not newest or newest in self._told:
            return
        details = {"here": self._own, "there": newest, "worker": others[newest]}
        if self._own == NONE:
            self._told.add(newest)
            message = "this worker has no time-zone data, and another one has: it cannot run tasks with a time zone"
            self._log.write("warning", message, **details, fix=INSTALL)
        elif "" < self._own < newest:
            self._told.add(newest)
            message = "this worker has older time-zone data than another: times of tasks with a time zone may differ"
            self._log.write("warning", message, **details, fix=UPDATE)

    def unreadable(self, error: Exception) -> None:
        """A task cannot be read here. Tells once where that is for want of the data of its time zone."""
        cause = error.__cause__
        if not isinstance(cause, InvalidTask) or cause.field != "tz" or "tz" in self._told:
            return
        self._told.add("tz")
        if self._own == NONE:
            message = "tasks with a time zone cannot run here: this machine has no time-zone data"
            self._log.write("error", message, fix=INSTALL)
        else:
            message = "a task with a time zone cannot run here: the time-zone data of this machine lacks the zone"
            self._log.write("error", message, here=self._own, fix=UPDATE)
