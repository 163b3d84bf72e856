"""B14: many tasks every second: whether every occurrence runs, once, and how far from its place on the grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from ..bench import Bench, attempt
from ..figures import OURS, Figure, Goal, Missing, percentile
from ..processes import Failed, Segment, assign, describe, stage, workers
from ..question import Question
from ..stalls import Sleeper
from ..subjects import COROUTINE, Subject

EVERY = 1.0
_LEAD_SECONDS = 3.0
_EARLY_SHARE = 0.25
"""How much of a period before its time a run still belongs to an occurrence."""


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    for what, spread in (("evenly over the second", EVERY), ("all at the same time", 0.0)):
        yield from attempt(what, COROUTINE, partial(_recurring, bench, COROUTINE, OURS, what, spread, True))
    if bench.asks_peers:
        for peer in bench.peers:
            yield from attempt("evenly over the second", peer, partial(_peer, bench, peer))


def _peer(bench: Bench, peer: Subject) -> Iterator[Figure]:
    how = describe(peer)["recurring"]
    if how.startswith("no"):
        raise Failed(how.removeprefix("no: "))
    yield from _recurring(bench, peer, peer.name, "evenly over the second", EVERY, how == "grid")


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
        sleeper = Sleeper()
        sleeper.until(last + 2.0)
        starts = running.records.starts(0, tasks)
    offsets: list[float] = []
    ran = again = 0
    for number, times in starts.items():
        first = assigned.due + number * spread / tasks if on_grid else min(times)
        slots, more = _slots([moment - first for moment in times], periods)
        ran += len(slots)
        again += more
        offsets += [offset * 1000 for offset in slots.values()]
    if not offsets:
        raise Failed("none of the tasks ran")
    yield Figure(f"{what}: occurrences that ran", name, ran / (tasks * periods) * 100, "%")
    yield Figure(f"{what}: twice", name, again, "runs")
    yield Figure(f"{what}: longest stall of the machine", name, sleeper.longest * 1000, "ms")
    yield Figure(f"{what}: start - grid, p1", name, percentile(offsets, 0.01), "ms")
    yield Figure(f"{what}: start - grid, p50", name, percentile(offsets, 0.5), "ms")
    yield Figure(f"{what}: start - grid, p99", name, percentile(offsets, 0.99), "ms")


def _slots(moments: list[float], periods: int) -> tuple[dict[int, float], int]:
    """By occurrence how many seconds from its place it ran, and how many runs were more than there are occurrences.

    A run belongs to the newest occurrence that was due, or soon is; or else to the one before, which came late.
    """
    offsets: dict[int, float] = {}
    again = 0
    for moment in sorted(moments):
        newest = math.floor(moment / EVERY + _EARLY_SHARE)
        slot = next((slot for slot in (newest, newest - 1) if slot not in offsets), None)
        if slot is None:
            again += 1
        elif 0 <= slot < periods:
            offsets[slot] = moment - slot * EVERY
    return offsets, again


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
