"""Every key and channel name, in one place.

All keys of one partition share a hash tag, so that each script is legal on Redis Cluster. The scripts derive the other
keys of a partition from the name of its ``meta`` key, because bucket names are known only inside them.
"""

from __future__ import annotations


def meta(namespace: str, partition: int) -> str:
    """HASH: owner, epoch, bucket width, alarm. The rest of the partition's keys share everything before ``meta``."""
    return f"{{{namespace}:{partition}}}:meta"


def hint_channel(namespace: str, partition: int) -> str:
    """Pub/sub: the due time in ms of a task that is due before the partition's alarm."""
    return f"{{{namespace}:{partition}}}:hint"


def topology(namespace: str) -> str:
    """HASH on the master instance: format, partitions, bucket width, owner of every partition."""
    return f"{{{namespace}}}:topology"


def instance_name(namespace: str) -> str:
    """STRING on every instance: the name it was configured under, so that swapped addresses are noticed."""
    return f"{{{namespace}}}:instance"


def workers(namespace: str) -> str:
    """ZSET on the master instance, worker id to expiry in ms: who wakes first for which partition. Pub/sub: the id of
    the worker that noticed a change of it."""
    return f"{{{namespace}}}:workers"


def lock(namespace: str, name: str) -> str:
    """STRING on the master instance: the holder of a user's lock. No internal key shares this prefix."""
    return f"{{{namespace}}}:lock:{name}"


def lock_sequence(namespace: str) -> str:
    """Integer on the master instance: the last fencing token given with a lock."""
    return f"{{{namespace}}}:lock-sequence"
