"""B11: the longest time that one script blocks a server: in all measurements before, and during a clear."""

from __future__ import annotations

from collections.abc import Iterator

from interval_scheduler import Scheduler

from ..bench import DAY, Bench
from ..figures import OURS, Figure, Goal, Missing
from ..question import Question


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    if bench.last:
        _clear(bench)
    names = sorted(bench.blocking, key=lambda name: (len(name), name))
    for name in names:
        told = bench.blocking[name]
        yield Figure(f"{name}: p99.9 of the worst server", OURS, max(each.p999 for each in told) / 1000, "ms")
        yield Figure(f"{name}: longest", OURS, max(each.longest for each in told) / 1000, "ms")
    if names:
        worst = max(each.p999 for name in names for each in bench.blocking[name])
        yield Figure("p99.9 of the worst server", OURS, worst / 1000, "ms")
    bench.blocking.clear()


def _clear(bench: Bench) -> None:
    """Clears the fullest server there is."""
    count = bench.fills()[-1]
    server = bench.filled(count, DAY).server
    server.forget()
    with Scheduler({"storage": {"instances": [{"url": server.url, "name": "instance-0"}]}}) as scheduler:
        scheduler.clear_all_tasks()
    bench.remember(f"clear of {count:,}", server)


QUESTION = Question(
    "B11",
    "how long one script blocks the server",
    measure,
    [Goal("p99.9 of the worst server", 5.0, 2.0, most=True)],
    notes="From `INFO latencystats` and the slow log (0: never above 1 ms), by the question whose servers they are. "
    "What else the machine runs blocks servers too: on a busy one the longest says little.",
)
