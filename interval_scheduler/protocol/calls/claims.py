"""Calls of workers for the runs of tasks: look, claim, renew, settle.

These carry every task of a busy worker. So a reader makes one value per call, and leaves what came for each task as
it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ...core.settlement import NOTHING_FOLLOWS, Settlement
from ..commands import (
    REFUSALS,
    Argument,
    Command,
    Partition,
    Reply,
    partition_command,
    require_available,
    require_done,
)
from ..scripts import script

RENEWED = ord("1")
"""What `renew` says of a run that keeps its lease."""
ACCEPTED, LOST, CHANGED = b"olc"
"""What `settle` says of a run: it is settled; it is not this token's any more; its record changed during the run."""
_WITH_BODY = b"+"
"""Stands before a new header that is followed by a new body and a dead letter."""


@dataclass(slots=True)
class NextTimes:
    """When something can be claimed from a partition, in ms: the earliest due time, and the earliest end of a lease.
    None where there is nothing. `refusal` says why, where it cannot be used: moved, absent or damaged."""

    due: float | None
    lapse: float | None
    refusal: bytes = b""


@dataclass(slots=True)
class Look:
    """The next times of the partitions of a `look`, in the order of the call."""

    now_us: int
    partitions: list[NextTimes]


def look(partitions: Sequence[Partition], now: str, *, forgets: bool = False) -> Command:
    """Reads the next times of partitions that share an instance; `forgets` what was known of them, as a worker does."""
    epochs = [partition.epoch for partition in partitions]
    metas = [partition.meta for partition in partitions]
    return Command(partitions[0].instance, script("look"), metas, (now, str(int(forgets)), *epochs), repeatable=True)


def read_look(reply: Reply) -> Look:
    _, now_us, *times = require_available(reply)
    found = [
        NextTimes(None, None, due) if due in REFUSALS else NextTimes(_ms(due), _ms(lapse))
        for due, lapse in zip(times[::2], times[1::2], strict=True)
    ]
    return Look(now_us, found)


@dataclass(slots=True)
class Claimed:
    """What a claim gave out: ids and records in turn (see `pairs`). `due` and `lapse` say when something can be claimed
    next, as in `NextTimes`."""

    now_us: int
    due: float | None
    lapse: float | None
    entries: list[bytes]

    @property
    def count(self) -> int:
        """How many tasks were claimed."""
        return len(self.entries) // 2


def claim(
    partition: Partition,
    now: str,
    limit: int,
    lease_ms: int,
    suspects: int,
    max_bytes: int,
    *,
    is_first: bool,
) -> Command:
    """Takes up to `limit` tasks that are due, under a lease. At most `suspects` of them may be suspects.

    It stops after the task that takes the records above `max_bytes`. `is_first` says that the caller is the first in
    line for the partition, so that nobody else need be told of its next time.
    """
    numbers = (limit, lease_ms, suspects, max_bytes, int(is_first))
    return partition_command("claim", partition, now, tuple(map(str, numbers)))


def read_claim(partition: Partition, reply: Reply) -> Claimed:
    answer = require_done(partition, reply)
    return Claimed(answer[1], _ms(answer[2]), _ms(answer[3]), answer[4:])


@dataclass(slots=True)
class Renewed:
    """`answers` has a byte per run: `RENEWED`, or another one where the lease is lost."""

    now_us: int
    answers: bytes


def renew(partition: Partition, now: str, lease_ms: int, runs: Sequence[Argument]) -> Command:
    """Lets leases end `lease_ms` from now. `runs` holds the id and the fencing token of each run in turn."""
    return partition_command("renew", partition, now, (str(lease_ms), *runs), repeatable=True)


def read_renew(partition: Partition, reply: Reply) -> Renewed:
    _, now_us, answers = require_done(partition, reply)
    return Renewed(now_us, answers)


class Ended(Protocol):
    """What `settle` has to know of a run: the id of its task, and the header its task had when it was claimed."""

    @property
    def raw_id(self) -> bytes: ...

    @property
    def raw_header(self) -> bytes: ...


@dataclass(slots=True)
class Settled:
    """`answers` has a byte per run: `ACCEPTED`, `LOST` or `CHANGED`. `changed` holds the record of each changed one."""

    now_us: int
    answers: bytes
    changed: list[bytes]


def settle(
    partition: Partition, now: str, lease_ms: int, runs: Sequence[Ended], settlements: Sequence[Settlement]
) -> Command:
    """Reports the ends of runs, with what follows each of them."""
    args: list[Argument] = [str(lease_ms)]
    for run, settlement in zip(runs, settlements, strict=True):
        if settlement is NOTHING_FOLLOWS:
            args += (run.raw_id, run.raw_header, b"")
            continue
        new = b"" if settlement.header is None else settlement.header.encode()
        if settlement.body or settlement.dead:
            args += (run.raw_id, run.raw_header, _WITH_BODY + new, settlement.body, settlement.dead)
        else:
            args += (run.raw_id, run.raw_header, new)
    return partition_command("settle", partition, now, args)


def read_settle(partition: Partition, reply: Reply) -> Settled:
    _, now_us, answers, *changed = require_done(partition, reply)
    return Settled(now_us, answers, changed)


def settled_runs(args: Sequence[bytes]) -> Iterator[tuple[bytes, bytes, bytes, bytes]]:
    """The runs in the arguments of a `settle`, as a server got them: id, expected header, new header, dead letter."""
    at = 3
    while at < len(args):
        new = args[at + 2]
        more = new.startswith(_WITH_BODY)
        yield args[at], args[at + 1], new.removeprefix(_WITH_BODY), args[at + 4] if more else b""
        at += 5 if more else 3


def _ms(time: bytes) -> float | None:
    return float(time) if time else None
