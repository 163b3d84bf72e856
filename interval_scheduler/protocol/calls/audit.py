"""The call that audits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..commands import Command, Partition, Reply, partition_command, require_done


@dataclass(slots=True)
class Found:
    """A broken invariant: of which kind, of which task or bucket, what was found, and whether it was repaired."""

    kind: str
    name: bytes
    found: str
    repaired: bool


@dataclass(slots=True)
class Audited:
    """One step of an audit. `cursor` is for the next step, "0" at the end. `contents` are ids and records in turn where
    tasks or dead letters were checked, and the names of buckets where the index was."""

    now_us: int
    cursor: str
    checked: int
    problems: list[Found]
    contents: Sequence[bytes]


def audit(
    partition: Partition, now: str, part: str, cursor: str, count: int, *, repair: bool, lease_ms: int
) -> Command:
    """Checks about `count` entries of a `part` of a partition, from `cursor` on; "0" for the first step.

    `lease_ms` is given to a run that has no lease.
    """
    return partition_command("audit", partition, now, (part, cursor, str(count), str(int(repair)), str(lease_ms)))


def read_audit(partition: Partition, reply: Reply) -> Audited:
    _, now_us, cursor, checked, problems, contents = require_done(partition, reply)
    found = [
        Found(kind.decode(), name, what.decode("utf-8", "replace"), repaired == b"1")
        for kind, name, what, repaired in zip(*(problems[at::4] for at in range(4)), strict=True)
    ]
    return Audited(now_us, cursor.decode(), checked, found, contents)
