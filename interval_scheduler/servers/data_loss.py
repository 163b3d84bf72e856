"""Notices that an instance came back without writes that it had acknowledged.

It may have lost the end of its append-only file, or everything, or somebody loaded an old backup.

Every partition counts its writes, and every script that writes tells the count. A server gets a new run id at each
start. The first client that reaches it after a start notes in every partition how many writes survived, before anybody
writes to it (the handshake). A client that was told a larger number before that start knows that writes were lost,
however many were added since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..model.errors import PartitionUnavailable
from ..protocol import calls
from ..protocol.commands import Command, Partition, Reply


@dataclass(slots=True)
class Known:
    """What this process knows of a partition: the largest number of writes, told under which run id, and the largest
    fencing token."""

    run_id: str = ""
    writes: int = 0
    token: int = 0


class LossDetector:
    """What this process knows of all partitions. Used from several threads; each step is atomic enough."""

    def __init__(self, report: Callable[[str, Mapping[int, int]], None]) -> None:
        """`report(instance, {partition: writes lost})` is called once for each loss."""
        self._report = report
        self._partitions: dict[str, Sequence[Partition]] = {}
        self._numbers: dict[str, int] = {}
        self._known: dict[int, Known] = {}
        self._run_ids: dict[str, str] = {}
        self._handshaken: dict[str, str] = {}
        """The run id under which the last handshake with each instance was done."""
        # Per partition: the starts of its server, and how many writes each found. A reply that comes late, from before
        # the last start, is judged by it.
        self._starts: dict[int, list[tuple[str, int]]] = {}

    def watch(self, partitions: Sequence[Partition]) -> None:
        """Takes the layout. `handshakes` are then due for the connections that exist already."""
        for partition in partitions:
            self._numbers[partition.meta] = partition.number
            self._known.setdefault(partition.number, Known())
        for name in dict.fromkeys(partition.instance for partition in partitions):
            self._partitions[name] = [partition for partition in partitions if partition.instance == name]

    def connect(self, instance: str, run_id: str) -> Command | None:
        """A new connection leads to this start of the server. Returns what must be sent on it first, if anything."""
        if not run_id:
            return None
        self._run_ids[instance] = run_id
        return self._handshake(instance) if self._handshaken.get(instance) != run_id else None

    def run_id(self, instance: str) -> str:
        """Which start of the server the last new connection led to; "" where that is not known."""
        return self._run_ids.get(instance, "")

    def handshakes(self) -> list[Command]:
        """What must be sent to connected servers, because there was no handshake since their start."""
        found = [
            self._handshake(name) for name, run_id in self._run_ids.items() if self._handshaken.get(name) != run_id
        ]
        return [command for command in found if command is not None]

    def _handshake(self, instance: str) -> Command | None:
        partitions = self._partitions.get(instance)
        if not partitions:
            return None
        tokens = [self._known[partition.number].token for partition in partitions]
        return calls.handshake(instance, [partition.meta for partition in partitions], self._run_ids[instance], tokens)

    def take_handshake(self, command: Command, reply: Reply) -> None:
        """Takes the reply to a handshake, and reports what was lost."""
        try:
            answers = calls.read_handshake(reply)
        except PartitionUnavailable:
            return  # the next connection does the handshake again
        instance, run_id = command.instance, str(command.args[0])
        lost: dict[int, int] = {}
        for meta, (writes, starts) in zip(command.keys, answers, strict=True):
            number = self._numbers[str(meta)]
            known = self._known[number]
            self._starts[number] = starts
            missing = known.writes if writes is None else _missing(known, starts)
            if missing > 0:
                lost[number] = missing
            same_start = known.run_id == run_id and writes is not None
            known.writes = max(known.writes, writes or 0) if same_start else writes or 0
            known.run_id = run_id
        self._handshaken[instance] = run_id
        if lost:
            self._report(instance, lost)

    def learn_writes(self, meta: object, run_id: str, writes: int) -> None:
        """A script wrote to the partition of `meta`, and told how often it has been written to, under this run id."""
        number = self._numbers.get(meta) if isinstance(meta, str) else None
        if number is None:
            return
        known = self._known[number]
        if known.run_id in ("", run_id):
            known.run_id, known.writes = run_id, max(known.writes, writes)
            return
        # A reply from before the last start, read after the handshake with the new one.
        missing = _missing(Known(run_id, writes), self._starts.get(number, []))
        if missing > 0:
            self._report(self._instance(number), {number: missing})

    def learn_absence(self, meta: object) -> None:
        """A script did not find the partition of `meta`: everything is lost, though its server was not restarted."""
        number = self._numbers.get(meta) if isinstance(meta, str) else None
        if number is not None and self._known[number].writes:
            lost, self._known[number].writes = self._known[number].writes, 0
            self._report(self._instance(number), {number: lost})

    def learn_token(self, partition: int, token: int) -> None:
        """A claim gave out a fencing token."""
        known = self._known.get(partition)
        if known is not None:
            known.token = max(known.token, token)

    def _instance(self, number: int) -> str:
        return next(name for name, owned in self._partitions.items() if any(p.number == number for p in owned))


def _missing(known: Known, starts: Sequence[tuple[str, int]]) -> int:
    """How many of the known writes the start after them did not find."""
    if not known.run_id or not starts or known.run_id == starts[-1][0]:
        return 0
    run_ids = [run_id for run_id, _ in starts]
    # If the start of the known writes is not in the list any more, only the oldest one after it can be compared with.
    following = starts[run_ids.index(known.run_id) + 1 if known.run_id in run_ids else 0]
    return known.writes - following[1]
