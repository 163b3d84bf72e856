"""The repr of everything public is short, says what matters, and holds no secret and no address in memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import interval_scheduler
from interval_scheduler import (
    AssignResult,
    AsyncLock,
    AsyncScheduler,
    Audit,
    Cron,
    DeadTask,
    Event,
    Execution,
    Lock,
    Options,
    PartitionStats,
    Problem,
    Retry,
    ScheduledTask,
    Scheduler,
    Stats,
    StorageOptions,
    Task,
)
from interval_scheduler.core.definition import Definition
from interval_scheduler.core.record import Header
from interval_scheduler.model.instances import parse_instance
from interval_scheduler.protocol.commands import Partition
from interval_scheduler.support.text import LONGEST_REPR, error_text, is_of, short_repr, type_name, valid_text
from interval_scheduler.testing.hostility import Anonymous, Faceless, Secretive, Speechless, Text
from interval_scheduler.worker.run import Run

LONG = "x" * 1000
WHEN = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)
SECRET = "hunter2"
URL = f"redis://user:{SECRET}@host:6379/0"


class Broken:
    """A value of an application whose repr raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class User(Task):
    def __init__(self, name: Any) -> None:
        self.name = name

    @property
    def id(self) -> Any:
        return self.name

    def serialize(self) -> Any:
        return None


class Unfinished(Task):
    @property
    def id(self) -> str:
        raise RuntimeError("not complete yet")


def scheduled(id: str, payload: Any, interval: Any, error: str | None = None) -> ScheduledTask:
    return ScheduledTask(id, payload, WHEN, 3.5, interval, "retrying", 12, error)


def execution(id: str) -> Execution:
    header = Header("r", 1_772_366_400_250, "revision", 17, attempt=1)
    partition = Partition(3, "redis-0", "meta")
    # Its repr asks nothing of the worker.
    host: Any = None
    run = Run(id, header, Definition(None), header.due, 0, False, host, partition, id.encode(), b"", header.due, 0.0)
    return Execution(run)


async def extend(*_: object) -> bool:
    return True


PARTITIONS = tuple(PartitionStats(number, f"redis-{number}", scheduled=2) for number in range(64))
PROBLEM = Problem("place", "user:1", 3, "redis-0", "it is in no set", True)
LONG_PROBLEM = Problem("header", LONG, 16_383, LONG, LONG, False)

CASES: list[tuple[Any, str]] = [
    (User("user:1"), "User('user:1')"),
    (User(LONG), "User('xxx"),
    (User(None), "User(None)"),
    (User(Broken()), "User(<Broken without a repr>)"),
    (Unfinished(), "Unfinished(no id)"),
    (
        scheduled("user:1", {"user_id": 1}, timedelta(minutes=1)),
        "ScheduledTask('user:1', retrying, due 2026-03-01 12:00:00.250+00:00, every 0:01:00, attempt 12, "
        "payload {'user_id': 1})",
    ),
    (scheduled(LONG, LONG, Cron("*/5 * * * *", "Europe/Paris"), LONG), "every Cron('*/5 * * * *', tz='Europe/Paris')"),
    (scheduled("a", Broken(), None, "boom"), "payload <Broken without a repr>, error 'boom')"),
    (
        DeadTask("user:1", [1], "ValueError: no", 2, WHEN, WHEN),
        "DeadTask('user:1', 2 times, last 2026-03-01 12:00:00.250+00:00, error 'ValueError: no', payload [1])",
    ),
    (DeadTask(LONG, Broken(), LONG, 1, WHEN, WHEN), "payload <Broken without a repr>)"),
    (Stats(PARTITIONS), "Stats(64 partitions, scheduled=128, running=0, retrying=0, dead=0)"),
    (Stats((*PARTITIONS, PartitionStats(64, LONG, error=LONG))), "Stats(65 partitions, 1 of them unreachable, "),
    (
        PartitionStats(3, "redis-0", 5, 1, lateness=0.25, next_due=WHEN),
        "PartitionStats(3 on 'redis-0', scheduled=5, running=1, retrying=0, dead=0, lateness=0.250, next due 2026-03",
    ),
    (PartitionStats(3, LONG, error=LONG), "error 'xxx"),
    (AssignResult(3, 1), "AssignResult(created=3, updated=1)"),
    (PROBLEM, "Problem(place, 'user:1', partition 3 on 'redis-0', repaired, found 'it is in no set')"),
    (LONG_PROBLEM, "Problem(header, 'xxx"),
    (Audit(7, 1, ()), "Audit(tasks=7, dead=1, no problems)"),
    (Audit(7, 1, (PROBLEM, LONG_PROBLEM) * 500), "Audit(tasks=7, dead=1, 1000 problems, 500 repaired)"),
    (Event("task-done", {"id": "a", "attempt": 1}), "Event('task-done', id='a', attempt=1)"),
    (Event("task-dead", {"id": LONG, "error": LONG, "exception": ValueError(LONG)}), "Event('task-dead', id='xxx"),
    (
        execution("user:1"),
        "Execution('user:1', due 2026-03-01 12:00:00.250+00:00, attempt 2, fencing_token=17)",
    ),
    (execution(LONG), "attempt 2, fencing_token=17)"),
    (Retry(), "Retry(max_retries=3, backoff=1.0, factor=2.0, max_backoff=3600.0, jitter=0.1)"),
    (Cron("*/5 * * * *"), "Cron('*/5 * * * *')"),
    (Cron(",".join(map(str, range(60))) + " * * * *", "Europe/Paris"), "tz='Europe/Paris')"),
    (Lock("stock", 5, SECRET, extend), "Lock('stock', fencing_token=5)"),
    (AsyncLock(LONG, 5, SECRET, extend), "fencing_token=5)"),
    (Options(), "Options('interval-scheduler', 'localhost:6379/0')"),
    (
        Options(StorageOptions([URL, URL], evicting_servers="refuse"), namespace="shop", concurrency=5),
        "Options('shop', 'host:6379/0' and 1 more, concurrency=5, evicting_servers='refuse')",
    ),
    (
        StorageOptions([{"url": URL, "name": "one", "password": SECRET}], task_interval_seconds=1),
        "StorageOptions('one', task_interval_seconds=1)",
    ),
    (StorageOptions([f"nonsense {SECRET}"]), "StorageOptions(a wrong instance)"),
    (StorageOptions(URL), "StorageOptions('host:6379/0')"),
    (Options(StorageOptions([{"name": LONG[:200]}]), namespace=LONG[:100], partitions=3), "Options('xxx"),
    (parse_instance(URL), "Instance('host:6379/0', 'redis', weight=1)"),
    (parse_instance({"url": URL, "name": LONG[:200], "weight": 0.5}), "weight=0.5)"),
]


def ids() -> list[str]:
    return [f"{type(value).__name__}-{number}" for number, (value, _) in enumerate(CASES)]


@pytest.mark.parametrize(("value", "text"), CASES, ids=ids())
def test_a_repr_is_short_and_says_what_matters(value: Any, text: str) -> None:
    check(repr(value), text)


def check(shown: str, text: str) -> None:
    assert text in shown
    assert len(shown) < 200
    assert " at 0x" not in shown
    assert SECRET not in shown


@pytest.mark.parametrize("kind", [Scheduler, AsyncScheduler])
def test_a_scheduler_says_where_it_is_and_what_it_does(kind: Any) -> None:
    name = kind.__name__
    scheduler = kind([URL, "redis://other"], namespace="n" * 100)
    check(repr(scheduler), f"{name}('{'n' * 100}', 'host:6379/0' and 1 more)")
    scheduler = kind(f"memory://{name}", namespace="reprs")

    async def use() -> None:
        async with scheduler:
            await scheduler.start_task_accept()
            check(repr(scheduler), f"{name}('reprs', 'memory:{name}', accepting)")
            await scheduler.start_task_execute(lambda payload: None)
            check(repr(scheduler), f"{name}('reprs', 'memory:{name}', accepting, executing)")

    if kind is AsyncScheduler:
        asyncio.run(use())
    else:
        with scheduler:
            scheduler.start_task_accept()
            scheduler.start_task_execute(lambda payload: None)
            check(repr(scheduler), f"{name}('reprs', 'memory:{name}', accepting, executing)")
    check(repr(scheduler), f"{name}('reprs', 'memory:{name}', closed)")


def test_every_public_class_is_here() -> None:
    tested = {base for value, _ in CASES for base in type(value).__mro__} | {Scheduler, AsyncScheduler}
    for name in interval_scheduler.__all__:
        thing = getattr(interval_scheduler, name)
        if isinstance(thing, type) and not issubclass(thing, Exception):
            assert thing in tested, name


def test_whatever_a_value_is_it_becomes_a_short_text() -> None:
    assert short_repr("a") == "'a'"
    assert len(short_repr(LONG)) < 80
    assert len(short_repr(LONG, 30)) < 30
    assert short_repr(10**5000) == "<int without a repr>"
    assert LONGEST_REPR < 200


def test_whatever_a_value_does_it_has_a_text() -> None:
    assert short_repr(Speechless()) == "<Speechless without a repr>"
    for error in (Speechless("x"), Secretive("x"), Anonymous("x"), Faceless("x")):
        assert error_text(error) in (type_name(error), f"{type_name(error)}: x")
        assert is_of(error, BaseException)
        assert not is_of(error, ValueError, KeyError)
    assert type_name(Anonymous()) == "Anonymous"
    text = valid_text(Text("ab\ud800" * 1000), 5)
    assert (text, type(text)) == ("ab?ab", str)
