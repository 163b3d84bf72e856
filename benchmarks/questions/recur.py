"""B5: recurring tasks: claimed, run and rescheduled, beside tasks that run once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..bench import Bench, attempt
from ..figures import OURS, Figure, Goal, Missing, ratio
from ..question import Question
from ..servers import PERSISTENCE
from ..subjects import COROUTINE
from .draining import drain


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    for persistence in PERSISTENCE:
        yield from attempt("claim, run, reschedule", COROUTINE, partial(_measure, bench, persistence))


def _measure(bench: Bench, persistence: str) -> Iterator[Figure]:
    suffix = "" if persistence == "none" else ", AOF everysec"
    count = bench.size(100_000, 1000)
    once = drain(bench, "", COROUTINE, count, persistence=persistence)
    again = drain(bench, "B5", COROUTINE, count, "recurring_bulk", persistence)
    name = f"claim, run, reschedule{suffix}"
    yield Figure(name, OURS, again.rate, "tasks/s")
    yield ratio(f"{name}: of running once", OURS, again.rate, once.rate)
    yield Figure(f"{name}: worker", OURS, again.worker_cpu, "µs CPU/task")
    yield Figure(f"{name}: server", OURS, again.server_cpu, "µs CPU/task")


QUESTION = Question("B5", "recurring tasks", measure, [Goal("claim, run, reschedule: of running once", 0.8)])
