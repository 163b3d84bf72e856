"""The layout of a namespace: which partition is where.

The owner map in ``{namespace}:topology`` on the master instance is the authority. It is written once, filled evenly
by weight; from then on configured instances must fit it. Each instance also carries its own name, so that swapped
addresses and an empty replacement host are noticed instead of served.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from ..core.codec import pack, unpack
from ..core.placement import owner_map, partition_of
from ..model.errors import CorruptRecord, PartitionUnavailable, TopologyMismatch, UnsuitableServer
from ..model.options import Options
from . import calls, keys
from .commands import ABSENT, Command, Partition, Reply

FORMAT = 1
"""Version of the data layout."""


@dataclass(slots=True, eq=False)
class Layout:
    """The partitions of a namespace, by number."""

    namespace: str
    master: str
    partitions: tuple[Partition, ...]

    def home(self, task_id: bytes) -> Partition:
        """The partition of an id."""
        return self.partitions[partition_of(task_id, len(self.partitions))]

    def of_instance(self, instance: str) -> list[Partition]:
        """The partitions an instance owns."""
        return [partition for partition in self.partitions if partition.instance == instance]

    @property
    def instances(self) -> list[str]:
        """The instances that own something."""
        return list(dict.fromkeys(partition.instance for partition in self.partitions))


def join(options: Options, now: str, *, create: bool = True) -> Generator[Sequence[Command], list[Reply], Layout]:
    """Reads the topology of the namespace, creating it where there is none, and checks every instance against it.

    Without `create` a namespace that is not there is an error.

    An instance that owns partitions may be down, unless the namespace is being created: its partitions are then
    unavailable until it is back.

    Raises:
        PartitionUnavailable: where the master cannot be reached.
        UnsuitableServer: where any instance is refused.
        TopologyMismatch: where options and topology differ.
    """
    namespace, master = options.namespace, options.master.name
    weights = {instance.name: instance.weight for instance in options.instances}
    owners = owner_map(weights, options.partitions)
    proposed = options.partitions if create else 0
    [reply] = yield [calls.topology(master, namespace, FORMAT, proposed, options.bucket_ms, pack(owners))]
    found = calls.read_topology(reply)
    if not create and not (found.format or found.partitions or found.owners or found.state):
        raise TopologyMismatch(
            f"namespace {namespace!r} is not on the master instance {master!r}: correct its name, or the instances. "
            "Nothing was written."
        )
    owners = _readable(namespace, found)
    _compare(options, found, owners)
    layout = Layout(
        namespace,
        master,
        tuple(Partition(number, owner, keys.meta(namespace, number)) for number, owner in enumerate(owners)),
    )
    if found.state == calls.CREATING:
        yield from _create(layout, options)
    yield from _check_instances(layout, now)
    return layout


def _readable(namespace: str, found: calls.Topology) -> list[str]:
    """The owner of each partition, if all of the topology can be read: in another format it may be something else.

    Raises:
        TopologyMismatch: naming the fields that are damaged.
    """
    if found.format not in (0, FORMAT):
        what = f"its data has format {found.format}, this version reads {FORMAT}: use a matching version"
        raise TopologyMismatch(f"namespace {namespace!r} does not fit this version: {what}. Nothing was written.")
    try:
        owners = unpack(found.owners)
    except CorruptRecord:
        owners = None
    are_names = type(owners) is list and owners and all(type(owner) is str for owner in owners)
    readable = {
        "format": found.format,
        "partitions": found.partitions,
        "width": found.width_ms,
        "owners": are_names and found.partitions in (0, len(owners)),
        "state": found.state in (calls.CREATING, calls.READY),
    }
    damaged = ", ".join(name for name, value in readable.items() if not value)
    if damaged:
        raise TopologyMismatch(
            f"the topology of namespace {namespace!r} is damaged: {damaged} of the hash {keys.topology(namespace)!r} "
            "on the master instance; restore what stood there before. Nothing was written."
        )
    return owners  # type: ignore[no-any-return]


def _compare(options: Options, found: calls.Topology, owners: Sequence[str]) -> None:
    differences = []
    if found.partitions != options.partitions:
        differences.append(
            f"it has {found.partitions} partitions, options say {options.partitions}: set partitions={found.partitions}"
        )
    if found.width_ms != options.bucket_ms:
        differences.append(
            f"its buckets are {found.width_ms / 1000:g} s wide, options say {options.bucket_ms / 1000:g} s: "
            f"set storage.task_interval_seconds={found.width_ms / 1000:g}"
        )
    missing = sorted(set(owners) - {instance.name for instance in options.instances})
    if missing:
        configured = ", ".join(repr(instance.name) for instance in options.instances)
        differences.append(
            f"partitions live on {', '.join(map(repr, missing))}, which storage.instances ({configured}) lacks: "
            "add them, or give an instance that moved to another address its old 'name'"
        )
    if differences:
        raise TopologyMismatch(
            f"namespace {options.namespace!r} does not fit the options: {'; '.join(differences)}. Nothing was written."
        )


def _create(layout: Layout, options: Options) -> Generator[Sequence[Command], list[Reply], None]:
    """Creates the partitions of a new namespace. Another process may do the same, or have died while it did."""
    names = [calls.identify(name, layout.namespace, give=True) for name in layout.instances]
    for command, reply in zip(names, (yield names), strict=True):
        _check_name(command.instance, calls.read_identify(reply))
    created = [calls.create_partition(partition, FORMAT, options.bucket_ms) for partition in layout.partitions]
    for reply in (yield created):
        calls.read_create_partition(reply)
    [reply] = yield [calls.topology_ready(layout.master, layout.namespace)]
    calls.read_topology_ready(reply)


def _check_instances(layout: Layout, now: str) -> Generator[Sequence[Command], list[Reply], None]:
    instances = layout.instances
    names = [calls.identify(name, layout.namespace, give=False) for name in instances]
    looks = [calls.look(layout.of_instance(name), now) for name in instances]
    replies = yield [*names, *looks]
    for instance, name, look in zip(instances, replies[: len(names)], replies[len(names) :], strict=True):
        try:
            found, partitions = calls.read_identify(name), calls.read_look(look).partitions
        except UnsuitableServer:
            raise
        except PartitionUnavailable:
            continue  # only its own partitions are unavailable; every use of them says so
        _check_name(instance, found)
        absent = sum(partition.refusal == ABSENT for partition in partitions)
        if absent:
            raise TopologyMismatch(
                f"instance {instance!r} lacks {absent} of its partitions: its data was lost or belongs to another "
                "server; restore its data, or check its address. Nothing was written."
            )


def _check_name(instance: str, found: bytes) -> None:
    if found != instance.encode():
        what = (
            f"is known as {found.decode(errors='backslashreplace')!r}"
            if found
            else "has no name: it is empty, or lost its data"
        )
        raise TopologyMismatch(
            f"the server configured as {instance!r} {what}; check that addresses were not swapped and that its data "
            "is there. Nothing was written."
        )
