"""What the demo must run, what it ran, and the verdict: every occurrence once, never early, on time.

A run that was live when its worker was killed is repeated by the other worker when its lease has ended. That repeat is
expected, once, and counted apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

RUN_SECONDS = 12.0
KILL_AFTER = 5.0
PATIENCE = 8.0
"""How long after the last due time the demo waits for runs that are missing."""
LEASE_SECONDS = 2.0
CATCH_UP_SECONDS = 2.0
"""How long an interrupted task may take to run the occurrences that came due while its lease lasted."""
ON_TIME_MS = 500
"""How late a run may be and still count as on time: a laptop may pause for a moment. The summary has the figures."""
RECURRING = {"heartbeat": 0.5, "metrics": 1.0, "mail queue": 1.5, "cleanup": 2.0, "report": 3.0}
ONE_OFFS = 120


@dataclass
class Seen:
    """What is known of one run."""

    worker: str
    started: float
    ended: float | None = None


@dataclass
class Ledger:
    """What must run, what ran, and the verdict. An occurrence is an id and its due time in ms."""

    expected: set[tuple[str, int]]
    runs: dict[tuple[str, int], dict[int, Seen]] = field(default_factory=dict)
    killed: str = ""
    killed_at: float = 0.0

    def note(self, line: str) -> None:
        """Takes a line that a worker wrote."""
        entry = json.loads(line)
        if (entry["id"], entry["due"]) not in self.expected:
            return  # an occurrence after the end of the demo
        runs = self.runs.setdefault((entry["id"], entry["due"]), {})
        if "started" in entry:
            runs[entry["token"]] = Seen(entry["worker"], entry["started"])
        else:
            runs[entry["token"]].ended = entry["ended"]

    def due_by(self, moment: float) -> int:
        return sum(due <= moment * 1000 for _, due in self.expected)

    def done(self, occurrence: tuple[str, int]) -> bool:
        return any(run.ended is not None for run in self.runs.get(occurrence, {}).values())

    def was_killed(self, run: Seen) -> bool:
        """Whether a run was live, or ended and not yet reported, when its worker was killed."""
        return run.worker == self.killed and (run.ended is None or run.ended > self.killed_at - 0.1)

    def lost(self) -> list[tuple[str, int]]:
        return [occurrence for occurrence in self.expected if not self.done(occurrence)]

    def interrupted(self) -> list[tuple[str, int]]:
        """Occurrences that the killed worker had claimed and not reported: they ran when their lease had ended."""
        return [key for key in self.expected if key in self.runs and self._was_interrupted(key)]

    def _was_interrupted(self, key: tuple[str, int]) -> bool:
        first = self._first(key)
        if len(self.runs[key]) == 2:
            return self.was_killed(first)
        # Claimed but not started: due just before the kill, started by the other worker when the lease had ended.
        moment = key[1] / 1000
        waited = self.killed_at + LEASE_SECONDS - 0.5 < first.started
        return bool(self.killed) and waited and self.killed_at - 0.5 < moment <= self.killed_at

    def twice(self) -> list[tuple[str, int]]:
        """Occurrences that ran again although they were not interrupted."""
        excused = set(self.interrupted())
        return [key for key, runs in self.runs.items() if len(runs) > 1 and key not in excused]

    def early(self) -> list[tuple[str, int]]:
        return [key for key, runs in self.runs.items() if any(run.started * 1000 < key[1] for run in runs.values())]

    def lateness(self) -> list[float]:
        """Start minus due time in ms of each occurrence, sorted; without those that had to wait for a lease."""
        held = {task_id for task_id, _ in self.interrupted()}
        late = []
        for key in self.expected:
            if key not in self.runs or self._waits_for(key, held):
                continue
            late.append(self._first(key).started * 1000 - key[1])
        return sorted(late)

    def _waits_for(self, key: tuple[str, int], held: set[str]) -> bool:
        """Whether the occurrence had to wait for one of the same task that the kill interrupted."""
        moment = key[1] / 1000
        return key[0] in held and self.killed_at - 0.1 <= moment <= self.killed_at + LEASE_SECONDS + CATCH_UP_SECONDS

    def _first(self, key: tuple[str, int]) -> Seen:
        return self.runs[key][min(self.runs[key])]

    def by_worker(self, worker: str) -> int:
        return sum(run.worker == worker for runs in self.runs.values() for run in runs.values())

    def holds(self) -> bool:
        """The verdict: whether every occurrence ran once, none early, and all on time."""
        late = self.lateness()
        return not (self.lost() or self.twice() or self.early()) and bool(late) and late[-1] <= ON_TIME_MS
