"""Settling a run: decide what follows it, write that, and decide again where the task has changed during the run.

Workers do this for many runs at once (`interval_scheduler.worker.settler`), with `take_change` for those that changed.
`settle_run` does it for one run, apart from a worker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from ..core.definition import Definition, decode_body
from ..core.record import Header, parse_header, split_record
from ..core.settlement import LiveRun, Outcome, settle
from . import calls
from .commands import Partition
from .operation import Operation


class Changeable(Protocol):
    """A run whose task may change during it."""

    header: Header
    definition: Definition
    raw_header: bytes


@dataclass(slots=True, eq=False)
class ClaimedRun(LiveRun):
    """A live run, and how its task and header are stored."""

    raw_id: bytes
    raw_header: bytes


def claimed_run(task_id: bytes, record: bytes, now_ms: int) -> ClaimedRun:
    """The live run of a claimed record. `now_ms` is the server's time.

    Raises:
        CorruptRecord: where this version cannot read it.
    """
    raw_header, body = split_record(record)
    header, definition = parse_header(raw_header), decode_body(body)
    recurs = definition.schedule is not None
    return ClaimedRun(task_id.decode(), header, definition, header.grid, now_ms, recurs, task_id, raw_header)


def take_change(run: Changeable, outcome: Outcome, record: bytes) -> Outcome:
    """Puts the record that the task has become into the run, and returns the outcome to decide on with it.

    What was assigned or asked for during the run wins over the successor that its handler wanted.

    Raises:
        CorruptRecord: where this version cannot read it. The run is as it was then.
    """
    raw_header, body = split_record(record)
    definition, header = decode_body(body), parse_header(raw_header)
    run.definition, run.header, run.raw_header = definition, header, raw_header
    return replace(outcome, successor=None)


def settle_run(
    partition: Partition, run: ClaimedRun, outcome: Outcome, now: str, now_ms: int, lease_ms: int
) -> Operation[bool]:
    """Settles one run; False where its fencing token is not the newest any more. It is repeated at once.

    `now` is the test clock or "", `now_ms` the time to decide with.
    """
    while True:
        settlement = settle(run, outcome, now_ms, 0.0)
        [reply] = yield [calls.settle(partition, now, lease_ms, [run], [settlement])]
        settled = calls.read_settle(partition, reply)
        if settled.answers[0] != calls.CHANGED:
            return settled.answers[0] == calls.ACCEPTED
        outcome = take_change(run, outcome, settled.changed[0])
