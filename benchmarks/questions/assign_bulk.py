"""B2: assigning in bulk from one process, beside pairs of HSET and SADD over a raw socket."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..bench import Bench, attempt
from ..figures import OURS, Figure, Goal, Missing, ratio
from ..processes import Segment, assign, stage
from ..question import Question
from ..servers import PERSISTENCE
from ..subjects import PLAIN, RAW_SOCKET, Subject

SPREADS = (("due in one minute", 60.0), ("due over 24 hours", 24 * 3600.0))


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    count = bench.size(200_000, 2000)
    for persistence in PERSISTENCE:
        suffix = "" if persistence == "none" else ", AOF everysec"
        with bench.servers("", 1, persistence) as servers, stage(RAW_SOCKET, servers) as place:
            limit = assign(place, Segment(count)).rate
        yield Figure(f"bulk{suffix}", RAW_SOCKET.name, limit, "pairs/s")
        for due, spread in SPREADS:
            name = f"bulk, {due}{suffix}"
            with bench.servers("B2", 1, persistence) as servers, stage(PLAIN, servers) as place:
                # Connections and scripts are there before the count starts.
                assign(place, Segment(1000, count, 3600.0, spread))
                before = servers[0].scripts()
                done = assign(place, Segment(count, 0, 3600.0, spread))
                used = servers[0].scripts() - before
            yield Figure(name, OURS, done.rate, "tasks/s")
            yield ratio(f"{name}: of the raw socket", OURS, done.rate, limit)
            yield Figure(f"{name}: client", OURS, done.cpu / count * 1e6, "µs CPU/task")
            yield Figure(f"{name}: server", OURS, used.microseconds / count, "µs/task in scripts")
    if bench.asks_peers:
        for peer in bench.peers:
            yield from attempt("bulk", peer, partial(_peer, bench, peer))


def _peer(bench: Bench, peer: Subject) -> Iterator[Figure]:
    with bench.servers("") as servers, stage(peer, servers) as place:
        rate = assign(place, Segment(bench.size(10_000, 200)), "bulk").rate
    yield Figure("bulk", peer.name, rate, "tasks/s")


QUESTION = Question(
    "B2",
    "assign in bulk, one process",
    measure,
    [
        Goal("bulk, due in one minute", 150_000),
        Goal("bulk, due in one minute: of the raw socket", 0.5, 0.7),
    ],
)
