"""B7: many tasks that are due at the same time, beside the rate at which they run when they are overdue."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.waiting import comes_true

from ..bench import Bench, attempt
from ..figures import OURS, Figure, Goal, Missing, percentile, ratio
from ..processes import Segment, assign, stage, workers
from ..question import Question
from ..stalls import Sleeper
from ..subjects import COROUTINE
from .draining import drain

_SAMPLE_SECONDS = 0.1
_LONGEST_SECONDS = 120.0


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    for persistence in ("none", "everysec"):
        yield from attempt("herd", COROUTINE, partial(_measure, bench, persistence))


def _measure(bench: Bench, persistence: str) -> Iterator[Figure]:
    suffix = "" if persistence == "none" else ", AOF everysec"
    count = bench.size(200_000, 2000)
    rate = drain(bench, "", COROUTINE, bench.size(100_000, 1000), persistence=persistence).rate
    memory: list[int] = []
    with (
        bench.servers("B7", persistence=persistence) as servers,
        stage(COROUTINE, servers) as place,
        workers(place) as running,
    ):
        running.warm()
        assigned = assign(place, Segment(count, 0, bench.lead(COROUTINE, count)))
        Sleeper().until(assigned.due)

        def is_over() -> bool:
            memory.append(running.memory())
            return running.records.poll() > count  # the warming job has a record too

        comes_true(is_over, _LONGEST_SECONDS, pause=_SAMPLE_SECONDS)
        starts = running.records.starts(0, count)
    late = [moment - assigned.due for times in starts.values() for moment in times]
    name = f"{count:,} tasks due at the same time{suffix}"
    yield Figure(f"{name}: lost", OURS, count - len(starts), "tasks")
    yield Figure(f"{name}: p50", OURS, percentile(late, 0.5), "s late")
    yield Figure(f"{name}: the last one", OURS, max(late), "s late")
    yield ratio(f"lateness of the last{suffix}: of tasks / rate when overdue", OURS, max(late), count / rate)
    half = max(1, len(memory) // 2)
    yield Figure(f"memory of the worker{suffix}, at most", OURS, max(memory) / 2**20, "MiB")
    yield Figure(
        f"memory of the worker{suffix}: second half of the herd of the first",
        OURS,
        max(memory[half:], default=0) / max(memory[:half]),
        "×",
    )


QUESTION = Question(
    "B7",
    "a herd",
    measure,
    [
        Goal("lateness of the last: of tasks / rate when overdue", 1.25, 1.1, most=True),
        Goal("memory of the worker: second half of the herd of the first", 1.1, most=True),
    ],
)
