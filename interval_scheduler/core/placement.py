"""Which partition an id belongs to, and which instance owns a partition."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence


def partition_of(task_id: bytes, partitions: int) -> int:
    """The home of an id: CRC16 (XMODEM polynomial, as Redis Cluster hashes keys) modulo the number of partitions."""
    return binascii.crc_hqx(task_id, 0) % partitions


def owner_map(weights: Mapping[str, float], partitions: int) -> list[str]:
    """The owner of every partition, filled evenly by weight.

    `weights` maps instance names to positive weights. Each partition goes to the instance that is furthest below its
    share (the highest-averages method of D'Hondt), so counts differ from exact shares by less than one per instance.
    """
    owned = dict.fromkeys(weights, 0)
    owners = []
    for _ in range(partitions):
        name = max(weights, key=lambda candidate: weights[candidate] / (owned[candidate] + 1))
        owned[name] += 1
        owners.append(name)
    return owners


def preference(partition: int, workers: Sequence[str], worker: str) -> int:
    """The rank of `worker` for `partition` among the live `workers`: 0 wakes first, 1 backs it up, and so on.

    Ranks rotate through the sorted workers, so that each is first for an equal share of the partitions. The
    multiplier scatters neighbouring partitions, which tend to sit on instances in a repeating pattern.
    """
    ordered = sorted(workers)
    if worker not in ordered:
        return len(ordered)
    first = (partition * 40503 + 7) % 65537 % len(ordered)
    return (ordered.index(worker) - first) % len(ordered)
