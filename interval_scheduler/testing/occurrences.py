"""Which occurrences a history promises: what somebody was told will be run, and which run keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from .history import ASSIGN, Call, History, Run


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One due time that has to be kept. `ready`: when it was both due and acknowledged.

    Without an `interval` it is the last assignment of its task that no server may have forgotten.
    """

    id: str
    due: int
    ready: float
    acknowledged: float
    server: str
    version: int
    interval: int | None
    misfire: str

    def __str__(self) -> str:
        return f"{self.id} version {self.version} due {self.due}"

    def kept_by(self, run: Run, clock: float) -> bool:
        """Whether a run that came to its end makes this occurrence done. `clock`: see `Terms.clock`."""
        if self.interval is None:
            return run.version >= self.version
        if run.due == self.due:
            return True
        # One catch-up run makes up for everything that was due when it began.
        return self.misfire == "coalesce" and run.due <= self.due <= run.started_ms + clock * 1000


def occurrences(calls: list[Call], history: History, cutoff: float | None) -> Iterator[Occurrence]:
    """The occurrences that the calls for one task promise.

    With a `cutoff`, these are all that are due by then: each time of a recurring task, and one-offs. Without it, each
    task has one: its last assignment.
    """
    told = [call for call in calls if call.operation == ASSIGN and call.outcome == "ok"]
    if not told:
        return
    if cutoff is not None and told[0].interval is not None:
        yield from _recurring(calls, told[0], cutoff)
        return
    # What was acknowledged before a loss still counts where a later assignment may be forgotten.
    kept = [call for call in told if not history.may_have_lost(call.server, call.end, call.end)]
    last = (kept or told)[-1]
    if any(call.removes for call in calls[calls.index(last) + 1 :]):
        return
    # An update leaves the pending time as it is, so any of them may count.
    due = max(_due(call) for call in calls if call.assigns)
    if cutoff is None or due <= cutoff * 1000:
        ready = max(due / 1000, last.end)
        yield Occurrence(last.id, due, ready, last.end, last.server, last.version, None, last.misfire)


def _recurring(calls: list[Call], told: Call, cutoff: float) -> Iterator[Occurrence]:
    first = calls[0]
    assert first.due is not None
    assert first.interval is not None
    removed = min((call.start for call in calls if call.removes), default=inf)
    for due in range(first.due, int(cutoff * 1000) + 1, first.interval):
        if due / 1000 >= removed:
            return
        ready = max(due / 1000, told.end)
        yield Occurrence(first.id, due, ready, told.end, told.server, told.version, first.interval, first.misfire)


def _due(call: Call) -> int:
    return round(call.start * 1000) if call.due is None else call.due
