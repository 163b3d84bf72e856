"""Every operation of the schedulers, once; see `calls` for what an operation is."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..core.definition import Prepared, decode_body, encode_id, prepare, task_id_of
from ..core.placement import partition_of
from ..core.record import parse_header, split_record
from ..core.settlement import End, Live, Outcome, settle
from ..model.errors import (
    AssignFailed,
    InvalidTask,
    PartitionUnavailable,
    SchedulerError,
    TaskChanged,
    TopologyMismatch,
)
from ..model.options import Options
from ..model.results import AssignResult
from ..model.times import CENTURY_MS, parse_duration, parse_execute_on
from ..support.runtime import Runtime
from . import commands
from .commands import Command, Partition, Reply
from .operation import BATCH_TASKS, Ahead, Operation, batches
from .queries import Queries
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
"""About what the others take on the wire, and all the lengths."""
CLEAR_STEP = 400
"""Entries that one call deletes: about two milliseconds of server time."""
REVIVE_STEP = 100
"""Dead letters in one call: their records travel there and back."""


class Operations(Queries):
    """The operations on one namespace."""

    def __init__(self, layout: Layout, options: Options, runtime: Runtime) -> None:
        super().__init__(layout, runtime)
        self._options = options
        # By any instance's clock: which partition a task is for is not known before its id is checked.
        self.prepare = partial(prepare, max_payload_bytes=options.max_payload_bytes, now_ms=self._now_ms)

    # -- writing -----------------------------------------------------------------------------------------------------

    def assign_task(self, task: object, if_version: str | None = None) -> Operation[bool]:
        prepared = self.prepare(task)
        task_id = prepared[0]
        home = self._layout.home(task_id)
        operation = self._runtime.random_id()
        if if_version is not None:
            if not isinstance(if_version, str) or " " in if_version or not if_version.isascii():
                raise InvalidTask("assign_task", "if_version", f"is {if_version!r}", "use ScheduledTask.version, or ''")
            operation += f" {if_version}"
        [reply] = yield [self._assign(home, prepared, operation)]
        answer = self._answer(home, reply)[2]
        if answer == b"x":
            raise TaskChanged(task_id.decode(), if_version or "")
        return bool(answer == b"c")

    def assign_tasks(self, tasks: Iterable[object]) -> Operation[AssignResult]:
        _require_several(tasks, "assign_tasks", "assign_task")
        stream = _Stream()
        source = iter(tasks)
        carry: Prepared | None = None
        while stream.failure is None:
            batch: dict[bytes, Prepared] = {} if carry is None else {carry[0]: carry}
            size, carry = 0, None
            try:
                for task in source:
                    prepared = self.prepare(task)
                    # A second one of an id updates the first one, in the batch after it.
                    if batch.setdefault(prepared[0], prepared) is not prepared:
                        carry = prepared
                        break
                    size += len(prepared[0]) + len(prepared[3]) + _OTHER_BYTES
                    if size >= STREAM_BYTES:
                        break
                    if not len(batch) % STREAM_STRIDE:
                        if len(batch) >= STREAM_TASKS:
                            break
                        if stream.ready:  # what was checked before is written while this is
                            yield from self._send(stream)
            except Exception as error:
                # This batch is not written; those before it are.
                yield from self._finish(stream)
                stream.not_written.extend(task_id.decode() for task_id in batch)
                stream.check()
                if isinstance(error, InvalidTask):
                    error.created, error.updated = stream.created, stream.updated
                    error.not_written = stream.not_written
                raise
            while stream.ready:
                yield from self._send(stream)
            # A call that has to be repeated may be overtaken by those after it.
            if not all(under_way.ids.isdisjoint(batch) for under_way in stream.batches):
                yield from self._finish(stream)
            if not batch:
                break
            calls = self.assign_calls(batch.values())
            stream.batches.append(_Batch(batch.keys(), len(calls)))
            stream.ready.extend(calls)
        yield from self._finish(stream)
        if carry is not None:
            stream.not_written.append(carry[0].decode())
        stream.check()
        return AssignResult(stream.created, stream.updated)

    def _send(self, stream: _Stream) -> Operation[None]:
        """Sends the next command, and takes the reply to an old one where many are under way."""
        if len(stream.sent) >= CALLS_AT_ONCE:
            yield from self._receive(stream)
        command, ids = stream.ready.popleft()
        ahead = Ahead(command)
        stream.sent.append((ahead, ids))
        yield ahead

    def _receive(self, stream: _Stream) -> Operation[None]:
        ahead, ids = stream.sent.popleft()
        [reply] = yield ahead
        stream.batches[0].calls -= 1
        if not stream.batches[0].calls:
            stream.batches.popleft()
        try:
            created = self.assigned(ids[0], reply).count(True)
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

    def remove_tasks(self, tasks: Iterable[object]) -> Operation[int]:
        """Counts what was removed."""
        _require_several(tasks, "remove_tasks", "remove_task")
        homes: dict[Partition, list[bytes]] = {}
        for task_id in dict.fromkeys(task_id_of(task) for task in tasks):
            homes.setdefault(self._layout.home(task_id), []).append(task_id)
        calls = [(home, batch) for home, ids in homes.items() for batch in batches(ids)]
        removed = 0
        for part in batches(calls, CALLS_AT_ONCE):
            replies = yield [self._call(home, "remove", *ids, repeatable=True) for home, ids in part]
            for (home, _), reply in zip(part, replies, strict=True):
                removed += self._answer(home, reply)[2].count(b"1")
        return removed

    def reschedule_task(self, task: object, delay: object, execute_on: object) -> Operation[bool]:
        task_id = task_id_of(task)
        if (delay is None) == (execute_on is None):
            raise InvalidTask("reschedule_task", "delay", "and execute_on are exclusive", "give exactly one of them")
        if delay is not None:
            when = f"+{parse_duration(delay, 'reschedule_task', 'delay', maximum_ms=CENTURY_MS)}"
        else:
            when = f"={parse_execute_on(execute_on, 'reschedule_task')}"
        reply = yield from self._one(task_id, "reschedule", self._runtime.random_id(), task_id, when)
        return bool(reply[2])

    def run_task_now(self, task: object) -> Operation[bool]:
        task_id = task_id_of(task)
        reply = yield from self._one(task_id, "run_now", self._runtime.random_id(), task_id)
        return bool(reply[2])

    def confirm_task(self, task: object, token: int) -> Operation[bool]:
        task_id = task_id_of(task)
        if isinstance(token, bool) or not isinstance(token, int) or token < 1:
            raise InvalidTask(
                "confirm_task", "fencing_token", f"is {token!r}", "use current_execution().fencing_token of the run"
            )
        reply = yield from self._one(task_id, "confirm", task_id, token)
        if not reply[2]:
            return False
        if len(reply) > 3 and reply[3]:
            yield from self._settle_confirmed(task_id, reply[3], reply[1] // 1000)
        return True

    def _settle_confirmed(self, task_id: bytes, record: bytes, now: int) -> Operation[None]:
        """Settles a confirmed run whose handler has returned. If this fails, whoever claims the task next does it."""
        home = self._layout.home(task_id)
        while True:
            raw, body = split_record(record)
            header, definition = parse_header(raw), decode_body(body)
            live = Live(task_id.decode(), header, definition, header.grid, now, definition.schedule is not None)
            settlement = settle(live, Outcome(End.DONE), now, 0.0)
            new = b"" if settlement.header is None else settlement.header.encode()
            args = [task_id, raw, new]
            if settlement.body:
                args = [task_id, raw, b"+" + new, settlement.body, b""]
            [reply] = yield [self._call(home, "settle", self._options.lease_ms, *args)]
            if self._answer(home, reply)[2] != b"c":
                return
            record = reply[3]

    def clear_all_tasks(self, progress: Callable[[int], None] | None) -> Operation[int]:
        pending = list(self._layout.partitions)
        total = 0
        while pending:
            again = []
            step, pending = pending[:16], pending[16:]
            for partition, reply in zip(step, (yield self._each("clear", CLEAR_STEP, among=step)), strict=True):
                _, _, tasks, more = self._answer(partition, reply)
                total += tasks
                if more:
                    again.append(partition)
            pending = again + pending
            if progress is not None:
                progress(total)
        return total

    # -- dead letters ------------------------------------------------------------------------------------------------

    def retry_dead_tasks(self, ids: Iterable[str] | None) -> Operation[int]:
        if ids is not None:
            _require_several(ids, "retry_dead_tasks", "retry_dead_tasks([id])")
        wanted = None if ids is None else {encode_id(task_id, "retry_dead_tasks") for task_id in ids}
        revived = 0
        for partition in self._layout.partitions:
            if wanted is not None and not any(self._layout.home(task_id) == partition for task_id in wanted):
                continue
            letters = yield from self.dead_letters(partition)
            chosen = [letter for letter in letters if wanted is None or letter[0] in wanted]
            for batch in batches(chosen, REVIVE_STEP):
                args: list[bytes] = []
                for task_id, record in batch:
                    args += [task_id, record, split_record(record)[1]]
                [reply] = yield [self._call(partition, "revive", self._runtime.random_id(), *args)]
                revived += self._answer(partition, reply)[2].count(b"1")
        return revived

    def purge_dead_tasks(self, before: object = None) -> Operation[int]:
        until = parse_execute_on(before, "purge_dead_tasks", "before")
        purged = 0
        for partition in self._layout.partitions:
            while True:
                [reply] = yield [self._call(partition, "purge", CLEAR_STEP, "+inf" if until is None else f"({until}")]
                count = self._answer(partition, reply)[2]
                purged += count
                if count < CLEAR_STEP:
                    break
        return purged

    # -- locks -------------------------------------------------------------------------------------------------------

    def lock(self, name: str, action: str, holder: str, ttl_ms: int) -> Operation[int]:
        """The fencing token of a lock taken, 1 for one extended or released, 0 where somebody else holds it."""
        [reply] = yield [commands.lock(self._layout.master, self._layout.namespace, name, action, holder, ttl_ms)]
        if isinstance(reply, PartitionUnavailable):
            raise reply
        return int(reply[1])

    # -- parts -------------------------------------------------------------------------------------------------------

    def home(self, task_id: bytes) -> Partition:
        """The partition of an id."""
        return self._layout.home(task_id)

    def assigned(self, task_id: bytes, reply: Reply) -> list[bool]:
        """Which tasks of a call are new; `task_id` is any of them.

        Raises:
            PartitionUnavailable, TopologyMismatch: where the call failed.
        """
        return [answer == ord("c") for answer in self._answer(self._layout.home(task_id), reply)[2]]

    def _now_ms(self) -> int:
        explicit = self._runtime.script_now()
        if explicit:
            return int(explicit)
        offset = max(self._offsets.values(), default=0.0)
        return math.ceil((self._runtime.time() + offset) * 1000)

    def _assign(self, home: Partition, tasks: Sequence[Any], operation: str) -> Command:
        """The call that assigns tasks which live together: the entries of one `Prepared` after the other."""
        return self._call(home, "assign", operation, *tasks, repeatable=True)

    def assign_call(self, home: Partition, prepared: Prepared) -> Command:
        """The call that assigns one task."""
        return self._assign(home, prepared, self._runtime.random_id())

    def assign_calls(self, batch: Iterable[Prepared]) -> list[tuple[Command, list[bytes]]]:
        """The calls that assign tasks of different ids, and the ids that each of them carries."""
        partitions = self._layout.partitions
        count = len(partitions)
        shares: defaultdict[int, list[Any]] = defaultdict(list)
        for task in batch:
            shares[partition_of(task[0], count)] += task
        operation = self._runtime.random_id()
        return [
            (self._assign(partitions[number], chunk, operation), chunk[_ID::_FIELDS])
            for number, share in shares.items()
            for chunk in _chunks(share)
        ]


@dataclass(slots=True, eq=False)
class _Batch:
    """Different tasks that are on their way: their ids, and how many calls have no reply so far."""

    ids: Set[bytes]
    calls: int


@dataclass(slots=True, eq=False)
class _Stream:
    """How far `assign_tasks` has come: commands that are checked and not sent, and those without a reply so far."""

    ready: deque[tuple[Command, list[bytes]]] = field(default_factory=deque)
    sent: deque[tuple[Ahead, list[bytes]]] = field(default_factory=deque)
    batches: deque[_Batch] = field(default_factory=deque)
    """What these commands carry, oldest first: replies come in the order of sending."""

    created: int = 0
    updated: int = 0
    not_written: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    failure: SchedulerError | None = None

    def check(self) -> None:
        if self.failure is not None:
            raise AssignFailed(self.created, self.updated, self.not_written, self.unknown) from self.failure


def _require_several(tasks: object, method: str, single: str) -> None:
    """A text is an iterable too, and its letters may be ids."""
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
