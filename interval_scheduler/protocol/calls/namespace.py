"""Calls that set up a namespace, and get to know its servers: topology, topology_ready, create_partition, identify,
handshake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import keys
from ..commands import Command, Partition, Reply, require_available
from ..scripts import script

CREATING, READY = b"creating", b"ready"
"""The states of a topology: until all its partitions exist, and from then on."""


@dataclass(slots=True)
class Topology:
    """`owners` is packed; `state` is `CREATING` or `READY`. A number that cannot be read is 0, a text b""."""

    format: int
    partitions: int
    width_ms: int
    owners: bytes
    state: bytes


def topology(instance: str, namespace: str, form: int, partitions: int, width_ms: int, owners: bytes) -> Command:
    """Reads the topology, and writes the proposed one where there is none; with 0 `partitions` it writes nothing.

    `owners` is packed: a list of names.
    """
    args = (str(form), str(partitions), str(width_ms), owners)
    return Command(instance, script("topology"), (keys.topology(namespace),), args, repeatable=True)


def read_topology(reply: Reply) -> Topology:
    _, form, partitions, width_ms, owners, state = require_available(reply)
    return Topology(_number(form), _number(partitions), _number(width_ms), owners or b"", state or b"")


def _number(stored: bytes | None) -> int:
    return int(stored) if stored is not None and stored.isdigit() and len(stored) <= 16 else 0


def topology_ready(instance: str, namespace: str) -> Command:
    """Notes that all partitions exist."""
    return Command(instance, script("topology_ready"), (keys.topology(namespace),), (), repeatable=True)


def read_topology_ready(reply: Reply) -> None:
    require_available(reply)


def create_partition(partition: Partition, form: int, width_ms: int) -> Command:
    """Creates a partition on its owner."""
    args = (str(form), str(width_ms), partition.instance)
    return Command(partition.instance, script("create_partition"), (partition.meta,), args, repeatable=True)


def read_create_partition(reply: Reply) -> None:
    require_available(reply)


def identify(instance: str, namespace: str, *, give: bool) -> Command:
    """Reads the name that an instance carries; `give` gives it its name first where it has none."""
    args = (instance, str(int(give)))
    return Command(instance, script("identify"), (keys.instance_name(namespace),), args, repeatable=True)


def read_identify(reply: Reply) -> bytes:
    """The name that the instance carries, b"" for none."""
    _, name = require_available(reply)
    return name  # type: ignore[no-any-return]


def handshake(instance: str, metas: Sequence[str], run_id: str, tokens: Sequence[int]) -> Command:
    """Tells partitions which run of their server serves them, and asks how it found them.

    `tokens` are the largest fencing tokens that are known, one per partition, 0 for none.
    """
    return Command(instance, script("handshake"), metas, (run_id, *map(str, tokens)), repeatable=True)


def read_handshake(reply: Reply) -> list[tuple[int | None, list[tuple[str, int]]]]:
    """Per partition: how often it has been written to (None where it is absent), and the starts of its server, oldest
    first: the run id of each, and how many writes it found."""
    _, *answers = require_available(reply)
    return [
        (int(writes) if writes else None, _starts(starts))
        for writes, starts in zip(answers[::2], answers[1::2], strict=True)
    ]


def _starts(starts: bytes) -> list[tuple[str, int]]:
    found = [start.rpartition(":") for start in starts.decode("utf-8", "replace").split()]
    # One that is damaged tells nothing.
    return [(run_id, int(writes)) for run_id, _, writes in found if writes.isdecimal() and len(writes) <= 16]
