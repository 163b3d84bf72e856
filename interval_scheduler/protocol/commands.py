"""Commands and replies as values: what is sent where, and how each reply begins.

The functions in `calls` build the commands and read the replies; the transports execute them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..model.errors import PartitionUnavailable, TopologyMismatch
from .scripts import Script, script

Argument = bytes | str
"""No int: hiredis cannot stand an exception of a signal handler while it writes one, and the process would end."""

Reply = Any
"""What a script returned (a list, its status first), or the PartitionUnavailable that stands in its place."""

OK, MOVED, ABSENT, DAMAGED = b"ok", b"moved", b"absent", b"damaged"
"""How a reply begins. A script that has written begins with the number of writes to the partition in the place of
`OK`. The others refuse the call: the partition has another epoch, or is not there, or one of its keys is damaged.
Nothing was written then."""
REFUSALS = (MOVED, ABSENT, DAMAGED)


# Not frozen: every call makes one, and that would take three times as long. Nobody changes one.
@dataclass(slots=True, eq=False)
class Command:
    """One script call on one instance.

    `repeatable` says that carrying it out twice does no more than once, so that a transport may send it again when
    the answer was lost.
    """

    instance: str
    script: Script
    keys: Sequence[Argument]
    args: Sequence[Argument]
    repeatable: bool = False


# Compared by identity: there is one object per partition, and it is hashed for every task that is grouped by it.
@dataclass(slots=True, eq=False)
class Partition:
    """Where a partition is: its number, the name of its owner, the name of its ``meta`` key, its epoch."""

    number: int
    instance: str
    meta: str
    epoch: str = "1"


def partition_command(
    name: str, partition: Partition, now: str, args: Sequence[Argument] = (), *, repeatable: bool = False
) -> Command:
    """A call of a script that works on one partition: the epoch and the time come before its own arguments."""
    return Command(
        partition.instance, script(name), (partition.meta,), (partition.epoch, now, *args), repeatable=repeatable
    )


def by_instance(commands: Iterable[Command]) -> dict[str, list[int]]:
    """The positions of commands, grouped by the instance they go to."""
    groups: dict[str, list[int]] = {}
    for position, command in enumerate(commands):
        groups.setdefault(command.instance, []).append(position)
    return groups


def status(reply: list[Any]) -> int | bytes:
    """How a reply begins: `OK`, `MOVED`, `ABSENT`, or how many times the partition has been written to."""
    return reply[0]  # type: ignore[no-any-return]


def is_refused(reply: list[Any]) -> bool:
    """Whether a script refused to work, because the partition is not there."""
    return type(reply[0]) is bytes and reply[0] in REFUSALS


def require_available(reply: Reply) -> list[Any]:
    """The reply of a script that works on no partition, or on several.

    Raises:
        PartitionUnavailable: where there is none.
    """
    if isinstance(reply, PartitionUnavailable):
        raise reply
    return reply  # type: ignore[no-any-return]


def require_done(partition: Partition, reply: Reply) -> list[Any]:
    """The reply of a script that works on one partition.

    Raises:
        PartitionUnavailable: where there is none, or a key of the partition is damaged.
        TopologyMismatch: where the partition is not there.
    """
    if isinstance(reply, PartitionUnavailable):
        raise reply
    if type(reply[0]) is bytes and reply[0] in REFUSALS:
        if reply[0] == DAMAGED:
            reason = f"the meta key of partition {partition.number} is damaged (its bucket width): restore it"
            raise PartitionUnavailable(partition.instance, reason, refused=True)
        what = "has moved" if reply[0] == MOVED else "is gone: its data was lost, or belongs to another server"
        raise TopologyMismatch(
            f"partition {partition.number} on instance {partition.instance!r} {what}. Nothing was written; "
            "reconnect, and restore the data of the instance if this goes on."
        )
    return reply  # type: ignore[no-any-return]


def pairs(entries: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """Entries that come in turn, such as ids and records, two at a time."""
    return zip(entries[::2], entries[1::2], strict=True)
