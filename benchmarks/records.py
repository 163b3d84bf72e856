"""When which job started and ended: written by workers as they run, read by the measuring process meanwhile.

One file a worker process, mapped into memory, so that a record costs about a microsecond and outlives a SIGKILL.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RECORD = struct.Struct("<IId")
"""Number of the job + 1 (0: not written yet), what happened, unix seconds."""
CAPACITY = 2_000_000
"""Records one worker process can write. The file is sparse: what is not written takes no room."""
STARTED, ENDED = 0, 1


class Recorder:
    """Writes the records of this process; safe from any thread, and after a fork."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None
        self._places: Iterator[int] = iter(())
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._map = None

    def _open(self) -> mmap.mmap:
        with self._lock:
            if self._map is None:
                with Path(self._folder, f"records.{os.getpid()}").open("w+b") as file:
                    file.truncate(RECORD.size * CAPACITY)
                    self._places = itertools.count(0, RECORD.size)
                    self._map = mmap.mmap(file.fileno(), RECORD.size * CAPACITY)
            return self._map

    def write(self, number: int, what: int) -> None:
        """Notes that job `number` started or ended now."""
        target = self._map or self._open()
        # The next place of a count is taken in one step of the interpreter, by one thread.
        RECORD.pack_into(target, next(self._places), number + 1, what, time.time())


@dataclass(frozen=True, slots=True)
class Record:
    """One start or end of a job, at `time` in unix seconds."""

    number: int
    what: int
    time: float


class Records:
    """Reads what all workers of one measurement have written so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}
        self.all: list[Record] = []

    def poll(self) -> int:
        """Reads on; says how many records there are by now."""
        for path in self._folder.glob("records.*"):
            offset = self._offsets.get(path, 0)
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(RECORD.size * 50_000)
            for number, what, moment in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
                if not number or not moment:
                    break
                offset += RECORD.size
                self.all.append(Record(number - 1, what, moment))
            self._offsets[path] = offset
        return len(self.all)

    def poll_all(self) -> int:
        """Reads on until there is nothing new."""
        while True:
            before = len(self.all)
            if self.poll() == before:
                return before

    def starts(self, first: int, count: int) -> dict[int, list[float]]:
        """When each of `count` jobs from number `first` on was started, every time."""
        return self._times(STARTED, first, count)

    def ends(self, first: int, count: int) -> dict[int, list[float]]:
        """When each of `count` jobs from number `first` on had ended, every time."""
        return self._times(ENDED, first, count)

    def _times(self, what: int, first: int, count: int) -> dict[int, list[float]]:
        times: dict[int, list[float]] = {}
        for record in self.all:
            if record.what == what and first <= record.number < first + count:
                times.setdefault(record.number, []).append(record.time)
        return times
