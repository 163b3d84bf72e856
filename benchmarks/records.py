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
from pathlib import Path

RECORD = struct.Struct("<IId")
"""Number of the job + 1 (0: not written yet), what happened, unix seconds."""
CAPACITY = 2_000_000
"""Records one worker process can write. The file is sparse: what is not written takes no disk space."""
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


class Records:
    """Reads what all workers of one measurement have written up to now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lengths: dict[Path, int] = {}

    def poll(self) -> int:
        """How many records there are by now. Cheap: it takes no time from what is being measured."""
        for path in self._folder.glob("records.*"):
            self._lengths[path] = _length(path, self._lengths.get(path, 0))
        return sum(self._lengths.values())

    def starts(self, first: int, count: int) -> dict[int, list[float]]:
        """When each of `count` jobs from number `first` on was started, every time, in unix seconds."""
        return self._times(STARTED, first, count)

    def ends(self, first: int, count: int) -> dict[int, list[float]]:
        """When each of `count` jobs from number `first` on had ended, every time, in unix seconds."""
        return self._times(ENDED, first, count)

    def _times(self, wanted: int, first: int, count: int) -> dict[int, list[float]]:
        self.poll()
        times: dict[int, list[float]] = {}
        for path, length in self._lengths.items():
            with path.open("rb") as file:
                data = file.read(RECORD.size * (length + _GAP))
            for number, what, moment in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
                if moment and what == wanted and first < number <= first + count:
                    times.setdefault(number - 1, []).append(moment)
        return times


_GAP = 1000
"""A thread that was killed, or is slow, may leave a record empty before those of others."""


def _length(path: Path, known: int) -> int:
    """How many records a file has, at least `known`: in growing steps, then by halves."""
    with path.open("rb") as file:

        def written(place: int) -> bool:
            file.seek(place * RECORD.size)
            data = file.read(RECORD.size)
            return len(data) == RECORD.size and any(data)

        low, step = known, 1
        while written(low + step - 1):
            low += step
            step *= 2
        high = low + step - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if written(middle) else (low, middle)
        return low
