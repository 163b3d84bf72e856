"""The names of all keys and channels.

All keys of one partition share a hash tag, so that each script is legal on Redis Cluster. Scripts get the name of the
``meta`` key of a partition and derive the others from it, because the names of buckets are known only inside them. A
test compares the names here with those in the scripts.
"""

from __future__ import annotations

# The keys of a partition, and its channel: what follows the prefix they share.
META = "meta"
"""HASH: format, epoch, bucket width, owner, alarm, number of writes, starts of the server."""
TASKS = "tasks"
"""HASH: the record of every live task by its id, the only copy of it."""
INDEX = "index"
"""ZSET: the names of the buckets that are not empty, by the time in ms at which each begins."""
BUCKET = "bucket:"
"""ZSET, one for each bucket; its name ends with the ms at which it begins. The ids of scheduled tasks by due time."""
RETRIES = "retries"
"""ZSET: the ids of tasks that wait for a retry, by due time."""
LEASES = "leases"
"""ZSET: the ids of running tasks, by the time in ms at which their leases end."""
DEAD = "dead"
"""ZSET: the ids of dead letters, by the time of their last failure."""
DEAD_RECORDS = "dead-records"
"""HASH: the dead letters by id."""
SEQUENCE = "sequence"
"""STRING: the last fencing token that was given out."""
HINT = "hint"
"""Channel: the due time in ms of a task that is due before the partition's alarm."""

PARTITION_KEYS = (META, TASKS, INDEX, RETRIES, LEASES, DEAD, DEAD_RECORDS, SEQUENCE)
"""Every key of a partition but its buckets, which have names that only the index knows."""


def meta(namespace: str, partition: int) -> str:
    """The ``meta`` key of a partition. The rest of its keys share everything before ``meta``."""
    return f"{{{namespace}:{partition}}}:{META}"


def of_partition(meta: str, name: str) -> str:
    """Another key of the partition whose `meta` key is given, such as `TASKS`; or its channel, `HINT`."""
    return meta.removesuffix(META) + name


def bucket(meta: str, start_ms: int) -> str:
    """The bucket that begins at a time, in the partition whose `meta` key is given."""
    return of_partition(meta, f"{BUCKET}{start_ms}")


# The keys of a namespace. All but the first are on the master instance.


def instance_name(namespace: str) -> str:
    """STRING on every instance: the name it was configured under, so that swapped addresses are noticed."""
    return f"{{{namespace}}}:instance"


def topology(namespace: str) -> str:
    """HASH: format, partitions, bucket width, owner of every partition, state."""
    return f"{{{namespace}}}:topology"


def workers(namespace: str) -> str:
    """ZSET, worker id to expiry in ms: who wakes first for which partition. It is a channel too: the id of the worker
    that noticed a change of it."""
    return f"{{{namespace}}}:workers"


def lock(namespace: str, name: str) -> str:
    """STRING: the holder of a user's lock. No internal key shares this prefix."""
    return f"{{{namespace}}}:lock:{name}"


def lock_sequence(namespace: str) -> str:
    """STRING: the last fencing token that was given with a lock."""
    return f"{{{namespace}}}:lock-sequence"


# Channels.


def hint_channel(namespace: str, partition: int) -> str:
    """The due time in ms of a task that is due before the partition's alarm: for the workers that prefer it."""
    return of_partition(meta(namespace, partition), HINT)


def partition_of_hint(channel: str) -> int:
    """The partition whose `hint_channel` this is."""
    return int(channel.rpartition("}")[0].rpartition(":")[2])


def any_hint_channel(namespace: str) -> str:
    """Partition and due time of a task, for every worker: nobody listens to the hints of that partition."""
    return f"{{{namespace}}}:{HINT}"


def worker_channel(namespace: str, worker: str) -> str:
    """Partition and due time of a task that another worker has no free slot for."""
    return f"{{{namespace}}}:worker:{worker}"


def monitor_channel(namespace: str) -> str:
    """Nobody publishes here. A connection that listens to no channel cannot wait, so each listens at least to this."""
    return f"{{{namespace}}}:monitor"


def patterns(namespace: str) -> tuple[str, str]:
    """The glob patterns that together cover every key and channel: those of the namespace, and of its partitions."""
    return f"{{{namespace}}}:*", f"{{{namespace}:*}}:*"
