"""Calls that write and read tasks: assign, remove, reschedule, run_now, confirm, clear, peek, count, upcoming."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..commands import Argument, Command, Partition, Reply, partition_command, require_done

CREATED, UPDATED, OTHER_VERSION = b"cux"
"""What `assign` says of a task: it is new, it was updated, or it is not at the version that was asked for."""
_YES = b"1"


@dataclass(slots=True)
class Assigned:
    """`answers` has a byte per task: `CREATED`, `UPDATED` or `OTHER_VERSION`."""

    now_us: int
    answers: bytes


def assign(
    partition: Partition, now: str, call_id: str, tasks: Sequence[Argument], if_version: str | None = None
) -> Command:
    """Creates or updates tasks which live together.

    `tasks` holds the entries of one `Prepared` after the other, without an id that comes twice. `call_id` becomes the
    version of what is written, by which a repeat is recognised. With `if_version` only tasks at that version are
    written; "" means that they must not exist.
    """
    head = call_id if if_version is None else f"{call_id} {if_version}"
    return partition_command("assign", partition, now, (head, *tasks), repeatable=True)


def read_assign(partition: Partition, reply: Reply) -> Assigned:
    _, now_us, answers = require_done(partition, reply)
    return Assigned(now_us, answers)


@dataclass(slots=True)
class Counted:
    """How many tasks, or dead letters, a call has changed."""

    now_us: int
    count: int


@dataclass(slots=True)
class Done:
    """Whether the task of a call exists, so that the call was carried out."""

    now_us: int
    done: bool


def remove(partition: Partition, now: str, ids: Sequence[bytes]) -> Command:
    """Deletes tasks and their dead letters."""
    return partition_command("remove", partition, now, ids, repeatable=True)


def read_remove(partition: Partition, reply: Reply) -> Counted:
    _, now_us, answers = require_done(partition, reply)
    return Counted(now_us, answers.count(_YES))


def reschedule(partition: Partition, now: str, call_id: str, task_id: bytes, when: str) -> Command:
    """Moves the pending occurrence of a task; `when` is ``=ms`` (a time) or ``+ms`` (that long after now)."""
    return partition_command("reschedule", partition, now, (call_id, task_id, when), repeatable=True)


def read_reschedule(partition: Partition, reply: Reply) -> Done:
    _, now_us, moved = require_done(partition, reply)
    return Done(now_us, bool(moved))


def run_now(partition: Partition, now: str, call_id: str, task_id: bytes) -> Command:
    """Asks for an extra run of a task."""
    return partition_command("run_now", partition, now, (call_id, task_id), repeatable=True)


def read_run_now(partition: Partition, reply: Reply) -> Done:
    _, now_us, asked = require_done(partition, reply)
    return Done(now_us, bool(asked))


@dataclass(slots=True)
class Confirmed:
    """`record` is that of a run whose handler has returned, which must be settled now; else b""."""

    now_us: int
    confirmed: bool
    record: bytes


def confirm(partition: Partition, now: str, task_id: bytes, token: int) -> Command:
    """Marks the live run with this fencing token as done."""
    return partition_command("confirm", partition, now, (task_id, str(token)), repeatable=True)


def read_confirm(partition: Partition, reply: Reply) -> Confirmed:
    _, now_us, confirmed, *record = require_done(partition, reply)
    return Confirmed(now_us, bool(confirmed), (record[0] or b"") if record else b"")


@dataclass(slots=True)
class Cleared:
    """`tasks` were deleted by this step, and `more` may be there."""

    now_us: int
    tasks: int
    more: bool


def clear(partition: Partition, now: str, limit: int) -> Command:
    """Deletes up to `limit` entries."""
    return partition_command("clear", partition, now, (str(limit),), repeatable=True)


def read_clear(partition: Partition, reply: Reply) -> Cleared:
    _, now_us, tasks, more = require_done(partition, reply)
    return Cleared(now_us, tasks, bool(more))


@dataclass(slots=True)
class Peek:
    """The `record` of a task, else its `dead_letter`; b"" for what is not there."""

    now_us: int
    record: bytes
    dead_letter: bytes


def peek(partition: Partition, now: str, task_id: bytes) -> Command:
    """Reads one task."""
    return partition_command("peek", partition, now, (task_id,), repeatable=True)


def read_peek(partition: Partition, reply: Reply) -> Peek:
    _, now_us, record, dead_letter = require_done(partition, reply)
    return Peek(now_us, record, dead_letter)


@dataclass(slots=True)
class Count:
    """How much is in a partition. `tasks` are all live ones; `due` is the earliest due time in ms, None for none."""

    now_us: int
    tasks: int
    buckets: int
    retrying: int
    running: int
    dead: int
    due: int | None


def count(partition: Partition, now: str) -> Command:
    """Counts what is in a partition."""
    return partition_command("count", partition, now, repeatable=True)


def read_count(partition: Partition, reply: Reply) -> Count:
    _, now_us, tasks, buckets, retrying, running, dead, due = require_done(partition, reply)
    return Count(now_us, tasks, buckets, retrying, running, dead, int(due) if due else None)


@dataclass(slots=True)
class Page:
    """Waiting tasks: due time in ms, id and record of each."""

    now_us: int
    tasks: list[tuple[int, bytes, bytes]]


def upcoming(partition: Partition, now: str, start: str, after: bytes, until: str, limit: int) -> Command:
    """Reads a page of the waiting tasks in due order.

    `start` is a due time in ms or ``-inf``; where `after` is the id of the last task that was seen, what is due then
    is left out up to this id. `until` is a due time in ms (inclusive) or ``+inf``.
    """
    return partition_command("upcoming", partition, now, (start, after, until, str(limit)), repeatable=True)


def read_upcoming(partition: Partition, reply: Reply) -> Page:
    _, now_us, *entries = require_done(partition, reply)
    rows: Iterator[tuple[bytes, bytes, bytes]] = zip(entries[::3], entries[1::3], entries[2::3], strict=True)
    return Page(now_us, [(int(due), task_id, record) for due, task_id, record in rows])
