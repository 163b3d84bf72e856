"""B10: what a worker and its server do while nothing is due."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from functools import partial

from ..bench import Bench, attempt
from ..figures import OURS, Figure, Goal, Missing
from ..processes import Segment, assign, stage, workers
from ..question import Question
from ..servers import Server
from ..subjects import COROUTINE, Subject


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    yield from attempt("idle", COROUTINE, partial(_idle, bench, COROUTINE, OURS, bench.size(1_000_000, 2000)))
    if bench.asks_peers:
        for peer in bench.peers:
            yield from attempt("idle", peer, partial(_idle, bench, peer, peer.name, bench.size(10_000, 100)))


def _idle(bench: Bench, subject: Subject, name: str, count: int) -> Iterator[Figure]:
    with bench.servers("") as servers, stage(subject, servers) as place:
        [server] = servers
        assign(place, Segment(count, 0, 3600.0, 60.0))
        with workers(place) as running:
            running.warm()
            _await_rest(server, bench.size(2, 1))
            seconds = bench.size(20, 2)
            worker, used, clock = running.cpu(), server.cpu(), time.perf_counter()
            commands = commands_of_clients(server, seconds)
            spent = time.perf_counter() - clock
            worker, used = running.cpu() - worker, server.cpu() - used
    yield Figure("commands of one idle worker", name, commands / spent, "per second")
    yield Figure("CPU of one idle worker", name, worker / spent * 100, "%")
    yield Figure("CPU of the server", name, used / spent * 100, "%")


def _await_rest(server: Server, seconds: int) -> None:
    """Waits until a worker sends no fewer commands than just before: start-up, and fetching ahead, are over."""
    before = commands_of_clients(server, seconds)
    while (now := commands_of_clients(server, seconds)) < before:
        before = now


def commands_of_clients(server: Server, seconds: float) -> int:
    """How many commands clients send in that time; not those inside scripts."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"MONITOR\r\n")
        seen = b""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                seen += connection.recv(1 << 16)
            except TimeoutError:
                break
    lines = seen.split(b"\r\n")[1:]
    return sum(1 for line in lines if line.startswith(b"+") and b" lua] " not in line[:60])


QUESTION = Question(
    "B10",
    "idle",
    measure,
    [
        Goal("commands of one idle worker", 1.0, most=True),
        Goal("CPU of one idle worker", 0.5, most=True),
    ],
    notes="Ours with 1,000,000 tasks pending an hour ahead, peers with 10,000.",
)
