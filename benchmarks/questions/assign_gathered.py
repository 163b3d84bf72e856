"""B3: many single calls of `assign_task` at once under asyncio, beside the bulk call."""

from __future__ import annotations

from collections.abc import Iterator

from ..bench import Bench
from ..figures import OURS, Figure, Goal, Missing, ratio
from ..processes import Segment, assign, stage
from ..question import Question
from ..subjects import COROUTINE, GATHER


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    count = bench.size(50_000, 1000)
    with stage(GATHER, []) as place:
        bare = assign(place, Segment(count, 0, 3600.0, 60.0), "gathered").rate
    yield Figure("gather of calls that store nothing", GATHER.name, bare, "calls/s")
    for persistence in ("none", "everysec"):
        suffix = "" if persistence == "none" else ", AOF everysec"
        rates = {}
        for mode in ("gathered", "bulk"):
            with bench.servers("B3", persistence=persistence) as servers, stage(COROUTINE, servers) as place:
                assign(place, Segment(1000, count, 3600.0, 60.0))
                rates[mode] = assign(place, Segment(count, 0, 3600.0, 60.0), mode).rate
        yield Figure(f"gather of assign_task{suffix}", OURS, rates["gathered"], "tasks/s")
        yield Figure(f"assign_tasks{suffix}", OURS, rates["bulk"], "tasks/s")
        yield ratio(f"gather{suffix}: of assign_tasks", OURS, rates["gathered"], rates["bulk"])


QUESTION = Question("B3", "gather of single assign_task calls", measure, [Goal("gather: of assign_tasks", 0.5)])
