"""Compares what producers were told and what handlers saw with the promises. Knows nothing of how they are kept.

The checker of the simulation, `interval_scheduler.testing.history`, keeps the same rules from the other side: it sees
what every server carried out, and no real time, processes or faults. This one sees only what a user can see.

An occurrence is one due time that somebody was told will be kept: each slot of a recurring task, and the last
acknowledged version of a one-off. Violations are texts, so that a failure says what happened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.journal import Call, Observed, Run

TOLERANCE = 0.001
"""Seconds: due times and server times are whole milliseconds."""


@dataclass(frozen=True, slots=True)
class Window:
    """One fault: when it was injected and healed, and what it excuses (see `faults.Fault`)."""

    injected: float
    healed: float
    cutoff: float
    """Occurrences due by then count."""
    serves: bool = False
    lapses: bool = False
    loses: float = 0.0
    lease: float = 2.0

    @property
    def since(self) -> float:
        """From when on work has to be prompt."""
        return self.injected if self.serves else self.healed

    def forgotten(self, at: float) -> bool:
        """Whether what was acknowledged at a time may be lost."""
        return bool(self.loses) and self.injected - self.loses <= at <= self.healed

    def cuts_off(self, start: float, end: float) -> bool:
        """Whether a run in this time may have been out of touch with its server for longer than its lease."""
        return self.lapses and start <= self.healed + 1 and end >= self.injected


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One due time that has to be kept. `ready`: when it was both due and acknowledged."""

    id: str
    due: int
    ready: float
    acknowledged: float
    version: int
    interval: int | None
    misfire: str

    def kept_by(self, run: Run) -> bool:
        """Whether a run that came to its end makes this occurrence done."""
        if self.interval is None:
            return run.version >= self.version
        if run.due == self.due:
            return True
        # One catch-up run makes up for everything that was due when it began.
        return self.misfire == "coalesce" and run.due <= self.due <= (run.start + TOLERANCE) * 1000


@dataclass
class Verdict:
    """What was found. `other`: off the grid, run after its removal, a token that did not grow."""

    due: int = 0
    run: int = 0
    dead: int = 0
    recovery: float = 0.0
    slowest: str = ""
    lost: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return [
            f"{kind}: {text}"
            for kind in ("lost", "early", "duplicated", "other")
            for text in getattr(self, kind)  # one list per kind
        ]


class Judge:
    """Judges one observation; `dead` are the ids of the dead letters at the end."""

    def __init__(self, observed: Observed, window: Window, dead: Collection[str] = ()) -> None:
        self._observed = observed
        self._window = window
        self._dead = dead
        self._calls: dict[str, list[Call]] = defaultdict(list)
        self._runs: dict[str, list[Run]] = defaultdict(list)
        for call in observed.calls:
            self._calls[call.id].append(call)
        for run in sorted(observed.runs, key=lambda run: run.start):
            self._runs[run.id].append(run)

    def pending(self) -> list[Occurrence]:
        """What is due, was not lost by a server, and has not been run to its end."""
        return [
            occurrence
            for occurrence in self._occurrences()
            if self._keeper(occurrence) is None and not self._window.forgotten(occurrence.acknowledged)
        ]

    def verdict(self) -> Verdict:
        """Everything that can be said."""
        found = Verdict()
        for occurrence in self._occurrences():
            found.due += 1
            keeper = self._keeper(occurrence)
            if keeper is not None:
                found.run += 1
                late = self._lateness(occurrence)
                if late > found.recovery:
                    found.recovery, found.slowest = late, f"{occurrence.id} due {occurrence.due}"
            elif occurrence.id in self._dead:
                found.dead += 1
            elif not self._window.forgotten(occurrence.acknowledged):
                found.lost.append(f"{occurrence.id} version {occurrence.version} due {occurrence.due}")
        for task_id, runs in self._runs.items():
            found.early += self._early(runs)
            found.duplicated += self._overlapping(runs)
            found.duplicated += self._repeated(runs)
            found.other += self._tokens(runs)
            found.other += self._off_grid(self._calls[task_id], runs)
            found.other += self._unwanted(self._calls[task_id], runs)
        return found

    # -- occurrences -------------------------------------------------------------------------------------------------

    def _occurrences(self) -> Iterator[Occurrence]:
        for calls in self._calls.values():
            removed = min(
                (call.start for call in calls if call.operation == "remove" and call.outcome != "failed"),
                default=float("inf"),
            )
            told = [call for call in calls if call.operation == "assign" and call.outcome == "ok"]
            if not told:
                continue
            if told[0].interval is None:
                assigned = [call for call in calls if call.operation == "assign" and call.outcome != "failed"]
                yield from self._one_off(told[-1], assigned, removed)
            else:
                yield from self._recurring(calls[0], told[0], removed)

    def _one_off(self, last: Call, assigned: list[Call], removed: float) -> Iterator[Occurrence]:
        # An update leaves the pending time as it is, so any of them may count.
        due = max(_due(call) for call in assigned)
        if removed == float("inf") and due <= self._window.cutoff * 1000:
            ready = max(due / 1000, last.end)
            yield Occurrence(last.id, due, ready, last.end, last.version, None, last.misfire)

    def _recurring(self, first: Call, told: Call, removed: float) -> Iterator[Occurrence]:
        assert first.due is not None
        assert first.interval is not None
        for slot in range(first.due, int(self._window.cutoff * 1000) + 1, first.interval):
            if slot / 1000 >= removed:
                return
            ready = max(slot / 1000, told.end)
            yield Occurrence(first.id, slot, ready, told.end, told.version, first.interval, first.misfire)

    def _keeper(self, occurrence: Occurrence) -> Run | None:
        """The first run that kept an occurrence."""
        for run in self._runs[occurrence.id]:
            if run.how == "done" and occurrence.kept_by(run):
                return run
        return None

    def _lateness(self, occurrence: Occurrence) -> float:
        """How long an occurrence waited for its last start from when it was ready and nothing was in its way."""
        for run in self._runs[occurrence.id]:
            if run.how != "done" or not occurrence.kept_by(run):
                continue
            if self._stood_still(run, run.end or run.start) and self._repeats(run):
                continue  # somebody else had to do it, and that is what counts
            if run.start < self._window.injected or run.attempt > 1:
                return 0.0
            return run.start - max(self._window.since, occurrence.ready)
        return 0.0

    def _repeats(self, run: Run) -> bool:
        """Whether a run was followed by another one of the same occurrence."""
        return any(other.due == run.due and other.start > run.start for other in self._runs[run.id])

    # -- promises ----------------------------------------------------------------------------------------------------

    def _early(self, runs: list[Run]) -> Iterator[str]:
        for run in runs:
            if run.start < run.due / 1000 - TOLERANCE:
                yield f"{_name(run)} started {run.due / 1000 - run.start:.4f} s before its time"

    def _overlapping(self, runs: list[Run]) -> Iterator[str]:
        for position, second in enumerate(runs):
            for first in runs[:position]:
                live_until = self._died(first) if first.end is None else first.end
                if second.start >= live_until or second.start >= first.lease - TOLERANCE:
                    continue
                if self._lost_between(first.start, second.start):
                    continue
                yield (
                    f"{_name(second)} started {live_until - second.start:.3f} s before the end of {_name(first)}, "
                    f"whose lease had {first.lease - second.start:.3f} s to go"
                )

    def _repeated(self, runs: list[Run]) -> Iterator[str]:
        done: dict[int, Run] = {}
        for second in runs:
            if second.how != "done":
                continue
            first = done.get(second.due)
            done[second.due] = second
            if first is None or self._stood_still(first, second.start) or self._lost_between(first.start, second.start):
                continue
            lapsed = second.start >= first.lease - TOLERANCE
            if not (lapsed and self._window.cuts_off(first.start, second.start)):
                yield f"{_name(second)} and {_name(first)} both completed, {second.start - first.start:.3f} s apart"

    def _tokens(self, runs: list[Run]) -> Iterator[str]:
        for first, second in pairwise(runs):
            # A run whose process stood still may begin late, and is refused: only later claims must have larger tokens.
            if second.token <= first.token and not self._stood_still(second, second.start):
                yield f"{_name(second)} came after {_name(first)}"

    def _off_grid(self, calls: list[Call], runs: list[Run]) -> Iterator[str]:
        assigned = [call for call in calls if call.operation == "assign"]
        if not assigned or any(call.due is None for call in assigned):
            return
        first = assigned[0]
        dues = {call.due for call in assigned}
        for run in runs:
            if run.attempt > 1:
                continue  # due when the retry was
            fits = run.due in dues if first.interval is None else (run.due - _due(first)) % first.interval == 0
            if not fits:
                yield f"{_name(run)} was never assigned for that time"

    def _unwanted(self, calls: list[Call], runs: list[Run]) -> Iterator[str]:
        """Runs that started after their task was removed; what was claimed before may still begin under its lease."""
        if not calls or calls[-1].operation != "remove" or calls[-1].outcome != "ok":
            return
        for run in runs:
            late = run.start - calls[-1].end
            if late > self._window.lease and not self._window.loses:
                yield f"{_name(run)} started {late:.3f} s after its task was removed"

    # -- circumstances -----------------------------------------------------------------------------------------------

    def _died(self, run: Run) -> float:
        return min(
            (since for pid, since, until in self._observed.stops if pid == run.pid and until == float("inf")),
            default=float("inf"),
        )

    def _stood_still(self, run: Run, until: float) -> bool:
        """Whether the process of a run died or was stopped after the claim and before a time."""
        return any(
            pid == run.pid and since <= until and ended >= run.start - 1 for pid, since, ended in self._observed.stops
        )

    def _lost_between(self, start: float, end: float) -> bool:
        """Whether the claim or the end of a run may be among what a server lost."""
        window = self._window
        return bool(window.loses) and start <= window.healed and end >= window.injected - window.loses


def _due(call: Call) -> int:
    return round(call.start * 1000) if call.due is None else call.due


def _name(run: Run) -> str:
    return f"{run.id} due {run.due} token {run.token}"
