"""Whether options and instances fit the namespace. Nothing is created or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..model.errors import PartitionUnavailable, TopologyMismatch
from ..model.options import Options
from ..protocol import calls, keys
from ..protocol.commands import Command, Reply
from ..protocol.operation import drive
from ..protocol.topology import join
from ..servers.requirements import Finding
from ..support.runtime import Runtime
from .connection import Connection, lacks_right


@dataclass(frozen=True, slots=True)
class Mark:
    """What an instance carries of a namespace: its own name and the state of a topology; b"" for what is not there."""

    name: bytes
    topology: bytes


def read_mark(connection: Connection, namespace: str) -> Mark | Exception:
    """The mark of an instance, or why it cannot be read."""
    answers = connection.ask(("GET", keys.instance_name(namespace)), ("HGET", keys.topology(namespace), "state"))
    for answer in answers:
        if isinstance(answer, Exception):
            return answer
    return Mark(*(answer or b"" for answer in answers))


def name_findings(mark: Mark | Exception, instance: str, namespace: str) -> list[Finding]:
    """Judges the name that the server configured as `instance` carries."""
    if isinstance(mark, Exception):
        if lacks_right(mark):
            return []  # another finding names the missing right
        message = f"its name cannot be read ({mark}), so schedulers refuse to start"
        fix = "make sure that no other program uses keys that begin with the namespace"
        return [Finding("error", instance, "name", message, fix)]
    if not mark.name:
        return []
    if mark.name == instance.encode():
        return [Finding("ok", instance, "name", "it carries the configured name")]
    known = mark.name.decode("utf-8", "replace")
    return [
        Finding(
            "error",
            instance,
            "name",
            f"this server is known as {known!r} in namespace {namespace!r}, but configured as {instance!r}: "
            "its tasks would be looked for elsewhere, so schedulers refuse to start",
            "check that addresses were not swapped, or give it its old 'name'",
        )
    ]


def topology_findings(
    options: Options, marks: Mapping[str, Mark], execute: Callable[[Sequence[Command]], list[Reply]], runtime: Runtime
) -> list[Finding]:
    """Judges the namespace as a whole, by the marks of the instances that could be read."""
    master, namespace = options.master.name, options.namespace
    if master not in marks:
        return []  # another finding says why it could not be asked
    state = marks[master].topology
    if state == calls.READY:
        return _fit(options, marks, execute, runtime)
    if state:
        return [
            Finding(
                "warning",
                master,
                "topology",
                f"namespace {namespace!r} is being created, or its creation was interrupted: no task can be in it yet",
                "start a scheduler, which completes it",
            )
        ]
    return [_without_topology(options, marks)]


def _without_topology(options: Options, marks: Mapping[str, Mark]) -> Finding:
    """Judges a master instance that has no topology of the namespace."""
    master, namespace = options.master.name, options.namespace
    others = [name for name, mark in marks.items() if mark.topology and name != master]
    if others:
        return Finding(
            "error",
            master,
            "topology",
            f"the topology of namespace {namespace!r} is not on this master instance but on {others[0]!r}: "
            "a scheduler would make a second one",
            "set storage.master_index to that instance",
        )
    members = [name for name, mark in marks.items() if mark.name]
    if members:
        return Finding(
            "error",
            master,
            "topology",
            f"instances ({', '.join(map(repr, members))}) belong to namespace {namespace!r}, but this master "
            "instance lacks its topology: it lost its data, or is another server",
            "restore its data, or check its address",
        )
    size = f"{options.partitions} partitions over {len(options.instances)} instance(s)"
    message = f"namespace {namespace!r} is new: the first scheduler creates it, with {size}"
    return Finding("ok", master, "topology", message)


def _fit(
    options: Options, marks: Mapping[str, Mark], execute: Callable[[Sequence[Command]], list[Reply]], runtime: Runtime
) -> list[Finding]:
    """Joins the namespace, which writes nothing where it exists."""
    master, namespace = options.master.name, options.namespace
    try:
        layout = drive(join(options, runtime.script_now()), execute)
    except TopologyMismatch as error:
        message = f"schedulers refuse to start: {error}"
        return [Finding("error", master, "topology", message, "do what the message says")]
    except PartitionUnavailable as error:
        message = f"the topology cannot be read, so schedulers cannot start: {error}"
        return [Finding("error", master, "topology", message, "repair the other errors of this instance first")]
    size = f"{len(layout.partitions)} partitions on {len(layout.instances)} instance(s)"
    findings = [Finding("ok", master, "topology", f"the options fit namespace {namespace!r}: {size}")]
    for name in marks:
        if name not in layout.instances and name != master:
            message = "it owns no partitions and idles: tasks are only on the other instances"
            findings.append(Finding("warning", name, "topology", message, "run a rebalance, or leave it out"))
    return findings
