"""B8: bytes of server memory a pending task, beside the peers and the bytes of id and payload themselves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..adapter import payload
from ..bench import DAY, Bench, attempt
from ..figures import OURS, Figure, Goal, Missing
from ..processes import Client, Segment, stage
from ..question import Question
from ..subjects import Subject

_WARM = 100


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    if bench.repetition == 0:  # ours does not vary, and ten million take long
        yield Figure("id and payload alone", "raw bytes", len("user:0000000000") + len(payload(0)), "B/task")
        for count in bench.fills():
            filled = bench.filled(count, DAY)
            yield Figure(f"{count:,} pending", OURS, filled.bytes_per_task, "B/task")
            yield Figure(f"{count:,} pending: filling", OURS, filled.rate, "tasks/s")
    count = bench.size(100_000, 1000)
    if bench.asks_peers:
        for peer in bench.peers:
            yield from attempt(f"{count:,} pending", peer, partial(_peer, bench, peer, count))


def _peer(bench: Bench, peer: Subject, count: int) -> Iterator[Figure]:
    with bench.servers("") as servers, stage(peer, servers) as place:
        segments = [Segment(_WARM, count, DAY, DAY), Segment(count, 0, DAY, DAY)]
        client = Client(place, segments, "bulk")
        try:
            # The client is connected and idle when memory is read, both times.
            client.answer()
            before = servers[0].memory()
            client.go_on()
            client.answer(900.0)
            grown = servers[0].memory() - before
        finally:
            client.close()
    yield Figure(f"{count:,} pending", peer.name, grown / count, "B/task")


QUESTION = Question(
    "B8",
    "memory a pending task",
    measure,
    [Goal(f"{count:,} pending", 235, 195, most=True) for count in (100_000, 1_000_000, 10_000_000)],
    notes="Growth of `used_memory`; ids `user:<10 digits>`, due uniformly over 24 hours, default options. Once.",
)
