"""Crash: what is lost when the only worker is killed midway, and how long it takes until everything ran."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from tests.waiting import comes_true

from ..bench import Bench, attempt
from ..figures import OURS, Figure, Goal, Missing
from ..processes import Failed, Segment, assign, stage, workers
from ..question import Question
from ..stalls import Sleeper
from ..subjects import COROUTINE, Subject

JOB_SECONDS = 0.02
CONCURRENCY = 10
RECOVERY_SECONDS = 5.0
_LONGEST_SECONDS = 60.0


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    lease = f"leases of {RECOVERY_SECONDS:g} s"
    for what, recovery in (("default options", 0.0), (lease, RECOVERY_SECONDS)):
        yield from attempt(what, COROUTINE, partial(_crash, bench, COROUTINE, OURS, what, recovery))
    if bench.asks_peers:
        for peer in bench.peers:
            yield from attempt(lease, peer, partial(_crash, bench, peer, peer.name, lease, RECOVERY_SECONDS))


def _crash(bench: Bench, subject: Subject, name: str, what: str, recovery: float) -> Iterator[Figure]:
    count = bench.size(500, 60)
    with (
        bench.servers("") as servers,
        stage(subject, servers, job_seconds=JOB_SECONDS, recovery_seconds=recovery, concurrency=CONCURRENCY) as place,
    ):
        assigned = assign(place, Segment(count, 0, bench.lead(subject, count)))
        Sleeper().until(assigned.due)
        with workers(place) as running:
            half = count // 2
            if not comes_true(lambda: len(running.records.starts(0, count)) >= half, _LONGEST_SECONDS, pause=0.005):
                raise Failed("the worker does not start half of the jobs")
            running.kill()
            killed = time.time()
            under_way = len(running.records.starts(0, count)) - len(running.records.ends(0, count))
            running.start()
            comes_true(lambda: len(running.records.ends(0, count)) >= count, _LONGEST_SECONDS, pause=0.1)
            # A job that runs once more does so a little later: wait before counting.
            Sleeper().until(time.time() + bench.size(3, 1))
            starts, ends = running.records.starts(0, count), running.records.ends(0, count)
    yield Figure(f"{what}: lost", name, count - len(ends), "tasks")
    yield Figure(f"{what}: under way at the kill", name, under_way, "tasks")
    yield Figure(f"{what}: started again", name, sum(len(times) > 1 for times in starts.values()), "tasks")
    yield Figure(f"{what}: finished twice", name, sum(len(times) > 1 for times in ends.values()), "tasks")
    if len(ends) == count:
        yield Figure(f"{what}: kill to last end", name, max(min(times) for times in ends.values()) - killed, "s")


QUESTION = Question(
    "crash",
    "SIGKILL of the only worker midway",
    measure,
    [
        Goal("default options: lost", 0, most=True),
        Goal(f"leases of {RECOVERY_SECONDS:g} s: lost", 0, most=True),
    ],
    notes="500 due tasks of 20 ms, 10 at once; a new worker at once; lost: not finished within 60 s.",
)
