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
from ..model.errors import PartitionUnavailable, TopologyMismatch, UnsuitableServer
from ..model.options import Options
from . import commands, keys
from .commands import Command, Partition, Reply

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


def join(options: Options, now: str) -> Generator[Sequence[Command], list[Reply], Layout]:
    """Reads the topology of the namespace, creating it where there is none, and checks every instance against it.

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
    [reply] = yield [commands.topology(master, namespace, FORMAT, options.partitions, options.bucket_ms, pack(owners))]
    _, form, partitions, width, raw_owners, state = _answer(reply)
    owners = unpack(raw_owners)
    _compare(options, int(form), int(partitions), int(width), owners)
    layout = Layout(
        namespace,
        master,
        tuple(Partition(number, owner, keys.meta(namespace, number)) for number, owner in enumerate(owners)),
    )
    if state == b"creating":
        yield from _create(layout, options)
    yield from _check_instances(layout, now)
    return layout


def _compare(options: Options, form: int, partitions: int, width: int, owners: Sequence[str]) -> None:
    differences = []
    if form != FORMAT:
        differences.append(f"its data has format {form}, this version reads {FORMAT}: use a matching version")
    if partitions != options.partitions:
        differences.append(
            f"it has {partitions} partitions, options say {options.partitions}: set partitions={partitions}"
        )
    if width != options.bucket_ms:
        differences.append(
            f"its buckets are {width / 1000:g} s wide, options say {options.bucket_ms / 1000:g} s: "
            f"set storage.task_interval_seconds={width / 1000:g}"
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
    """Makes the partitions of a new namespace. Another process may do the same at the same time, or have died at it."""
    names = [commands.identify(name, layout.namespace, give=True) for name in layout.instances]
    for command, reply in zip(names, (yield names), strict=True):
        _check_name(command.instance, _answer(reply)[1])
    for reply in (yield [commands.adopt(partition, FORMAT, options.bucket_ms) for partition in layout.partitions]):
        _answer(reply)
    [reply] = yield [commands.topology_ready(layout.master, layout.namespace)]
    _answer(reply)


def _check_instances(layout: Layout, now: str) -> Generator[Sequence[Command], list[Reply], None]:
    checks = []
    for name in layout.instances:
        checks.append(commands.identify(name, layout.namespace, give=False))
        checks.append(commands.look(layout.of_instance(name), now))
    replies = yield checks
    for position in range(0, len(checks), 2):
        instance = checks[position].instance
        identity, looked = replies[position], replies[position + 1]
        if isinstance(identity, UnsuitableServer):
            raise identity
        if isinstance(identity, PartitionUnavailable) or isinstance(looked, PartitionUnavailable):
            continue  # only its own partitions are unavailable; every use of them says so
        _check_name(instance, identity[1])
        absent = [n for n, due in zip(layout.of_instance(instance), looked[2::2], strict=True) if due == b"absent"]
        if absent:
            raise TopologyMismatch(
                f"instance {instance!r} lacks {len(absent)} of its partitions: its data was lost or belongs to another "
                "server; restore its data, or check its address. Nothing was written."
            )


def _check_name(instance: str, found: bytes) -> None:
    if found != instance.encode():
        what = f"is known as {found.decode()!r}" if found else "has no name: it is empty, or lost its data"
        raise TopologyMismatch(
            f"the server configured as {instance!r} {what}; check that addresses were not swapped and that its data "
            "is there. Nothing was written."
        )


def _answer(reply: Reply) -> list[bytes]:
    if isinstance(reply, PartitionUnavailable):
        raise reply
    return reply  # type: ignore[no-any-return]
