"""The accounts of a due task that is claimed, run and settled: of the worker, and of the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from interval_scheduler.core.definition import Definition, decode_body
from interval_scheduler.core.preparation import prepare
from interval_scheduler.core.record import RUNNING, Header, parse_header, split_record
from interval_scheduler.core.settlement import NOTHING_FOLLOWS, End, Outcome, decide_claim, nothing_follows
from interval_scheduler.protocol import calls
from interval_scheduler.protocol.commands import Partition
from interval_scheduler.protocol.operation import batches
from interval_scheduler.transport import replies as answers
from interval_scheduler.worker.run import Run
from interval_scheduler.worker.runners import CoroutineRunners

from ..adapter import Item, payload
from ..bench import Bench
from ..ours.jobs import Job
from ..questions.draining import drain
from ..subjects import COROUTINE
from .page import Account, least, least_each

_PARTITION = Partition(0, "instance-0", "{interval-scheduler:0}:meta")
_NOBODY: Any = None
"""These handlers ask nothing of their worker."""
SETTLES_PER_CALL = 50
"""About as many as a worker with default options reports at a time under load."""


def executing(count: int) -> list[Account]:
    """What a due task costs that does nothing, with one worker and a coroutine function."""
    done = drain(Bench(quick=False, peers=(), largest=count), "", COROUTINE, count)
    now = int(time.time() * 1000)
    body = prepare(Job(Item(0, payload(0), now / 1000)), 1 << 15, lambda: now)[3]
    records = [Header(RUNNING, now, "abcdefgh+", now * 1000 + n).encode() + b"\n" + body for n in range(count)]
    ids = [f"user:{number:010d}" for number in range(count)]
    split = [split_record(record) for record in records]
    raw_headers = [raw for raw, _ in split]
    headers = [parse_header(raw) for raw, _ in split]
    definitions = [decode_body(raw) for _, raw in split]
    claimed = list(zip(ids, headers, definitions, strict=True))
    outcome = Outcome(End.DONE)

    worker = Account(
        "Running a due task: processor time of the worker",
        done.worker_cpu,
        "the rest: event loop, slots, claiming, settling, socket",
        f"One worker ran {done.rate:,.0f} tasks/s, {1e6 / done.rate:.2f} µs each. Worker and server work at the same "
        "time: the slower one is the limit.",
    )
    worker.add(
        "worker", "parsing the header", least(lambda: [parse_header(split_record(r)[0]) for r in records], count)
    )
    worker.add("worker", "decoding the body", least_each(lambda: (decode_body(raw) for _, raw in split), count))
    worker.add(
        "worker", "what the claim means", least_each(lambda: (decide_claim(*each, now) for each in claimed), count)
    )
    made = [_run(each, raw, now) for each, raw in zip(claimed, raw_headers, strict=True)]
    making = least_each(lambda: (_run(each, raw, now) for each, raw in zip(claimed, raw_headers, strict=True)), count)
    worker.add("worker", "making the run", making)
    worker.add("worker", "handing it to the handler and back", least(lambda: asyncio.run(_dispatch(made)), count))
    worker.add(
        "worker",
        "what follows the run",
        least_each(lambda: (nothing_follows(run.header, run.definition, outcome) for run in made), count),
    )
    worker.add("worker", "packing settles", least(lambda: _pack_settles(made), count))

    server = Account(
        "Running a due task: processor time of the server",
        done.server_cpu,
        "reading calls, writing replies, listening",
        f"{done.calls:.3f} calls of scripts a task.",
    )
    server.add("server", "the scripts of claim and settle", done.scripts)
    return [worker, server]


def _run(claim: tuple[str, Header, Definition], raw_header: bytes, now: int) -> Run:
    """The live run that a worker makes of a claimed task; its lease lasts."""
    task_id, header, definition = claim
    deadline = time.monotonic() + 3600
    raw_id = task_id.encode()
    return Run(task_id, header, definition, now, now, False, _NOBODY, _PARTITION, raw_id, raw_header, now, deadline)


class _Last:
    """Waits for the end of the last of so many runs."""

    def __init__(self, runs: int) -> None:
        self._left = runs
        self.through = asyncio.Event()

    def handler_begins(self, run: Run) -> None:
        """Nobody listens to the event."""

    def handler_ended(self, run: Run, outcome: Outcome) -> None:
        self._left -= 1
        if not self._left:
            self.through.set()


async def _dispatch(runs: Sequence[Run]) -> None:
    """Hands runs to handlers, and waits for the last one."""

    async def handler(_payload: object) -> None:
        return

    last = _Last(len(runs))
    runners = CoroutineRunners(handler, last)
    for run in runs:
        runners.submit(run)
    await last.through.wait()
    runners.close()


def _pack_settles(runs: Sequence[Run]) -> None:
    """Packs the reports of runs that are over for good, as many a call as under load."""
    for batch in batches(runs, SETTLES_PER_CALL):
        answers.pack(calls.settle(_PARTITION, "", 15_000, batch, [NOTHING_FOLLOWS] * len(batch)))
