"""B1: assigning one task a call, beside a bare EVALSHA of the same size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..bench import Bench, attempt
from ..figures import OURS, Figure, Goal, Missing, ratio
from ..processes import Segment, assign, stage
from ..question import Question
from ..servers import PERSISTENCE
from ..subjects import COROUTINE, EVALSHA, EVALSHA_ASYNC, PLAIN, Subject

KINDS = (("blocking", PLAIN, EVALSHA), ("asyncio", COROUTINE, EVALSHA_ASYNC))
ROUNDS = 4
"""Ours and the limit take turns, so that what else the machine does hits both alike."""


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    for persistence in PERSISTENCE:
        suffix = "" if persistence == "none" else ", AOF everysec"
        for kind, ours, limit in KINDS:
            rates = _in_turns(bench, ours, limit, persistence)
            name = f"one call at a time, {kind}{suffix}"
            yield Figure(name, OURS, rates[ours], "tasks/s")
            yield Figure(name, limit.name, rates[limit], "calls/s")
            yield ratio(f"{name}: of a bare EVALSHA", OURS, rates[ours], rates[limit])
    if bench.asks_peers:
        for peer in bench.peers:
            yield from attempt("one call at a time", peer, partial(_peer, bench, peer))


def _peer(bench: Bench, peer: Subject) -> Iterator[Figure]:
    with bench.servers("") as servers, stage(peer, servers) as place:
        rate = assign(place, Segment(bench.size(2_000, 100)), "one").rate
    yield Figure("one call at a time", peer.name, rate, "tasks/s")


def _in_turns(bench: Bench, ours: Subject, limit: Subject, persistence: str) -> dict[Subject, float]:
    count, rounds = bench.size(5000, 200), bench.size(ROUNDS, 1)
    seconds = {ours: 0.0, limit: 0.0}
    with bench.servers("B1", 1, persistence) as mine, bench.servers("", 1, persistence) as others:
        for turn in range(rounds):
            for subject, servers in ((ours, mine), (limit, others)):
                with stage(subject, servers) as place:
                    seconds[subject] += assign(place, Segment(count, turn * count, 3600.0, 3600.0), "one").seconds
    return {subject: rounds * count / spent for subject, spent in seconds.items()}


QUESTION = Question(
    "B1",
    "assign, one call at a time",
    measure,
    [
        Goal("one call at a time, blocking: of a bare EVALSHA", 0.8, 0.95),
        Goal("one call at a time, asyncio: of a bare EVALSHA", 0.8, 0.95),
    ],
)
