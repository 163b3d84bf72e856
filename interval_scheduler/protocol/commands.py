"""Commands as values: what to send where. Pure functions build them, the transports execute them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import keys
from .scripts import Script, script

Argument = bytes | str | int


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


# Told apart by identity: a layout has one object for each, and what is grouped by them is hashed for every task.
@dataclass(slots=True, eq=False)
class Partition:
    """Where a partition is: its number, the name of its owner, its epoch."""

    number: int
    instance: str
    meta: str
    epoch: str = "1"

    def call(self, name: str, now: str, *args: Argument, repeatable: bool = False) -> Command:
        """The call of a partition script: its epoch and the time come first."""
        return Command(self.instance, script(name), (self.meta,), (self.epoch, now, *args), repeatable)


def look(partitions: Sequence[Partition], now: str, *, forgets: bool = False) -> Command:
    """Reads the next times of partitions that share an instance; `forgets` what was known of them, as a worker does."""
    epochs = [partition.epoch for partition in partitions]
    metas = [partition.meta for partition in partitions]
    return Command(partitions[0].instance, script("look"), metas, (now, int(forgets), *epochs), repeatable=True)


def topology(instance: str, namespace: str, form: int, partitions: int, width_ms: int, owners: bytes) -> Command:
    """Reads the topology, proposing one where there is none."""
    return Command(
        instance, script("topology"), (keys.topology(namespace),), (form, partitions, width_ms, owners), repeatable=True
    )


def topology_ready(instance: str, namespace: str) -> Command:
    return Command(instance, script("topology_ready"), (keys.topology(namespace),), (), repeatable=True)


def adopt(partition: Partition, form: int, width_ms: int) -> Command:
    """Creates a partition on its owner."""
    return Command(
        partition.instance, script("adopt"), (partition.meta,), (form, width_ms, partition.instance), repeatable=True
    )


def identify(instance: str, namespace: str, *, give: bool) -> Command:
    """Reads, or first gives, the name that an instance carries."""
    return Command(
        instance, script("identify"), (keys.instance_name(namespace),), (instance, int(give)), repeatable=True
    )


def workers(instance: str, namespace: str, now: str, worker: str, ttl_ms: int) -> Command:
    """Reports a worker alive for `ttl_ms`, or gone with 0."""
    return Command(instance, script("workers"), (keys.workers(namespace),), (now, worker, ttl_ms), repeatable=True)


def lock(instance: str, namespace: str, name: str, action: str, holder: str, ttl_ms: int) -> Command:
    """Takes, extends or releases a lock. Taking again by the same holder is one taking."""
    return Command(
        instance,
        script("lock"),
        (keys.lock(namespace, name), keys.lock_sequence(namespace)),
        (action, holder, ttl_ms),
        repeatable=action != "release",
    )


def by_instance(commands: Iterable[Command]) -> dict[str, list[int]]:
    """The positions of commands, grouped by the instance they go to."""
    groups: dict[str, list[int]] = {}
    for position, command in enumerate(commands):
        groups.setdefault(command.instance, []).append(position)
    return groups


def greet(instance: str, metas: Sequence[str], run: str, tokens: Sequence[int]) -> Command:
    """Tells partitions which run of their server serves them, and asks how it found them."""
    return Command(instance, script("greet"), metas, (run, *tokens), repeatable=True)


REFUSALS = (b"moved", b"absent")
"""How the reply of a partition script begins where the partition is not there. Else with b"ok", or with the number of
writes so far if the script wrote."""

Reply = Any
"""What a script returned (a list, its status word first), or the PartitionUnavailable that came instead."""
