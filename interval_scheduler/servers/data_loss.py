"""Noticing an instance that came back older than it was: a lost tail of its append-only file, an old backup, nothing.

Every partition counts its writes, and every script that writes tells the count. A server gets a new run id at each
start; the first client to greet it notes in every partition how many writes had survived, before anybody writes to it.
Whoever was told a larger number by the run before knows that writes were lost, however many were added since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..model.errors import PartitionUnavailable
from ..protocol import calls
from ..protocol.commands import Command, Partition, Reply


@dataclass(slots=True)
class Told:
    """What a client was told of a partition: the largest number of writes, by which run, and the largest token."""

    run: str = ""
    writes: int = 0
    token: int = 0


class LossDetector:
    """What one process knows of all partitions. Used from several threads; each step is atomic enough."""

    def __init__(self, report: Callable[[str, Mapping[int, int]], None]) -> None:
        """`report(instance, {partition: writes lost})` is called once for each loss that is noticed."""
        self._report = report
        self._partitions: dict[str, Sequence[Partition]] = {}
        self._numbers: dict[str, int] = {}
        self._told: dict[int, Told] = {}
        self._runs: dict[str, str] = {}
        self._greeted: dict[str, str] = {}
        # What each run found, per partition: what is told late by a connection to an earlier one is judged by it.
        self._found: dict[int, list[tuple[str, int]]] = {}

    def watch(self, partitions: Sequence[Partition]) -> None:
        """Takes the layout. Connections that exist already must greet now."""
        for partition in partitions:
            self._numbers[partition.meta] = partition.number
            self._told.setdefault(partition.number, Told())
        for name in dict.fromkeys(partition.instance for partition in partitions):
            self._partitions[name] = [partition for partition in partitions if partition.instance == name]

    def connected(self, instance: str, run: str) -> Command | None:
        """A new connection to a run of the server: what must be sent on it before anything else."""
        if not run:
            return None
        self._runs[instance] = run
        return self._greeting(instance) if self._greeted.get(instance) != run else None

    def greetings(self) -> list[Command]:
        """What must be sent to the servers that are connected and were not greeted yet."""
        found = [self._greeting(name) for name, run in self._runs.items() if self._greeted.get(name) != run]
        return [command for command in found if command is not None]

    def _greeting(self, instance: str) -> Command | None:
        partitions = self._partitions.get(instance)
        if not partitions:
            return None
        tokens = [self._told[partition.number].token for partition in partitions]
        return calls.handshake(instance, [partition.meta for partition in partitions], self._runs[instance], tokens)

    def greeted(self, command: Command, reply: Reply) -> None:
        """Takes the reply to a greeting."""
        try:
            answers = calls.read_handshake(reply)
        except PartitionUnavailable:
            return  # whoever connects next greets again
        instance, run = command.instance, str(command.args[0])
        lost: dict[int, int] = {}
        for meta, (writes, found) in zip(command.keys, answers, strict=True):
            number = self._numbers[str(meta)]
            told = self._told[number]
            self._found[number] = found
            missing = told.writes if writes is None else _missing(told, found)
            if missing > 0:
                lost[number] = missing
            told.writes = max(told.writes, writes) if told.run == run and writes is not None else writes or 0
            told.run = run
        self._greeted[instance] = run
        if lost:
            self._report(instance, lost)

    def learn(self, meta: object, run: str, writes: int) -> None:
        """A script wrote: the partition of `meta` told that it has been written to so many times, in this run."""
        number = self._numbers.get(meta) if isinstance(meta, str) else None
        if number is None:
            return
        told = self._told[number]
        if told.run in ("", run):
            told.run, told.writes = run, max(told.writes, writes)
            return
        # A reply of the run before, read after the next one was greeted.
        missing = _missing(Told(run, writes), self._found.get(number, []))
        if missing > 0:
            self._report(self._instance(number), {number: missing})

    def gone(self, meta: object) -> None:
        """A script did not find the partition of `meta`: all that was told of it is lost, though its server runs on."""
        number = self._numbers.get(meta) if isinstance(meta, str) else None
        if number is not None and self._told[number].writes:
            lost, self._told[number].writes = self._told[number].writes, 0
            self._report(self._instance(number), {number: lost})

    def learn_token(self, partition: int, token: int) -> None:
        """A claim gave out a fencing token."""
        told = self._told.get(partition)
        if told is not None:
            told.token = max(told.token, token)

    def _instance(self, number: int) -> str:
        return next(name for name, owned in self._partitions.items() if any(p.number == number for p in owned))


def _missing(told: Told, found: Sequence[tuple[str, int]]) -> int:
    """How many of the writes that were told the following run did not find."""
    if not told.run or not found or told.run == found[-1][0]:
        return 0
    runs = [name for name, _ in found]
    # Of a run that is not in the list any more only the oldest follower is known.
    following = found[runs.index(told.run) + 1 if told.run in runs else 0]
    return told.writes - following[1]
