"""Ten times more due work than the workers can do: memory stays flat, the oldest goes first, and leases live."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from contextlib import closing
from itertools import pairwise

from interval_scheduler.testing.history import Run
from tests.chaos.journal import Observed
from tests.chaos.stage import Stage
from tests.servers import Binary
from tests.tasks import Job

WORKERS = 2
CONCURRENCY = 5
WORK_SECONDS = 0.05
DUE_PER_SECOND = 10 * WORKERS * CONCURRENCY / WORK_SECONDS
SECONDS = 5.0
ASSIGN_SECONDS = 2.0
"""By then everything has been assigned, on a busy machine too."""
RECURRING = 20
INTERVAL = 1.0
SETTLED_SECONDS = 1.5
"""By then a worker has loaded what it needs."""
GROWTH_BYTES = 16 * 1024 * 1024
UNEVEN_SECONDS = 1.0
"""How far the most advanced partition may be ahead of the one that is furthest behind."""


def test_memory_order_and_leases_hold(server_binary: Binary) -> None:
    count = int(DUE_PER_SECOND * SECONDS)
    with closing(Stage(server_binary, concurrency=CONCURRENCY)) as stage, stage.scheduler() as scheduler:
        scheduler.start_task_accept()
        for kind in ("plain", "coroutine"):
            stage.start_worker(kind)
        for worker in stage.workers:
            worker.await_ready()
        begin = time.time() + ASSIGN_SECONDS
        work = {"version": 1, "work": WORK_SECONDS}
        jobs = [Job(f"t{number}", begin + number / DUE_PER_SECOND, payload=work) for number in range(count)]
        jobs += [Job(f"every{number}", begin, INTERVAL, payload=work) for number in range(RECURRING)]
        scheduler.assign_tasks(jobs)
        assert time.time() < begin, "what is assigned late cannot run in order"
        _run_until(begin + SETTLED_SECONDS)
        before = [worker.rss_bytes() for worker in stage.workers]
        _run_until(begin + SECONDS)
        after = [worker.rss_bytes() for worker in stage.workers]
        size = scheduler.task_size()
        observed = stage.read()
        for worker in stage.workers:
            stage.kill(worker)
        scheduler.clear_all_tasks()
        partitions = scheduler.options.partitions
    assert size > count / 2, "there was not too much to do, so nothing was tested"
    for old, new in zip(before, after, strict=True):
        assert new - old < GROWTH_BYTES
    _nothing_twice(observed)
    _oldest_first(observed.runs, partitions)
    _nobody_starves(observed.runs)


def _run_until(end: float) -> None:
    time.sleep(max(0.0, end - time.time()))  # the overload lasts


def _nothing_twice(observed: Observed) -> None:
    """No lease lapsed, however much waited: every occurrence was run once, and none was told that it lost its lease."""
    assert set(Counter((run.id, run.due) for run in observed.runs).values()) == {1}
    assert observed.events_named("lease-lost") == []


def _oldest_first(runs: list[Run], partitions: int) -> None:
    """Claims take the oldest of a partition, and partitions get on alike."""
    by_partition: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        by_partition[run.partition].append(run)
    assert len(by_partition) == partitions
    for of_one in by_partition.values():
        of_one.sort(key=lambda run: run.token)
        assert all(first.due <= second.due for first, second in pairwise(of_one)), "claimed out of order"
    fronts = [of_one[-1].due / 1000 for of_one in by_partition.values()]
    assert max(fronts) - min(fronts) < UNEVEN_SECONDS


def _nobody_starves(runs: list[Run]) -> None:
    """What recurs gets its turn among all that is due, however long that queue is."""
    started = {run.id for run in runs}
    assert {f"every{number}" for number in range(RECURRING)} <= started
