"""What the processes of a chaos run note: append-only files with one JSON line per fact.

Every line is one ``write`` to a file opened with O_APPEND, so that a SIGKILL loses nothing that was noted before.
Times are unix seconds of this machine, whose clock all servers share; due times and intervals are in ms.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interval_scheduler.testing.history import Call, History, Notice, Run


class Journal:
    """One process's file."""

    def __init__(self, path: str | Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, kind: str, **fields: Any) -> None:
        """Appends one line; it is in the hands of the kernel when this returns."""
        os.write(self._descriptor, json.dumps({"kind": kind, **fields}).encode() + b"\n")


@dataclass
class Observed(History):
    """Everything that was noted, and the scheduler `events` of all processes."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def events_named(self, name: str) -> list[dict[str, Any]]:
        """The scheduler events of one name, from all processes."""
        return [event for event in self.events if event["name"] == name]


class Reader:
    """Reads the journals of a folder as they grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self._open: dict[tuple[str, str, int], Run] = {}
        self.observed = Observed()

    def read(self) -> Observed:
        """Takes in what was added since the last call."""
        for path in sorted(self._folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            for line in whole.splitlines():
                self._take(json.loads(line))
        return self.observed

    def _take(self, note: dict[str, Any]) -> None:
        kind = note.pop("kind")
        if kind == "call":
            self.observed.calls.append(Call(**note))
        elif kind == "start":
            run = Run(**note)
            self._open[run.process, run.id, run.token] = run
            self.observed.runs.append(run)
        elif kind == "end":
            run = self._open.pop((note["process"], note["id"], note["token"]))
            run.end, run.lease, run.how = note["end"], note["lease"], note["how"]
        elif kind == "event":
            self.observed.events.append(note)
            if note["name"] == "data-loss":
                self.observed.notices.append(Notice(note["details"]["instance"], note["at"]))
