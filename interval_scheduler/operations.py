"""Every operation of the schedulers, once: generators that yield commands and are sent the replies.

They never wait, so a blocking and an asyncio driver can run them alike (`drive` shows how). One yield is one round
trip to each instance it names.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from . import commands
from .commands import REFUSALS, Command, Partition, Reply
from .definition import Definition, Prepared, decode_body, encode_id, prepare, task_id_of
from .errors import AssignFailed, InvalidTask, PartitionUnavailable, TaskChanged, TopologyMismatch
from .model import AssignResult, DeadTask, PartitionStats, ScheduledTask, State, Stats, to_datetime
from .options import Options
from .record import RETRYING, RUNNING, Header, parse_header, split_record
from .schedule import Cron, Interval, parse_duration, parse_execute_on
from .settlement import End, Live, Outcome, settle
from .topology import Layout
from .world import World

T = TypeVar("T")
Operation = Generator[Sequence[Command], list[Reply], T]

BATCH_TASKS = 500
"""Most tasks in one call of a script: enough to make the call's own cost small, few enough to block nobody."""
BATCH_BYTES = 1024 * 1024
PAGE = 200
STREAM_TASKS = 5000
"""Tasks that `assign_tasks` checks and sends in one go."""
STREAM_BYTES = 8 * 1024 * 1024
CLEAR_STEP = 1000


async def drive_async(operation: Operation[T], execute: Callable[[Sequence[Command]], Awaitable[list[Reply]]]) -> T:
    """`drive` with an asyncio `execute`."""
    try:
        requests = next(operation)
        while True:
            requests = operation.send(await execute(requests))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


def drive(operation: Operation[T], execute: Callable[[Sequence[Command]], list[Reply]]) -> T:
    """Runs an operation with a blocking `execute`."""
    try:
        requests = next(operation)
        while True:
            requests = operation.send(execute(requests))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


class Operations:
    """The operations on one namespace. Holds no state but how far the servers' clocks are from ours."""

    def __init__(self, layout: Layout, options: Options, world: World) -> None:
        self._layout = layout
        self._options = options
        self._world = world
        self._offsets: dict[str, float] = {}

    # -- writing -----------------------------------------------------------------------------------------------------

    def assign_task(self, task: object, if_version: str | None = None) -> Operation[bool]:
        prepared = self._prepare(task)
        home = self._layout.home(prepared.id)
        operation = self._world.token()
        if if_version is not None:
            if not isinstance(if_version, str) or " " in if_version:
                raise InvalidTask("assign_task", "if_version", f"is {if_version!r}", "use ScheduledTask.version, or ''")
            operation += f" {if_version}"
        [reply] = yield [self._assign(home, [prepared], operation)]
        answer = self._answer(home, reply)[2]
        if answer == b"x":
            raise TaskChanged(prepared.id.decode(), if_version or "")
        return bool(answer == b"c")

    def assign_tasks(self, tasks: Iterable[object]) -> Operation[AssignResult]:
        _require_several(tasks, "assign_tasks", "assign_task")
        not_written: list[str] = []
        unknown: list[str] = []
        failure: PartitionUnavailable | None = None
        done = [0, 0]
        for batch in self._batches(iter(tasks), done):
            requests, contents = self._assign_requests(batch)
            for content, reply in zip(contents, (yield requests), strict=True):
                if isinstance(reply, PartitionUnavailable):
                    failure = reply
                    (unknown if reply.unknown_outcome else not_written).extend(task.id.decode() for task in content)
                    continue
                answers = self._answer(self._layout.home(content[0].id), reply)[2]
                done[0] += answers.count(b"c")
                done[1] += answers.count(b"u")
            if failure is not None:
                raise AssignFailed(done[0], done[1], not_written, unknown) from failure
        return AssignResult(done[0], done[1])

    def remove_tasks(self, tasks: Iterable[object]) -> Operation[int]:
        """Counts what was removed."""
        _require_several(tasks, "remove_tasks", "remove_task")
        homes: dict[Partition, list[bytes]] = {}
        for task_id in dict.fromkeys(task_id_of(task) for task in tasks):
            homes.setdefault(self._layout.home(task_id), []).append(task_id)
        chunks = [
            (home, ids[start : start + BATCH_TASKS])
            for home, ids in homes.items()
            for start in range(0, len(ids), BATCH_TASKS)
        ]
        removed = 0
        for at in range(0, len(chunks), 64):
            part = chunks[at : at + 64]
            replies = yield [self._call(home, "remove", *ids, repeatable=True) for home, ids in part]
            for (home, _), reply in zip(part, replies, strict=True):
                removed += self._answer(home, reply)[2].count(b"1")
        return removed

    def reschedule_task(self, task: object, delay: object, execute_on: object) -> Operation[bool]:
        task_id = task_id_of(task)
        if (delay is None) == (execute_on is None):
            raise InvalidTask("reschedule_task", "delay", "and execute_on are exclusive", "give exactly one of them")
        if delay is not None:
            when = f"+{parse_duration(delay, 'reschedule_task', 'delay', maximum_ms=100 * 365 * 86_400_000)}"
        else:
            when = f"={parse_execute_on(execute_on, 'reschedule_task')}"
        reply = yield from self._one(task_id, "reschedule", self._world.token(), task_id, when)
        return bool(reply[2])

    def run_task_now(self, task: object) -> Operation[bool]:
        task_id = task_id_of(task)
        reply = yield from self._one(task_id, "run_now", self._world.token(), task_id)
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
            yield from self._settle_confirmed(task_id, reply[3], int(reply[1]) // 1000)
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

    # -- reading -----------------------------------------------------------------------------------------------------

    def peek_task(self, task: object) -> Operation[ScheduledTask | None]:
        task_id = task_id_of(task)
        _, stamp, record, _, dead = yield from self._one(task_id, "peek", task_id, repeatable=True)
        now = int(stamp) / 1000
        if record:
            return self._scheduled_task(task_id, record, now)
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

    def dead_page(self, partition: Partition, start: int) -> Operation[list[tuple[bytes, bytes]]]:
        """Some dead letters of one partition, from the rank `start` on: ids and records as they are stored."""
        [reply] = yield [self._call(partition, "dead", start, PAGE, repeatable=True)]
        entries = self._answer(partition, reply)[2:]
        return list(zip(entries[::2], entries[1::2], strict=True))

    def dead_tasks(self) -> Operation[list[DeadTask]]:
        letters = []
        for partition in self._layout.partitions:
            start = 0
            while page := (yield from self.dead_page(partition, start)):
                letters += [_dead_task(task_id, record) for task_id, record in page]
                start += len(page)
                if len(page) < PAGE:
                    break
        return sorted(letters, key=lambda letter: (letter.last, letter.id))

    def retry_dead_tasks(self, ids: Iterable[str] | None) -> Operation[int]:
        if ids is not None:
            _require_several(ids, "retry_dead_tasks", "retry_dead_tasks([id])")
        wanted = None if ids is None else {encode_id(task_id, "retry_dead_tasks") for task_id in ids}
        revived = 0
        for partition in self._layout.partitions:
            if wanted is not None and not any(self._layout.home(task_id) == partition for task_id in wanted):
                continue
            found: list[tuple[bytes, bytes]] = []
            while page := (yield from self.dead_page(partition, len(found))):
                found += page
                if len(page) < PAGE:
                    break
            chosen = [entry for entry in found if wanted is None or entry[0] in wanted]
            for start in range(0, len(chosen), 100):
                args: list[bytes] = []
                for task_id, record in chosen[start : start + 100]:
                    args += [task_id, record, split_record(record)[1]]
                [reply] = yield [self._call(partition, "revive", self._world.token(), *args)]
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

    def _prepare(self, task: object) -> Prepared:
        # Only the first match of a Cron depends on the clock, and its partition is not known before its id is checked.
        return prepare(task, self._options.max_payload_bytes, self._now_ms())

    def _now_ms(self) -> int:
        explicit = self._world.script_now()
        if explicit:
            return int(explicit)
        offset = max(self._offsets.values(), default=0.0)
        return math.ceil((self._world.time() + offset) * 1000)

    def _assign(self, home: Partition, batch: Sequence[Prepared], operation: str) -> Command:
        args: list[Any] = []
        for task in batch:
            args += (task.id, task.when, task.delay or "", task.body)
        return self._call(home, "assign", operation, *args, repeatable=True)

    def _assign_requests(self, batch: Sequence[Prepared]) -> tuple[list[Command], list[list[Prepared]]]:
        homes: dict[Partition, list[Prepared]] = {}
        for task in batch:
            homes.setdefault(self._layout.home(task.id), []).append(task)
        operation = self._world.token()
        requests, contents = [], []
        for home, tasks in homes.items():
            for chunk in _chunks(tasks):
                requests.append(self._assign(home, chunk, operation))
                contents.append(chunk)
        return requests, contents

    def _batches(self, tasks: Iterator[object], done: Sequence[int]) -> Iterator[list[Prepared]]:
        """Checked tasks, in batches: one that is refused keeps its whole batch from being written."""
        batch: dict[bytes, Prepared] = {}
        size = 0
        last_task: Prepared | None = None
        while True:
            try:
                for task in tasks:
                    last_task = self._prepare(task)
                    if last_task.id in batch:  # the second one of an id updates the first one
                        break
                    batch[last_task.id] = last_task
                    size += last_task.size
                    last_task = None
                    if len(batch) >= STREAM_TASKS or size >= STREAM_BYTES:
                        break
            except InvalidTask as error:
                error.created, error.updated = done
                error.not_written = [task_id.decode() for task_id in batch]
                raise
            if not batch:
                return
            yield list(batch.values())
            batch = {} if last_task is None else {last_task.id: last_task}
            size = sum(task.size for task in batch.values())
            last_task = None

    def _call(self, home: Partition, name: str, *args: Any, repeatable: bool = False) -> Command:
        return home.call(name, self._world.script_now(), *args, repeatable=repeatable)

    def _one(self, task_id: bytes, name: str, *args: Any, repeatable: bool = True) -> Operation[list[Any]]:
        home = self._layout.home(task_id)
        [reply] = yield [self._call(home, name, *args, repeatable=repeatable)]
        return self._answer(home, reply)

    def _each(self, name: str, *args: Any, among: Sequence[Partition] | None = None) -> list[Command]:
        chosen = self._layout.partitions if among is None else among
        return [self._call(partition, name, *args, repeatable=True) for partition in chosen]

    def _answer(self, home: Partition, reply: Reply) -> list[Any]:
        answer = check(home, reply)
        self._offsets[home.instance] = int(answer[1]) / 1e6 - self._world.time()
        return answer

    def _scheduled_task(self, task_id: bytes, record: bytes, now: float) -> ScheduledTask:
        raw, body = split_record(record)
        header, definition = parse_header(raw), decode_body(body)
        state: State = "scheduled"
        if header.state == RUNNING:
            state = "running"
        elif header.state == RETRYING:
            state = "retrying"
        return _task_view(task_id, header, definition, state, now)


class Upcoming:
    """Waiting tasks of all partitions in due order, merged from pages of each.

    Alternate `fill`, an operation that must be driven, and `take`, until `take` returns nothing.
    """

    def __init__(self, operations: Operations, offset_ms: int, span_ms: int | None, limit: int | None) -> None:
        self._operations = operations
        self._offset, self._span, self._left = offset_ms, span_ms, limit
        self._until = "+inf"
        self._heap: list[tuple[int, bytes, int, bytes]] = []
        # Partition number: the cursor to read on from. A partition that is read to its end is not in here.
        self._cursors: dict[int, tuple[str, bytes]] | None = None
        self._buffered: dict[int, int] = {}
        self._now = 0.0

    def fill(self) -> Operation[None]:
        """Reads a page of every partition that has nothing buffered and is not at its end."""
        layout = self._operations._layout
        if self._cursors is None:
            yield from self._start(layout)
        assert self._cursors is not None
        empty = [number for number in self._cursors if not self._buffered.get(number)]
        if not empty or self._left == 0:
            return
        page = PAGE if self._left is None else min(PAGE, self._left)
        requests = [
            self._operations._call(
                layout.partitions[number], "upcoming", *self._cursors[number], self._until, page, repeatable=True
            )
            for number in empty
        ]
        for number, reply in zip(empty, (yield requests), strict=True):
            _, stamp, *entries = self._operations._answer(layout.partitions[number], reply)
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
            [reply] = yield [self._operations._call(layout.partitions[0], "count", repeatable=True)]
            now = int(self._operations._answer(layout.partitions[0], reply)[1]) // 1000
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
            tasks.append(self._operations._scheduled_task(task_id, record, self._now))
            if self._left is not None:
                self._left -= 1
            if not self._buffered[number] and number in (self._cursors or {}):
                break
        return tasks


def check(home: Partition, reply: Reply) -> list[Any]:
    """The reply of a partition script.

    Raises:
        PartitionUnavailable: where there is none.
        TopologyMismatch: where the partition is not there.
    """
    if isinstance(reply, PartitionUnavailable):
        raise reply
    if reply[0] in REFUSALS:
        what = "has moved" if reply[0] == b"moved" else "is gone: its data was lost, or belongs to another server"
        raise TopologyMismatch(
            f"partition {home.number} on instance {home.instance!r} {what}. Nothing was written; "
            "reconnect, and restore the data of the instance if this goes on."
        )
    return reply  # type: ignore[no-any-return]


def _require_several(tasks: object, method: str, single: str) -> None:
    """A text is an iterable too, and its letters may be ids."""
    if isinstance(tasks, str | bytes) or not isinstance(tasks, Iterable):
        raise InvalidTask(method, "tasks", f"is {tasks!r}", f"pass a list or another iterable; for one use {single}")


def _chunks(tasks: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    chunk: list[Prepared] = []
    size = 0
    for task in tasks:
        if chunk and (len(chunk) >= BATCH_TASKS or size + task.size > BATCH_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(task)
        size += task.size
    if chunk:
        yield chunk


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
