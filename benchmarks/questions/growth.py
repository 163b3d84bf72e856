"""B9: what operations cost with few and with many tasks pending, at the same number of tasks a bucket."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from interval_scheduler import Scheduler

from ..adapter import Item, payload
from ..bench import DAY, Bench, Filled
from ..figures import OURS, Figure, Goal, Missing, Question, ratio
from ..ours.jobs import Job
from ..processes import Failed

_NEW = 1_000_000_000
"""Numbers of new tasks begin here, those of due ones as far above."""
OPERATIONS = ("assign", "peek", "remove", "claim and settle")
_TURNS = 3
_LONGEST_SECONDS = 60.0


@dataclass(slots=True)
class Cost:
    """Microseconds an operation takes: of the server in scripts, and on the wall."""

    server: float = 0.0
    wall: float = 0.0


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    few, many = (1000, bench.fills()[-1]) if bench.quick else (10_000, bench.largest)
    costs: dict[tuple[int, str], list[Cost]] = {}
    # The fewer tasks stand as close together as the many, so that their buckets are as full.
    places = [bench.filled(few, DAY * few / many), bench.filled(many, DAY)]
    for turn in range(_TURNS):
        for place in places:
            for operation, cost in _operations(bench, place, turn):
                costs.setdefault((place.count, operation), []).append(cost)
    for place in places:
        bench.remember("B9", place.server)
    for operation in OPERATIONS:
        least = {count: _least(costs[count, operation]) for count in (few, many)}
        for count, cost in least.items():
            yield Figure(f"{operation}, {count:,} pending: server", OURS, cost.server, "µs in scripts")
            yield Figure(f"{operation}, {count:,} pending: wall", OURS, cost.wall, "µs")
        yield ratio(f"{operation}: server, of that with few", OURS, least[many].server, least[few].server)
        yield ratio(f"{operation}: wall, of that with few", OURS, least[many].wall, least[few].wall)


def _least(costs: list[Cost]) -> Cost:
    """What it costs when nothing else disturbs: the least of the turns."""
    return Cost(min(cost.server for cost in costs), min(cost.wall for cost in costs))


def _operations(bench: Bench, place: Filled, turn: int) -> Iterator[tuple[str, Cost]]:
    """Does every operation some times, and leaves the server as it was."""
    count = bench.size(1000, 50)
    numbers = range(_NEW + turn * count, _NEW + (turn + 1) * count)
    step = place.seconds / count
    begin = time.time() + DAY
    jobs = [Job(Item(number, payload(number), begin + place_ * step)) for place_, number in enumerate(numbers)]
    known = random.Random(turn).choices(range(place.count), k=count)
    names = [f"user:{number:010d}" for number in known]
    with Scheduler({"storage": {"instances": [{"url": place.server.url, "name": "instance-0"}]}}) as scheduler:
        scheduler.start_task_accept()
        yield "assign", _cost(place, count, lambda: [scheduler.assign_task(job) for job in jobs])
        yield "peek", _cost(place, count, lambda: [scheduler.peek_task(name) for name in names])
        yield "remove", _cost(place, count, lambda: [scheduler.remove_task(job) for job in jobs])
        due = [Job(Item(number, payload(number), time.time())) for number in range(2 * _NEW, 2 * _NEW + count)]
        scheduler.assign_tasks(due)
        yield "claim and settle", _cost(place, count, lambda: _run_all(scheduler, count))


def _run_all(scheduler: Scheduler, count: int) -> None:
    """Runs `count` due tasks, and waits until they are settled.

    Raises:
        Failed: where they do not run.
    """
    done, through = 0, threading.Event()

    async def handler(_payload: str) -> None:
        nonlocal done
        done += 1
        if done == count:
            through.set()

    scheduler.start_task_execute(handler)
    if not through.wait(_LONGEST_SECONDS):
        raise Failed(f"only {done} of {count} due tasks ran")
    scheduler.stop_task_execute()


def _cost(place: Filled, count: int, act: Callable[[], object]) -> Cost:
    before, clock = place.server.scripts(), time.perf_counter()
    act()
    wall = time.perf_counter() - clock
    return Cost((place.server.scripts() - before).microseconds / count, wall * 1e6 / count)


QUESTION = Question(
    "B9",
    "growth",
    measure,
    [
        Goal(f"{operation}: {where}, of that with few", 1.25, 1.1, most=True)
        for operation in OPERATIONS
        for where in ("server", "wall")
    ],
    notes="Single calls one after another; claim and settle with start and stop of a worker.",
)
