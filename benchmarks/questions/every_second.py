"""B14: many tasks every second: whether every occurrence runs, once, and how far from its place on the grid."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial

from ..bench import Bench, attempted
from ..figures import OURS, Figure, Goal, Missing, Question, percentile
from ..processes import Segment, assign, describe, stage, workers
from ..subjects import COROUTINE, Subject

EVERY = 1.0
_LEAD_SECONDS = 3.0


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    for what, spread in (("evenly over the second", EVERY), ("all at the same time", 0.0)):
        yield from attempted(what, COROUTINE, partial(_recurring, bench, COROUTINE, OURS, what, spread, True))
    if bench.repetition == 0:
        for peer in bench.peers:
            how = str(describe(peer)["recurring"])
            if how.startswith("no"):
                yield Missing("evenly over the second", peer.name, how)
            else:
                measured = partial(_recurring, bench, peer, peer.name, "evenly over the second", EVERY, how == "grid")
                yield from attempted("evenly over the second", peer, measured)


def _recurring(bench: Bench, subject: Subject, name: str, what: str, spread: float, on_grid: bool) -> Iterator[Figure]:
    """Where the grid is that of the subject, it begins with the first run of every task."""
    tasks, periods = bench.size(200, 20), bench.size(20, 3)
    with (
        bench.servers("B14" if subject is COROUTINE else "") as servers,
        stage(subject, servers) as place,
        workers(place) as running,
    ):
        running.warm()
        assigned = assign(place, Segment(tasks, 0, _LEAD_SECONDS, spread), "recurring", seconds=EVERY)
        last = assigned.due + spread + periods * EVERY
        time.sleep(max(0.0, last + 2.0 - time.time()))
        starts = running.records.starts(0, tasks)
    offsets: list[float] = []
    ran = again = 0
    for number, times in starts.items():
        first = assigned.due + number * spread / tasks if on_grid else min(times)
        slots: set[int] = set()
        for moment in times:
            slot = math.floor((moment - first) / EVERY + 0.5)
            if 0 <= slot < periods:
                again += slot in slots
                slots.add(slot)
                offsets.append((moment - first - slot * EVERY) * 1000)
        ran += len(slots)
    yield Figure(f"{what}: occurrences that ran", name, ran / (tasks * periods) * 100, "%")
    yield Figure(f"{what}: twice", name, again, "runs")
    yield Figure(f"{what}: start - grid, p1", name, percentile(offsets, 0.01), "ms")
    yield Figure(f"{what}: start - grid, p50", name, percentile(offsets, 0.5), "ms")
    yield Figure(f"{what}: start - grid, p99", name, percentile(offsets, 0.99), "ms")


QUESTION = Question(
    "B14",
    "200 tasks every second for 20 seconds",
    measure,
    [
        Goal("evenly over the second: occurrences that ran", 100.0),
        Goal("evenly over the second: twice", 0, most=True),
        Goal("evenly over the second: start - grid, p99", 3.0, most=True),
        Goal("all at the same time: occurrences that ran", 100.0),
        Goal("all at the same time: twice", 0, most=True),
    ],
    notes="Peers that choose their own grid are measured from the first run of each task.",
)
