"""B6: how long after its due time a job starts, at several rates and with several workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from interval_scheduler import Options
from interval_scheduler.protocol import keys
from tests.waiting import comes_true

from ..bench import Bench, attempted
from ..figures import OURS, Figure, Goal, Missing, percentile, ratio
from ..processes import Failed, Segment, assign, stage, workers
from ..question import Question
from ..servers import Server
from ..stalls import Sleeper
from ..subjects import COROUTINE, TIMER, TIMERS_IN_MEMORY, Subject

RATES = (100, 1000, 10_000)
SCHEDULERS_PER_PROCESS = 10
_DEFAULTS = Options()
EARLY_MS = 1.0
"""Clocks are read in two processes of one machine: what starts earlier than this before its time is early."""
_STRETCH = 1.000618
"""Makes steps of no whole milliseconds, so that due times fall on all fractions of one alike: a scheduler that keeps
whole ones would else be early or late by the same part of one all the time, another part in every run."""
_SLOW_PEERS_RATE = 1000
"""The highest rate that peers are measured at."""


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    late: dict[tuple[str, str], float] = {}
    for rate in RATES:
        for subject in (COROUTINE, TIMER, *_in_memory(bench)):
            name = OURS if subject is COROUTINE else subject.name
            figures = list(attempted(f"{rate:,}/s", subject, partial(_lateness, bench, subject, name, rate, 1)))
            late |= {(each.what, each.subject): each.value for each in figures if isinstance(each, Figure)}
            yield from figures
        for label in ("p50", "p99"):
            what = f"{rate:,}/s: {label}"
            if (what, OURS) in late and (what, TIMERS_IN_MEMORY.name) in late:
                yield ratio(
                    f"{what}, of {TIMERS_IN_MEMORY.name}", OURS, late[what, OURS], late[what, TIMERS_IN_MEMORY.name]
                )
    durable = partial(_lateness, bench, COROUTINE, OURS, bench.size(1000, 200), 1, "everysec")
    yield from attempted("AOF everysec", COROUTINE, durable)
    for count in (10, 100):
        rate = bench.size(1000, 200)
        yield from attempted(f"{rate:,}/s, {count} workers", COROUTINE, partial(_crowd, bench, rate, count))
    if bench.asks_peers:
        for rate in RATES:
            for peer in bench.peers:
                if rate <= _SLOW_PEERS_RATE:
                    yield from attempted(f"{rate:,}/s", peer, partial(_lateness, bench, peer, peer.name, rate, 1))


def _in_memory(bench: Bench) -> Iterator[Subject]:
    """Timers of a library in memory, for the rates that it can take."""
    if any(peer.peer is TIMERS_IN_MEMORY.peer for peer in bench.peers):
        yield TIMERS_IN_MEMORY


def _crowd(bench: Bench, rate: int, count: int) -> Iterator[Figure]:
    yield from _lateness(bench, COROUTINE, OURS, rate, count)


def _lateness(
    bench: Bench, subject: Subject, name: str, rate: int, count: int, persistence: str = "none"
) -> Iterator[Figure]:
    seconds = 10.0 if rate <= 1000 else 4.0
    seconds = seconds / 10 if bench.quick else seconds
    jobs = int(rate * seconds)
    seconds *= _STRETCH
    lead = jobs / 5000 + 2.0 if subject in (TIMER, TIMERS_IN_MEMORY) else bench.lead(subject, jobs)
    schedulers = min(count, SCHEDULERS_PER_PROCESS)
    ours = subject is COROUTINE
    with (
        bench.servers("B6" if ours else "", persistence=persistence) as servers,
        stage(subject, servers, schedulers=schedulers, count_calls=ours) as place,
        workers(place, max(1, count // schedulers)) as running,
    ):
        running.warm()
        if count > 1:
            _all_up(servers[0], count)
        assigned = assign(place, Segment(jobs, 0, lead, seconds))
        before = running.calls()
        end = assigned.due + seconds + 30
        sleeper = Sleeper()
        sleeper.until(assigned.due + seconds + 1.5)
        while time.time() < end and running.records.poll() <= jobs:
            sleeper.nap()
        calls = running.calls() - before
        starts = running.records.starts(0, jobs)
    step = seconds / jobs
    late = [(moment - assigned.due - number * step) * 1000 for number, all_ in starts.items() for moment in all_]
    what = f"{rate:,}/s" + (f", {count} workers" if count > 1 else "")
    what += "" if persistence == "none" else ", AOF everysec"
    for share, label in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
        yield Figure(f"{what}: {label}", name, percentile(late, share), "ms late")
    yield Figure(f"{what}: longest stall of the machine", name, sleeper.longest * 1000, "ms")
    yield Figure(f"{what}: early", name, sum(moment < -EARLY_MS for moment in late), "tasks")
    yield Figure(f"{what}: lost", name, jobs - len(starts), "tasks")
    yield Figure(f"{what}: twice", name, sum(len(all_) - 1 for all_ in starts.values()), "tasks")
    if ours:
        yield Figure(f"{what}: claims", name, calls["claim"] / jobs, "per task")
        yield Figure(f"{what}: settles", name, calls["settle"] / jobs, "per task")


def _all_up(server: Server, count: int) -> None:
    """Waits until all workers have started and heard of each other: two of them listen for every partition."""
    namespace = _DEFAULTS.namespace
    channels = [keys.hint_channel(namespace, partition) for partition in range(_DEFAULTS.partitions)]

    def is_up() -> bool:
        heard: Any = server.client.pubsub_numsub(*channels)
        return server.client.zcard(keys.workers(namespace)) == count and all(times == 2 for _, times in heard)

    if not comes_true(is_up, 60, pause=0.1):
        raise Failed(f"{count} workers were not up within a minute")


QUESTION = Question(
    "B6",
    "lateness",
    measure,
    [
        goal
        for rate in ("100/s", "1,000/s")
        for goal in (
            Goal(f"{rate}: p50", 1.0, most=True),
            Goal(f"{rate}: p99", 3.0, most=True),
            Goal(f"{rate}: early", 0, most=True),
            Goal(f"{rate}: lost", 0, most=True),
            Goal(f"{rate}: twice", 0, most=True),
        )
    ]
    + [Goal("10,000/s: p99", 20.0, most=True)]
    + [Goal(f"{rate:,}/s: p99, of {TIMERS_IN_MEMORY.name}", None, 1.0, most=True) for rate in RATES],
)
