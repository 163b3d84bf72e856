"""Assigning many tasks: one call carries those that live together, and many calls are under way at once."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..core.placement import partition_of
from ..core.preparation import Prepared, prepare
from ..model.errors import AssignFailed, InvalidTask, PartitionUnavailable, SchedulerError, TopologyMismatch
from ..model.options import Options
from ..model.results import AssignResult
from ..support.runtime import Runtime
from . import calls
from .commands import Command, Partition, Reply
from .operation import BATCH_TASKS, NamespaceOperations, Operation, SendAhead
from .topology import Layout

CALLS_AT_ONCE = 64
"""Calls under way at the same time."""
BATCH_BYTES = 1024 * 1024
"""Most bytes of tasks in one call of a script."""
STREAM_STRIDE = 64
"""Tasks that `assign_tasks` checks between two calls that it sends."""
STREAM_TASKS = 80 * STREAM_STRIDE
"""Tasks that it checks and sends in one go, and bytes of them."""
STREAM_BYTES = 8 * 1024 * 1024
_FIELDS = 4
"""Entries of a `Prepared`."""
_ID, _BODY = 0, 3
"""Where its id and its body are among them."""
_OTHER_BYTES = 32
"""About what the others take on the network, and all the lengths."""


class BulkAssignments(NamespaceOperations):
    """Checks tasks and builds the calls that assign them, one or many at a time."""

    def __init__(self, layout: Layout, options: Options, runtime: Runtime) -> None:
        super().__init__(layout, runtime)
        self._options = options
        # By any instance's clock: which partition a task is for is not known before its id is checked.
        self.prepare = partial(prepare, max_payload_bytes=options.max_payload_bytes, now_ms=self._now_ms)

    def _now_ms(self) -> int:
        explicit = self._runtime.script_now()
        if explicit:
            return int(explicit)
        offset = max(self._offsets.values(), default=0.0)
        return math.ceil((self._runtime.time() + offset) * 1000)

    def assign_call(self, home: Partition, prepared: Prepared) -> Command:
        """The call that assigns one task."""
        return calls.assign(home, self._now, self._runtime.random_id(), prepared)

    def assign_calls(self, batch: Iterable[Prepared]) -> list[tuple[Command, list[bytes]]]:
        """The calls that assign tasks of different ids, and the ids that each of them carries."""
        partitions = self._layout.partitions
        count = len(partitions)
        shares: defaultdict[int, list[Any]] = defaultdict(list)
        for task in batch:
            shares[partition_of(task[0], count)] += task
        now, call_id = self._now, self._runtime.random_id()
        return [
            (calls.assign(partitions[number], now, call_id, chunk), chunk[_ID::_FIELDS])
            for number, share in shares.items()
            for chunk in _chunks(share)
        ]

    def assigned(self, task_id: bytes, reply: Reply) -> list[bool]:
        """Which tasks of a call are new; `task_id` is any of them.

        Raises:
            PartitionUnavailable, TopologyMismatch: where the call failed.
        """
        answers = self._read(self.home(task_id), reply, calls.read_assign).answers
        return [answer == calls.CREATED for answer in answers]

    def assign_tasks(self, tasks: Iterable[object]) -> Operation[AssignResult]:
        require_several(tasks, "assign_tasks", "assign_task")
        stream = _Stream(iter(tasks))
        while stream.failure is None:
            batch: dict[bytes, Prepared] = {}
            try:
                yield from self._fill(batch, stream)
            except Exception as error:
                # This batch is not written; those before it are.
                yield from self._finish(stream)
                stream.not_written.extend(task_id.decode() for task_id in batch)
                stream.raise_failure()
                position = stream.taken + len(batch)
                if isinstance(error, InvalidTask):
                    error.position = position
                    error.created, error.updated = stream.created, stream.updated
                    error.not_written = stream.not_written
                else:
                    error.add_note(f"It came from task {position:,} of those given to assign_tasks, counted from 0.")
                raise
            while stream.ready:
                yield from self._send(stream)
            # A call that has to be repeated may be overtaken by those after it.
            if not all(under_way.ids.isdisjoint(batch) for under_way in stream.batches):
                yield from self._finish(stream)
            if not batch:
                break
            stream.taken += len(batch)
            stream.add(batch.keys(), self.assign_calls(batch.values()))
        yield from self._finish(stream)
        if stream.carry is not None:
            stream.not_written.append(stream.carry[0].decode())
        stream.raise_failure()
        return AssignResult(stream.created, stream.updated)

    def _fill(self, batch: dict[bytes, Prepared], stream: _Stream) -> Operation[None]:
        """Checks tasks of different ids into a batch. What was checked before is sent in the meantime."""
        if stream.carry is not None:
            batch[stream.carry[0]] = stream.carry
        size, stream.carry = 0, None
        for task in stream.source:
            prepared = self.prepare(task)
            # A second one of an id updates the first one, in the batch after it.
            if batch.setdefault(prepared[0], prepared) is not prepared:
                stream.carry = prepared
                return
            size += len(prepared[0]) + len(prepared[3]) + _OTHER_BYTES
            if size >= STREAM_BYTES:
                return
            if not len(batch) % STREAM_STRIDE:
                if len(batch) >= STREAM_TASKS:
                    return
                if stream.ready:
                    yield from self._send(stream)

    def _send(self, stream: _Stream) -> Operation[None]:
        """Sends the next command, and takes the reply to an old one where many are under way."""
        if len(stream.sent) >= CALLS_AT_ONCE:
            yield from self._receive(stream)
        command, ids = stream.ready.popleft()
        ahead = SendAhead(command)
        stream.sent.append((ahead, ids))
        yield ahead

    def _receive(self, stream: _Stream) -> Operation[None]:
        """Takes the reply to the oldest call."""
        ahead, ids = stream.sent.popleft()
        [reply] = yield ahead
        stream.batches[0].calls -= 1
        if not stream.batches[0].calls:
            stream.batches.popleft()
        try:
            created = self._read(self.home(ids[0]), reply, calls.read_assign).answers.count(calls.CREATED)
        except (PartitionUnavailable, TopologyMismatch) as error:
            stream.failure = error
            unknown = isinstance(error, PartitionUnavailable) and error.unknown_outcome
            (stream.unknown if unknown else stream.not_written).extend(task_id.decode() for task_id in ids)
        else:
            stream.created += created
            stream.updated += len(ids) - created

    def _finish(self, stream: _Stream) -> Operation[None]:
        """Sends what is ready, and takes all replies."""
        while stream.ready:
            yield from self._send(stream)
        while stream.sent:
            yield from self._receive(stream)


@dataclass(slots=True, eq=False)
class _Batch:
    """Different tasks that are under way: their ids, and how many calls have no reply so far."""

    ids: Set[bytes]
    calls: int


@dataclass(slots=True, eq=False)
class _Stream:
    """How far `assign_tasks` has come: commands that are checked and not sent, and those without a reply so far."""

    source: Iterator[object]
    carry: Prepared | None = None
    """A task that was checked and belongs to the next batch."""
    ready: deque[tuple[Command, list[bytes]]] = field(default_factory=deque)
    sent: deque[tuple[SendAhead, list[bytes]]] = field(default_factory=deque)
    batches: deque[_Batch] = field(default_factory=deque)
    """What these commands carry, oldest first: replies come in the order of sending."""

    taken: int = 0
    """How many tasks of `source` are in batches before the newest one."""
    created: int = 0
    updated: int = 0
    not_written: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    failure: SchedulerError | None = None

    def add(self, ids: Set[bytes], commands: list[tuple[Command, list[bytes]]]) -> None:
        """Takes a batch of tasks, with the calls that carry it."""
        self.batches.append(_Batch(ids, len(commands)))
        self.ready.extend(commands)

    def raise_failure(self) -> None:
        if self.failure is not None:
            raise AssignFailed(self.created, self.updated, self.not_written, self.unknown) from self.failure


def require_several(tasks: object, method: str, single: str) -> None:
    """Refuses a text: it is an iterable too, and each of its characters could be an id.

    Raises:
        InvalidTask: for what is no iterable of tasks, naming what to use for a single one.
    """
    if isinstance(tasks, str | bytes) or not isinstance(tasks, Iterable):
        raise InvalidTask(method, "tasks", f"is {tasks!r}", f"pass a list or another iterable; for one use {single}")


def _chunks(tasks: list[Any]) -> Iterator[list[Any]]:
    """Parts of what one call would carry, none of them too long or too large: entries of `Prepared`, as given."""
    longest = _FIELDS * BATCH_TASKS
    size = sum(map(len, tasks[_ID::_FIELDS])) + sum(map(len, tasks[_BODY::_FIELDS]))
    if len(tasks) <= longest and size + len(tasks) // _FIELDS * _OTHER_BYTES <= BATCH_BYTES:  # mostly
        yield tasks
        return
    start = size = 0
    for at in range(0, len(tasks), _FIELDS):
        more = len(tasks[at + _ID]) + len(tasks[at + _BODY]) + _OTHER_BYTES
        if at > start and (at - start >= longest or size + more > BATCH_BYTES):
            yield tasks[start:at]
            start, size = at, 0
        size += more
    yield tasks[start:]
