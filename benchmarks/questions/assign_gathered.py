"""B3: many single calls of `assign_task` at once under asyncio, beside the bulk call."""

from __future__ import annotations

from collections.abc import Iterator

from ..bench import Bench
from ..figures import OURS, Figure, Goal, Missing, Question, ratio
from ..processes import Segment, assign, stage
from ..subjects import COROUTINE, GATHER


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    count = bench.size(50_000, 1000)
    rates = {}
    with stage(GATHER, []) as place:
        bare = assign(place, Segment(count, 0, 3600.0, 60.0), "gathered").rate
    for mode in ("gathered", "bulk"):
        with bench.servers("B3") as servers, stage(COROUTINE, servers) as place:
            assign(place, Segment(1000, count, 3600.0, 60.0))
            rates[mode] = assign(place, Segment(count, 0, 3600.0, 60.0), mode).rate
    yield Figure("gather of assign_task", OURS, rates["gathered"], "tasks/s")
    yield Figure("gather of calls that store nothing", GATHER.name, bare, "calls/s")
    yield Figure("assign_tasks", OURS, rates["bulk"], "tasks/s")
    yield ratio("gather: of assign_tasks", OURS, rates["gathered"], rates["bulk"])


QUESTION = Question("B3", "gather of single assign_task calls", measure, [Goal("gather: of assign_tasks", 0.5)])
