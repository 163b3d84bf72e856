"""B9: what operations cost with few and with many tasks pending, at the same number of tasks a bucket."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from interval_scheduler import Scheduler
from interval_scheduler.core.placement import partition_of
from interval_scheduler.protocol import keys

from ..adapter import Item, payload
from ..bench import BUCKET_SECONDS, DAY, NAMESPACE, PARTITIONS, Bench, Filled
from ..figures import OURS, Figure, Goal, Missing, ratio
from ..machine import separate_cores
from ..ours.jobs import Job
from ..processes import Failed
from ..question import Question

_NEW = 1_000_000_000
"""Numbers of new tasks begin here."""
OPERATIONS = ("assign", "peek", "remove", "claim and settle")
BARE = "bare HGET"
_LONGEST_SECONDS = 60.0


class _Place:
    """A filled server, and what operations cost there, in microseconds: of the server, and on the wall.

    Tasks that are assigned, removed or looked at are in full buckets: those whose whole range was filled.
    """

    def __init__(self, filled: Filled, scheduler: Scheduler) -> None:
        self.filled = filled
        self.server: dict[str, list[float]] = {}
        self.wall: dict[str, list[float]] = {}
        self._scheduler = scheduler
        self._random = random.Random(filled.count)
        self._seconds = filled.seconds // BUCKET_SECONDS * BUCKET_SECONDS
        self._known = int(filled.count * self._seconds / filled.seconds)
        self._number = _NEW

    def round(self, count: int) -> None:
        """Does each of the single operations `count` times, and leaves the server as it was."""
        spans = [self._random.random() * self._seconds for _ in range(count)]
        jobs = self._jobs([self.filled.begin + span for span in spans])
        names = [f"user:{number:010d}" for number in self._random.choices(range(self._known), k=count)]
        scheduler, client = self._scheduler, self.filled.server.client
        self._note("assign", count, lambda: [scheduler.assign_task(job) for job in jobs])
        self._note("peek", count, lambda: [scheduler.peek_task(name) for name in names])
        hashes = [_tasks_key(name) for name in names]
        records: list[object] = []
        self._note(BARE, count, lambda: records.extend(map(client.hget, hashes, names)), command="hget")
        if None in records:
            raise Failed("a record is missing: the bare HGET looked in the wrong hash")
        self._note("remove", count, lambda: [scheduler.remove_task(job) for job in jobs])

    def run_due(self, count: int) -> None:
        """Claims and settles `count` tasks that are due."""
        self._scheduler.assign_tasks(self._jobs([time.time()] * count))
        self._note("claim and settle", count, lambda: _run_all(self._scheduler, count))

    def _jobs(self, dues: Sequence[float]) -> list[Job]:
        self._number += len(dues)
        return [Job(Item(self._number - place, payload(self._number - place), due)) for place, due in enumerate(dues)]

    def _note(self, operation: str, count: int, act: Callable[[], object], command: str = "evalsha") -> None:
        before, clock = self.filled.server.spent(command), time.perf_counter()
        act()
        wall = time.perf_counter() - clock
        spent = self.filled.server.spent(command) - before
        self.server.setdefault(operation, []).append(spent.microseconds / count)
        self.wall.setdefault(operation, []).append(wall * 1e6 / count)


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    few, many = (1000, bench.fills()[-1]) if bench.quick else (10_000, bench.largest)
    # The fewer tasks stand as close together as the many, so that their buckets are as full.
    filled = [bench.filled(few, DAY * few / many), bench.filled(many, DAY)]
    with ExitStack() as stack:
        # The core they run on changes the time of a call by more than the difference that is measured here.
        stack.enter_context(separate_cores([place.server.pid for place in filled]))
        places = [_Place(place, stack.enter_context(_scheduler(place))) for place in filled]
        for turn in range(bench.size(100, 2)):
            for place in places if turn % 2 else reversed(places):
                place.round(50)
        for _ in range(bench.size(6, 1)):
            for place in places:
                place.run_due(bench.size(1000, 50))
    for place in places:
        bench.remember("B9", place.filled.server)
    for operation in (*OPERATIONS, BARE):
        subject = BARE if operation == BARE else OURS
        what = "read a record" if operation == BARE else operation
        server = [statistics.median(place.server[operation]) for place in places]
        wall = [statistics.median(place.wall[operation]) for place in places]
        for place, spent, taken in zip(places, server, wall, strict=True):
            yield Figure(f"{what}, {place.filled.count:,} pending: server", subject, spent, "µs")
            yield Figure(f"{what}, {place.filled.count:,} pending: wall", subject, taken, "µs")
        yield ratio(f"{what}: server, of that with few", subject, server[1], server[0])
        yield ratio(f"{what}: wall, of that with few", subject, wall[1], wall[0])


def _tasks_key(name: str) -> str:
    """The hash that has the record of a task."""
    partition = partition_of(name.encode(), PARTITIONS)
    return keys.of_partition(keys.meta(NAMESPACE, partition), keys.TASKS)


def _scheduler(place: Filled) -> Scheduler:
    scheduler = Scheduler({"storage": {"instances": [{"url": place.server.url, "name": "instance-0"}]}})
    scheduler.start_task_accept()
    return scheduler


def _run_all(scheduler: Scheduler, count: int) -> None:
    """Runs `count` due tasks, and waits until they are settled.

    Raises:
        Failed: they do not run.
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


QUESTION = Question(
    "B9",
    "growth",
    measure,
    [
        Goal(f"{operation}: {where}, of that with few", 1.25, 1.1, most=True)
        for operation in OPERATIONS
        for where in ("server", "wall")
    ],
    notes="Single calls, by turns on both servers, which share one core; the client has another. Claim and settle with "
    "start and stop of a worker.",
)
