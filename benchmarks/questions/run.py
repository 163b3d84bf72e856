"""B4: running due tasks that do nothing: at least once, token checked, settled; beside the peers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from interval_scheduler import Scheduler
from tests.waiting import comes_true

from ..bench import Bench, attempt
from ..figures import OURS, Figure, Goal, Missing
from ..processes import Failed
from ..question import Question
from ..servers import Server
from ..subjects import COROUTINE, PLAIN, UVLOOP, Subject
from .draining import drain

HANDLERS = (
    ("coroutine", COROUTINE, "none"),
    ("plain function", PLAIN, "none"),
    ("coroutine on uvloop", UVLOOP, "none"),
    ("coroutine, AOF everysec", COROUTINE, "everysec"),
)


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    count = bench.size(100_000, 1000)
    for handler, subject, persistence in HANDLERS:
        yield from attempt(
            f"run due tasks, {handler}", subject, partial(_ours, bench, handler, subject, persistence, count)
        )
    if bench.asks_peers:
        for peer in bench.peers:
            yield from attempt("run due tasks", peer, partial(_peer, bench, peer))


def _ours(bench: Bench, handler: str, subject: Subject, persistence: str, count: int) -> Iterator[Figure]:
    done = drain(bench, "B4", subject, count, persistence=persistence, afterwards=_all_settled)
    name = f"run due tasks, {handler}"
    yield Figure(name, OURS, done.rate, "tasks/s")
    yield Figure(f"{name}: worker", OURS, done.worker_cpu, "µs CPU/task")
    yield Figure(f"{name}: server", OURS, done.server_cpu, "µs CPU/task")
    yield Figure(f"{name}: server, claim and settle", OURS, done.scripts, "µs/task in scripts")


def _peer(bench: Bench, peer: Subject) -> Iterator[Figure]:
    done = drain(bench, "", peer, bench.size(5000, 100))
    yield Figure("run due tasks", peer.name, done.rate, "tasks/s")
    yield Figure("run due tasks: worker", peer.name, done.worker_cpu, "µs CPU/task")


def _all_settled(server: Server) -> None:
    """Waits until no task is left: then every run was settled with its fencing token.

    Raises:
        Failed: some are left.
    """
    with Scheduler({"storage": {"instances": [{"url": server.url, "name": "instance-0"}]}}) as scheduler:
        if not comes_true(lambda: not scheduler.task_size(), 5):
            raise Failed(f"{scheduler.task_size()} runs were not settled within 5 s")


QUESTION = Question(
    "B4",
    "run due tasks that do nothing",
    measure,
    [
        Goal("run due tasks, coroutine", 50_000, 100_000),
        Goal("run due tasks, plain function", 20_000),
    ],
)
