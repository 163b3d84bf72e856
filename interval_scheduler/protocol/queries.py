"""Reading tasks, and dead letters, of a namespace."""

from __future__ import annotations

import heapq
import re
from collections.abc import Sequence
from datetime import timedelta

from ..core.definition import UNREADABLE, Definition, decode_body
from ..core.preparation import task_id_of
from ..core.record import RETRYING, RUNNING, SCHEDULED, Header, parse_header, split_record
from ..model.errors import CorruptRecord, InvalidTask, PartitionUnavailable
from ..model.results import DeadTask, PartitionStats, ScheduledTask, State, Stats
from ..model.schedule import Cron, Interval
from ..model.times import parse_duration, to_datetime
from . import calls
from .commands import Partition
from .operation import NamespaceOperations, Operation

PAGE = 200
"""Tasks that are read from a partition at a time."""
_DEAD_HEADER = re.compile(rb"(\d{1,9}),(\d{1,15}),(\d{1,15})")
"""The header of a dead letter: how often, first and last time in ms."""
_UNKNOWN = Header(SCHEDULED, 0, "")
"""Stands for a header that cannot be read."""


class Queries(NamespaceOperations):
    """The operations that change nothing."""

    def peek_task(self, task: object) -> Operation[ScheduledTask | None]:
        task_id = task_id_of(task)
        found = yield from self._peek(task_id)
        if not (found.record or found.dead_letter):
            return None
        if found.record:
            task = _scheduled_task(task_id, found.record, found.now_us / 1000)
        else:
            task = _dead_as_task(task_id, found.dead_letter)
        if task.problem:
            raise CorruptRecord(f"task {task.id!r}: {task.problem}")
        return task

    def is_scheduled(self, task: object) -> Operation[bool]:
        """Whether a live task of this id exists: waiting, running or retrying."""
        task_id = task_id_of(task)
        found = yield from self._peek(task_id)
        return bool(found.record)

    def _peek(self, task_id: bytes) -> Operation[calls.Peek]:
        home = self.home(task_id)
        return self._ask(home, calls.peek(home, self._now, task_id), calls.read_peek)

    def counts(self) -> Operation[tuple[int, int]]:
        """Buckets and tasks over all partitions."""
        partitions = self._layout.partitions
        replies = yield [calls.count(partition, self._now) for partition in partitions]
        found = [self._read(*each, calls.read_count) for each in zip(partitions, replies, strict=True)]
        return sum(count.buckets for count in found), sum(count.tasks for count in found)

    def stats(self) -> Operation[Stats]:
        partitions = self._layout.partitions
        replies = yield [calls.count(partition, self._now) for partition in partitions]
        result = []
        for partition, reply in zip(partitions, replies, strict=True):
            try:
                found = self._read(partition, reply, calls.read_count)
            except PartitionUnavailable as error:
                result.append(PartitionStats(partition.number, partition.instance, error=error.reason))
            else:
                result.append(_partition_stats(partition, found))
        return Stats(tuple(result))

    def upcoming(self, offset: object, duration: object, limit: int | None) -> Upcoming:
        """A reader of the waiting tasks in due order; see `Upcoming`."""
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise InvalidTask("upcoming", "limit", f"is {limit!r}", "use a whole number from 0, or None for all")
        start = parse_duration(offset, "upcoming", "offset")
        span = None if duration is None else parse_duration(duration, "upcoming", "duration")
        return Upcoming(self, start, span, limit)

    def dead_letters(self, partition: Partition) -> Operation[list[tuple[bytes, bytes]]]:
        """The dead letters of one partition, oldest first: ids and records as they are stored."""
        found: list[tuple[bytes, bytes]] = []
        while True:
            page = yield from self._ask(partition, calls.dead(partition, self._now, len(found), PAGE), calls.read_dead)
            found += page.dead_letters
            if len(page.dead_letters) < PAGE:
                return found

    def dead_tasks(self) -> Operation[list[DeadTask]]:
        found = []
        for partition in self._layout.partitions:
            for task_id, record in (yield from self.dead_letters(partition)):
                found.append(_dead_task(task_id, record))
        return sorted(found, key=lambda dead_task: (dead_task.last, dead_task.id))


class Upcoming:
    """Waiting tasks of all partitions in due order, merged from pages of each.

    Alternate `fill`, an operation that must be driven, and `take`, until `take` returns nothing.
    """

    def __init__(self, queries: Queries, offset_ms: int, span_ms: int | None, limit: int | None) -> None:
        self._queries = queries
        self._offset, self._span, self._left = offset_ms, span_ms, limit
        self._until = "+inf"
        self._heap: list[tuple[int, bytes, int, bytes]] = []
        # Partition number: the cursor to read on from. A partition that is read to its end is not in here.
        self._cursors: dict[int, tuple[str, bytes]] | None = None
        self._buffered: dict[int, int] = {}
        self._now = 0.0

    def fill(self) -> Operation[None]:
        """Reads a page of every partition that has nothing buffered and is not at its end."""
        queries, partitions = self._queries, self._queries._layout.partitions
        if self._cursors is None:
            yield from self._start(partitions)
        assert self._cursors is not None
        empty = [number for number in self._cursors if not self._buffered.get(number)]
        if not empty or self._left == 0:
            return
        page = PAGE if self._left is None else min(PAGE, self._left)
        requests = [
            calls.upcoming(partitions[number], queries._now, *self._cursors[number], self._until, page)
            for number in empty
        ]
        for number, reply in zip(empty, (yield requests), strict=True):
            found = queries._read(partitions[number], reply, calls.read_upcoming)
            self._now = found.now_us / 1000
            for due, task_id, record in found.tasks:
                heapq.heappush(self._heap, (due, task_id, number, record))
            self._buffered[number] = len(found.tasks)
            if len(found.tasks) < page:
                del self._cursors[number]
            else:
                due, task_id, _ = found.tasks[-1]
                self._cursors[number] = (str(due), task_id)

    def _start(self, partitions: Sequence[Partition]) -> Operation[None]:
        start = "-inf"
        if self._offset or self._span is not None:
            first = partitions[0]
            found = yield from self._queries._ask(first, calls.count(first, self._queries._now), calls.read_count)
            now = found.now_us // 1000
            if self._offset:
                start = str(now + self._offset)
            if self._span is not None:
                self._until = str(now + self._offset + self._span)
        self._cursors = {partition.number: (start, b"") for partition in partitions}

    def take(self) -> list[ScheduledTask]:
        """What can be given out without reading more: empty at the end."""
        tasks = []
        while self._heap and self._left != 0:
            number = self._heap[0][2]
            _, task_id, _, record = heapq.heappop(self._heap)
            self._buffered[number] -= 1
            tasks.append(_scheduled_task(task_id, record, self._now))
            if self._left is not None:
                self._left -= 1
            if not self._buffered[number] and number in (self._cursors or {}):
                break
        return tasks


def _partition_stats(partition: Partition, found: calls.Count) -> PartitionStats:
    late = 0.0 if found.due is None else max(0.0, found.now_us / 1e6 - found.due / 1000)
    return PartitionStats(
        partition.number,
        partition.instance,
        found.tasks - found.retrying - found.running,
        found.running,
        found.retrying,
        found.dead,
        found.buckets,
        late,
        None if found.due is None else to_datetime(found.due),
    )


def _scheduled_task(task_id: bytes, record: bytes, now: float) -> ScheduledTask:
    raw, body = split_record(record)
    header, problem = _UNKNOWN, ""
    definition = UNREADABLE
    try:
        header = parse_header(raw)
        definition = decode_body(body)
    except CorruptRecord as error:
        # The others are told all the same, and this one so that it can be found.
        problem = str(error)
    state: State = "scheduled"
    if header.state == RUNNING:
        state = "running"
    elif header.state == RETRYING:
        state = "retrying"
    return _task_view(task_id, header, definition, state, now, problem)


def _interval(definition: Definition) -> timedelta | Cron | None:
    schedule = definition.schedule
    return timedelta(milliseconds=schedule.milliseconds) if isinstance(schedule, Interval) else schedule


def _task_view(
    task_id: bytes, header: Header, definition: Definition, state: State, now: float, problem: str
) -> ScheduledTask:
    return ScheduledTask(
        _name(task_id),
        definition.payload,
        to_datetime(header.due),
        max(0.0, (header.due - now) / 1000),
        _interval(definition),
        state,
        header.attempt + 1,
        definition.error,
        header.revision,
        problem,
    )


def _dead_task(task_id: bytes, record: bytes) -> DeadTask:
    count, first, last, definition, problem = _dead_letter(record)
    return DeadTask(
        _name(task_id),
        definition.payload,
        definition.error or "",
        count,
        to_datetime(first),
        to_datetime(last),
        problem,
    )


def _dead_as_task(task_id: bytes, record: bytes) -> ScheduledTask:
    _, _, last, definition, problem = _dead_letter(record)
    attempts = (definition.retry.max_retries or 0) + 1
    return ScheduledTask(
        _name(task_id),
        definition.payload,
        to_datetime(last),
        0.0,
        _interval(definition),
        "dead",
        attempts,
        definition.error,
        problem=problem,
    )


def _dead_letter(record: bytes) -> tuple[int, int, int, Definition, str]:
    """Count, first and last time in ms and definition of a dead letter, and why it cannot be read, if it cannot."""
    head, body = split_record(record)
    found = _DEAD_HEADER.fullmatch(head)
    count, first, last = (1, 0, 0) if found is None else map(int, found.groups())
    try:
        definition = decode_body(body)
    except CorruptRecord as error:
        return count, first, last, UNREADABLE, str(error)
    problem = "" if found is not None else f"a stored dead letter cannot be read ({head[:80]!r}); it was not changed"
    return count, first, last, definition, problem


def _name(task_id: bytes) -> str:
    """An id as text, also one that is not valid UTF-8."""
    return task_id.decode("utf-8", "backslashreplace")
