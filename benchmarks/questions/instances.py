"""B12: several instances: what they cost, how even their shares are, and that operations keep to one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from interval_scheduler import Scheduler

from ..adapter import Item, payload
from ..bench import Bench
from ..figures import OURS, Figure, Goal, Missing
from ..ours.jobs import Job
from ..processes import Failed, Segment, assign, stage, workers
from ..question import Question
from ..servers import Server
from ..stalls import Sleeper
from ..subjects import COROUTINE

_LONGEST_SECONDS = 60.0


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    for count in (1, 2, 4):
        yield from _measure(bench, count)


def _measure(bench: Bench, instances: int) -> Iterator[Figure]:
    count = bench.size(50_000, 2000)
    name = f"{instances} instance{'s' if instances > 1 else ''}"
    with bench.servers("B12", instances) as servers, stage(COROUTINE, servers) as place:
        assigned = assign(place, Segment(count, 0, bench.lead(COROUTINE, count)))
        spent = sum(server.scripts().microseconds for server in servers)
        yield Figure(f"{name}: assign", OURS, assigned.rate, "tasks/s")
        yield Figure(f"{name}: assign, all servers", OURS, spent / count, "µs/task in scripts")
        yield Figure(f"{name}: share of tasks, furthest from even", OURS, _unevenness(servers) * 100, "%")
        yield Figure(f"{name}: calls of an operation on one task", OURS, _calls_per_operation(bench, servers), "calls")
        Sleeper().until(assigned.due)
        before = sum(server.scripts().microseconds for server in servers)
        with workers(place) as running:
            running.records.poll()
            running.wait_for(count, _LONGEST_SECONDS)
            starts = running.records.starts(0, count)
            spent = sum(server.scripts().microseconds for server in servers) - before
        if len(starts) < count:
            raise Failed(f"{count - len(starts)} of {count} tasks did not run")
        times = [moment for moments in starts.values() for moment in moments]
        yield Figure(f"{name}: run", OURS, (len(times) - 1) / (max(times) - min(times)), "tasks/s")
        yield Figure(f"{name}: run, all servers", OURS, spent / count, "µs/task in scripts")


def _options(servers: Sequence[Server]) -> dict[str, object]:
    """The options that workers and clients of the measurement have, too."""
    instances = [{"url": server.url, "name": f"instance-{number}"} for number, server in enumerate(servers)]
    return {"storage": {"instances": instances}}


def _unevenness(servers: Sequence[Server]) -> float:
    """How far the tasks per partition of an instance are from those of all, at most."""
    with Scheduler(_options(servers)) as scheduler:
        partitions = scheduler.stats().partitions
    mean = sum(each.scheduled for each in partitions) / len(partitions)
    furthest = 0.0
    for instance in {each.instance for each in partitions}:
        own = [each.scheduled for each in partitions if each.instance == instance]
        furthest = max(furthest, abs(sum(own) / len(own) / mean - 1))
    return furthest


def _calls_per_operation(bench: Bench, servers: Sequence[Server]) -> float:
    """Calls of scripts on all instances, for each operation on a single task: 1 where none touches two instances."""
    count = bench.size(300, 50)
    due = time.time() + 3600
    jobs = [Job(Item(number, payload(number), due)) for number in range(10**9, 10**9 + count)]
    with Scheduler(_options(servers)) as scheduler:
        scheduler.start_task_accept()
        _operate(scheduler, jobs)  # connects, and brings the scripts
        before = sum(server.scripts().calls for server in servers)
        _operate(scheduler, jobs)
        calls = sum(server.scripts().calls for server in servers) - before
    return calls / (4 * count)


def _operate(scheduler: Scheduler, jobs: Sequence[Job]) -> None:
    """Four operations on every task, after which it is gone again."""
    for job in jobs:
        scheduler.assign_task(job)
        scheduler.peek_task(job)
        scheduler.reschedule_task(job, delay=7200)
        scheduler.remove_task(job)


QUESTION = Question(
    "B12",
    "several instances",
    measure,
    [
        goal
        for name in ("1 instance", "2 instances", "4 instances")
        for goal in (
            Goal(f"{name}: share of tasks, furthest from even", 5.0, most=True),
            Goal(f"{name}: calls of an operation on one task", 1.0, most=True),
        )
    ],
    notes="All servers share the cores of this machine: what the server spends counts here, not the rates.",
)
