"""Calls for dead letters: dead (reads them), revive, purge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..commands import Argument, Command, Partition, Reply, pairs, partition_command, require_done
from .tasks import Counted


@dataclass(slots=True)
class DeadPage:
    """Dead letters, oldest first: id and dead letter of each, as they are stored."""

    now_us: int
    dead_letters: list[tuple[bytes, bytes]]


def dead(partition: Partition, now: str, start: int, limit: int) -> Command:
    """Reads up to `limit` dead letters, from the rank `start` on."""
    return partition_command("dead", partition, now, (str(start), str(limit)), repeatable=True)


def read_dead(partition: Partition, reply: Reply) -> DeadPage:
    _, now_us, *entries = require_done(partition, reply)
    return DeadPage(now_us, list(pairs(entries)))


def revive(partition: Partition, now: str, call_id: str, dead_letters: Iterable[tuple[bytes, bytes, bytes]]) -> Command:
    """Makes dead letters due tasks again: the id, the dead letter as it was read, and the task's body of each."""
    args: list[Argument] = [call_id]
    for dead_letter in dead_letters:
        args += dead_letter
    return partition_command("revive", partition, now, args)


def read_revive(partition: Partition, reply: Reply) -> Counted:
    _, now_us, answers = require_done(partition, reply)
    return Counted(now_us, answers.count(b"1"))


def purge(partition: Partition, now: str, limit: int, before_ms: int | None) -> Command:
    """Deletes up to `limit` dead letters, oldest first: those whose last failure was before a time, None for all."""
    until = "+inf" if before_ms is None else f"({before_ms}"
    return partition_command("purge", partition, now, (str(limit), until))


def read_purge(partition: Partition, reply: Reply) -> Counted:
    _, now_us, count = require_done(partition, reply)
    return Counted(now_us, count)
