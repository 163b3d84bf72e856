"""Reading tasks, and dead letters, of a namespace."""

from __future__ import annotations

import heapq
from datetime import timedelta

from ..core.definition import Definition, decode_body, task_id_of
from ..core.record import RETRYING, RUNNING, Header, parse_header, split_record
from ..model.errors import InvalidTask, PartitionUnavailable
from ..model.results import DeadTask, PartitionStats, ScheduledTask, State, Stats
from ..model.schedule import Cron, Interval
from ..model.times import parse_duration, to_datetime
from .commands import Partition
from .operation import Calls, Operation
from .topology import Layout

PAGE = 200
"""Tasks that are read from a partition at a time."""


class Queries(Calls):
    """What changes nothing."""

    def peek_task(self, task: object) -> Operation[ScheduledTask | None]:
        task_id = task_id_of(task)
        _, stamp, record, dead = yield from self._one(task_id, "peek", task_id, repeatable=True)
        now = int(stamp) / 1000
        if record:
            return _scheduled_task(task_id, record, now)
        if dead:
            return _dead_as_task(task_id, dead)
        return None

    def is_scheduled(self, task: object) -> Operation[bool]:
        """Whether a live task of this id exists: waiting, running or retrying."""
        task_id = task_id_of(task)
        reply = yield from self._one(task_id, "peek", task_id, repeatable=True)
        return bool(reply[2])

    def counts(self) -> Operation[tuple[int, int]]:
        """Buckets and tasks over all partitions."""
        buckets = tasks = 0
        for partition, reply in zip(self._layout.partitions, (yield self._each("count")), strict=True):
            answer = self._answer(partition, reply)
            tasks += answer[2]
            buckets += answer[3]
        return buckets, tasks

    def stats(self) -> Operation[Stats]:
        result = []
        for partition, reply in zip(self._layout.partitions, (yield self._each("count")), strict=True):
            if isinstance(reply, PartitionUnavailable):
                result.append(PartitionStats(partition.number, partition.instance, error=reply.reason))
                continue
            _, stamp, tasks, buckets, retrying, running, dead, due = self._answer(partition, reply)
            late = max(0.0, int(stamp) / 1e6 - int(due) / 1000) if due else 0.0
            result.append(
                PartitionStats(
                    partition.number,
                    partition.instance,
                    tasks - retrying - running,
                    running,
                    retrying,
                    dead,
                    buckets,
                    late,
                    to_datetime(int(due)) if due else None,
                )
            )
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
        letters: list[tuple[bytes, bytes]] = []
        while True:
            [reply] = yield [self._call(partition, "dead", len(letters), PAGE, repeatable=True)]
            entries = self._answer(partition, reply)[2:]
            letters += zip(entries[::2], entries[1::2], strict=True)
            if len(entries) < 2 * PAGE:
                return letters

    def dead_tasks(self) -> Operation[list[DeadTask]]:
        letters = []
        for partition in self._layout.partitions:
            for task_id, record in (yield from self.dead_letters(partition)):
                letters.append(_dead_task(task_id, record))
        return sorted(letters, key=lambda letter: (letter.last, letter.id))


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
        layout = self._queries._layout
        if self._cursors is None:
            yield from self._start(layout)
        assert self._cursors is not None
        empty = [number for number in self._cursors if not self._buffered.get(number)]
        if not empty or self._left == 0:
            return
        page = PAGE if self._left is None else min(PAGE, self._left)
        requests = [
            self._queries._call(
                layout.partitions[number], "upcoming", *self._cursors[number], self._until, page, repeatable=True
            )
            for number in empty
        ]
        for number, reply in zip(empty, (yield requests), strict=True):
            _, stamp, *entries = self._queries._answer(layout.partitions[number], reply)
            self._now = int(stamp) / 1000
            count = len(entries) // 3
            for due, task_id, record in zip(entries[::3], entries[1::3], entries[2::3], strict=True):
                heapq.heappush(self._heap, (int(due), task_id, number, record))
            self._buffered[number] = count
            if count < page:
                del self._cursors[number]
            else:
                self._cursors[number] = (entries[-3].decode(), entries[-2])

    def _start(self, layout: Layout) -> Operation[None]:
        start = "-inf"
        if self._offset or self._span is not None:
            [reply] = yield [self._queries._call(layout.partitions[0], "count", repeatable=True)]
            now = int(self._queries._answer(layout.partitions[0], reply)[1]) // 1000
            if self._offset:
                start = str(now + self._offset)
            if self._span is not None:
                self._until = str(now + self._offset + self._span)
        self._cursors = {partition.number: (start, b"") for partition in layout.partitions}

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


def _scheduled_task(task_id: bytes, record: bytes, now: float) -> ScheduledTask:
    raw, body = split_record(record)
    header, definition = parse_header(raw), decode_body(body)
    state: State = "scheduled"
    if header.state == RUNNING:
        state = "running"
    elif header.state == RETRYING:
        state = "retrying"
    return _task_view(task_id, header, definition, state, now)


def _interval(definition: Definition) -> timedelta | Cron | None:
    schedule = definition.schedule
    return timedelta(milliseconds=schedule.milliseconds) if isinstance(schedule, Interval) else schedule


def _task_view(task_id: bytes, header: Header, definition: Definition, state: State, now: float) -> ScheduledTask:
    return ScheduledTask(
        task_id.decode(),
        definition.payload,
        to_datetime(header.due),
        max(0.0, (header.due - now) / 1000),
        _interval(definition),
        state,
        header.attempt + 1,
        definition.error,
        header.revision,
    )


def _dead_task(task_id: bytes, record: bytes) -> DeadTask:
    head, body = split_record(record)
    count, first, last = map(int, head.split(b","))
    definition = decode_body(body)
    return DeadTask(
        task_id.decode(), definition.payload, definition.error or "", count, to_datetime(first), to_datetime(last)
    )


def _dead_as_task(task_id: bytes, record: bytes) -> ScheduledTask:
    head, body = split_record(record)
    last = int(head.split(b",")[2])
    definition = decode_body(body)
    attempts = (definition.retry.max_retries or 0) + 1
    return ScheduledTask(
        task_id.decode(),
        definition.payload,
        to_datetime(last),
        0.0,
        _interval(definition),
        "dead",
        attempts,
        definition.error,
    )
