"""B6: how long after its due time a job starts, at several rates and with several workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from interval_scheduler.protocol import keys
from tests.waiting import comes_true

from ..bench import NAMESPACE, PARTITIONS, Bench, attempt
from ..figures import OURS, Figure, Goal, Missing, percentile, ratio
from ..processes import Failed, Segment, assign, stage, workers
from ..question import Question
from ..servers import Server
from ..stalls import Sleeper
from ..subjects import COROUTINE, TIMER, TIMERS_IN_MEMORY, Subject

RATES = (100, 1000, 10_000)
SCHEDULERS_PER_PROCESS = 10
EARLY_MS = 1.0
"""Clocks are read in two processes of one machine: what starts earlier than this before its time is early."""
_STRETCH = 1.000618
"""Makes steps of no whole milliseconds, so that due times fall on all fractions of one alike: a scheduler that keeps
whole ones would else be early or late by the same part of one all the time, another part in every run."""
_PEER_RATES = (100, 1000)
"""Peers are not measured at the highest rate, which none of them takes."""


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    late: dict[tuple[str, str], float] = {}
    for rate in RATES:
        for subject in (COROUTINE, TIMER, *_in_memory(bench)):
            name = OURS if subject is COROUTINE else subject.name
            figures = list(attempt(f"{rate:,}/s", subject, partial(_lateness, bench, subject, name, rate)))
            late |= {(each.what, each.subject): each.value for each in figures if isinstance(each, Figure)}
            yield from figures
        for label in ("p50", "p99"):
            what = f"{rate:,}/s: {label}"
            if (what, OURS) in late and (what, TIMERS_IN_MEMORY.name) in late:
                yield ratio(
                    f"{what}, of {TIMERS_IN_MEMORY.name}", OURS, late[what, OURS], late[what, TIMERS_IN_MEMORY.name]
                )
    durable = partial(_lateness, bench, COROUTINE, OURS, bench.size(1000, 200), persistence="everysec")
    yield from attempt("AOF everysec", COROUTINE, durable)
    for count in (10, 100):
        rate = bench.size(1000, 200)
        crowd = partial(_lateness, bench, COROUTINE, OURS, rate, count)
        yield from attempt(f"{rate:,}/s, {count} workers", COROUTINE, crowd)
    if bench.asks_peers:
        for rate in _PEER_RATES:
            for peer in bench.peers:
                yield from attempt(f"{rate:,}/s", peer, partial(_lateness, bench, peer, peer.name, rate))


def _in_memory(bench: Bench) -> Iterator[Subject]:
    """Timers of a library in memory, for the rates that it can take."""
    if any(peer.peer is TIMERS_IN_MEMORY.peer for peer in bench.peers):
        yield TIMERS_IN_MEMORY


@dataclass(frozen=True, slots=True)
class _Observed:
    """What happened to `jobs` jobs whose due times are `step` seconds apart, from `due` on."""

    jobs: int
    due: float
    step: float
    starts: dict[int, list[float]]
    """By number of the job, the unix time of every start."""
    stall: float
    """The longest stall of the machine, in seconds."""
    calls: int
    """Calls of scripts, of all workers."""

    def late_ms(self) -> list[float]:
        """Start minus due time of every start, in milliseconds."""
        return [
            (moment - self.due - number * self.step) * 1000
            for number, moments in self.starts.items()
            for moment in moments
        ]


def _lateness(
    bench: Bench, subject: Subject, name: str, rate: int, count: int = 1, persistence: str = "none"
) -> Iterator[Figure]:
    """The figures of `count` workers at a rate."""
    seen = _observe(bench, subject, rate, count, persistence)
    late = seen.late_ms()
    if not late:
        raise Failed("none of the jobs ran")
    what = f"{rate:,}/s" + (f", {count} workers" if count > 1 else "")
    what += "" if persistence == "none" else ", AOF everysec"
    for share, label in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
        yield Figure(f"{what}: {label}", name, percentile(late, share), "ms late")
    yield Figure(f"{what}: longest stall of the machine", name, seen.stall * 1000, "ms")
    yield Figure(f"{what}: early", name, sum(moment < -EARLY_MS for moment in late), "tasks")
    yield Figure(f"{what}: lost", name, seen.jobs - len(seen.starts), "tasks")
    yield Figure(f"{what}: twice", name, len(late) - len(seen.starts), "tasks")
    if subject is COROUTINE:
        yield Figure(f"{what}: calls of scripts", name, seen.calls / seen.jobs, "per task")


def _observe(bench: Bench, subject: Subject, rate: int, count: int, persistence: str) -> _Observed:
    """Assigns jobs that are due at an even rate to running workers, and watches them."""
    seconds = (10.0 if rate <= 1000 else 4.0) / (10 if bench.quick else 1)
    jobs = int(rate * seconds)
    seconds *= _STRETCH
    lead = jobs / 5000 + 2.0 if subject in (TIMER, TIMERS_IN_MEMORY) else bench.lead(subject, jobs)
    schedulers = min(count, SCHEDULERS_PER_PROCESS)
    with (
        bench.servers("B6" if subject is COROUTINE else "", persistence=persistence) as [server],
        stage(subject, [server], schedulers=schedulers) as place,
        workers(place, max(1, count // schedulers)) as running,
    ):
        running.warm()
        if count > 1:
            _await_all(server, count)
        assigned = assign(place, Segment(jobs, 0, lead, seconds))
        before = server.scripts().calls
        end = assigned.due + seconds + 30
        sleeper = Sleeper()
        sleeper.until(assigned.due + seconds + 1.5)
        while time.time() < end and running.records.poll() <= jobs:
            sleeper.nap()
        calls = server.scripts().calls - before
        starts = running.records.starts(0, jobs)
    return _Observed(jobs, assigned.due, seconds / jobs, starts, sleeper.longest, calls)


def _await_all(server: Server, count: int) -> None:
    """Waits until all workers have started and know each other: two of them listen for every partition."""
    channels = [keys.hint_channel(NAMESPACE, partition) for partition in range(PARTITIONS)]

    def is_up() -> bool:
        listeners = server.listeners(channels)
        return server.client.zcard(keys.workers(NAMESPACE)) == count and all(number == 2 for number in listeners)

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
