"""`SimulatedScheduler`: what applications test their tasks with."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interval_scheduler import (
    Cron,
    InvalidOptions,
    NotAcceptingTasks,
    Retry,
    SchedulerClosed,
    SchedulerError,
    Task,
    current_execution,
)
from interval_scheduler.testing import Occurrence, SimulatedScheduler

START = datetime(2026, 3, 1, tzinfo=UTC)


class Reminder(Task):
    def __init__(self, id: str, due: datetime | None = None, interval: Any = None, retry: Retry | None = None) -> None:
        self.id = id
        self.execute_on = due
        self.reschedule_interval = interval
        self.retry = retry or Retry()

    def serialize(self) -> str:
        return f"payload of {self.id}"


@pytest.fixture
def scheduler() -> Iterator[SimulatedScheduler]:
    with SimulatedScheduler(start=START) as simulated:
        simulated.start_task_accept()
        yield simulated


@pytest.fixture
def seen(scheduler: SimulatedScheduler) -> list[Any]:
    """The payloads a plain handler was called with."""
    payloads: list[Any] = []
    scheduler.start_task_execute(payloads.append)
    return payloads


def test_a_month_passes(scheduler: SimulatedScheduler, seen: list[Any]) -> None:
    scheduler.assign_task(Reminder("trial", START + timedelta(days=29, milliseconds=1)))
    scheduler.assign_task(Reminder("daily", interval=Cron("0 9 * * *", tz="Europe/Paris")))
    assert scheduler.advance(days=28, hours=1) == scheduler.runs
    assert seen == ["payload of daily"] * 28
    runs = scheduler.advance(timedelta(days=2))
    assert [run.id for run in runs] == ["daily", "trial", "daily"]
    assert scheduler.now() == START + timedelta(days=30, hours=1)
    assert all(run.started == run.due and run.succeeded and run.attempt == 1 for run in scheduler.runs)
    # Nine in Paris is an hour earlier in UTC from the last Sunday of March on.
    assert {run.due.hour for run in scheduler.runs if run.id == "daily"} == {7, 8}


def test_what_is_due_at_the_very_end_runs(scheduler: SimulatedScheduler, seen: list[Any]) -> None:
    scheduler.post("now", delay=60)
    assert scheduler.advance(59.999) == []
    assert [run.payload for run in scheduler.advance(0.001)] == ["now"]


@pytest.mark.parametrize("start", [START + timedelta(microseconds=123_456), START, None])
def test_every_occurrence_of_a_short_interval(start: datetime | None) -> None:
    with SimulatedScheduler(start=start) as scheduler:
        scheduler.start_task_accept()
        scheduler.start_task_execute(lambda payload: None)
        scheduler.assign_task(Reminder("ticker", interval=0.05))
        runs = scheduler.advance(seconds=2)
        assert len(runs) == 41
        assert {run.started - run.due for run in runs} == {timedelta(0)}


def test_run_due_runs_what_is_due_and_nothing_else(scheduler: SimulatedScheduler) -> None:
    async def slow(payload: str) -> None:
        await asyncio.sleep(90)  # the work, in virtual time

    scheduler.assign_task(Reminder("now"))
    scheduler.assign_task(Reminder("later", START + timedelta(seconds=30)))
    scheduler.start_task_execute(slow)
    [run] = scheduler.run_due()
    assert (run.id, run.started, run.ended) == ("now", START, START + timedelta(seconds=90))
    assert not scheduler.is_scheduled("now")
    assert [run.id for run in scheduler.runs] == ["now", "later"]
    assert scheduler.runs[1].ended is None
    [later] = [run for run in scheduler.runs if not run.succeeded]
    scheduler.advance(60)
    assert later.succeeded


def test_would_run_runs_nothing(scheduler: SimulatedScheduler, seen: list[Any]) -> None:
    scheduler.assign_task(Reminder("once", START + timedelta(hours=30)))
    scheduler.assign_task(Reminder("daily", START + timedelta(hours=1), interval=86_400))
    scheduler.assign_task(Reminder("never", START + timedelta(days=99)))
    assert scheduler.would_run(days=2) == [
        Occurrence("daily", START + timedelta(hours=1)),
        Occurrence("daily", START + timedelta(hours=25)),
        Occurrence("once", START + timedelta(hours=30)),
    ]
    assert seen == []
    expected = scheduler.would_run(days=10)
    assert [Occurrence(run.id, run.due) for run in scheduler.advance(days=10)] == expected


def test_would_run_knows_jitter(scheduler: SimulatedScheduler, seen: list[Any]) -> None:
    task = Reminder("spread", START + timedelta(minutes=1), interval=3600)
    task.jitter = 600
    scheduler.assign_task(task)
    expected = scheduler.would_run(hours=5)
    assert [Occurrence(run.id, run.due) for run in scheduler.advance(hours=5)] == expected
    assert expected[0].due != START + timedelta(minutes=1)


def test_failures_are_retried_and_recorded(scheduler: SimulatedScheduler) -> None:
    def fail(payload: str) -> None:
        raise ValueError(f"attempt {current_execution().attempt}")

    scheduler.start_task_execute(fail)
    scheduler.assign_task(Reminder("bad", retry=Retry(max_retries=2, backoff=10, factor=6, jitter=0)))
    runs = scheduler.advance(hours=1)
    assert [str(run.exception) for run in runs] == ["attempt 1", "attempt 2", "attempt 3"]
    assert [run.started - START for run in runs] == [timedelta(seconds=s) for s in (0, 10, 70)]
    assert not any(run.succeeded for run in runs)
    [dead] = scheduler.dead_tasks()
    assert (dead.id, dead.error) == ("bad", "ValueError: attempt 3")


def test_handlers_may_assign_more(scheduler: SimulatedScheduler) -> None:
    def chain(payload: int) -> None:
        if payload < 3:
            scheduler.post(payload + 1, delay=3600, id=f"step {payload + 1}")

    scheduler.start_task_execute(chain)
    scheduler.post(0, delay=1)
    assert [run.payload for run in scheduler.advance(days=1)] == [0, 1, 2, 3]


def test_async_applications(scheduler: SimulatedScheduler) -> None:
    async def application() -> list[str]:
        other = scheduler.async_scheduler
        await other.start_task_accept()
        await other.post("from a coroutine", 60, id="coroutine")
        await asyncio.sleep(30)  # of virtual time
        return [task.id async for task in other.upcoming()]

    async def handler(payload: str) -> None:
        await scheduler.async_scheduler.post("follow-up", 60)

    assert scheduler.run(application()) == ["coroutine"]
    assert scheduler.now() == START + timedelta(seconds=30)
    scheduler.start_task_execute(handler)
    assert [run.payload for run in scheduler.advance(100)] == ["from a coroutine", "follow-up"]


def test_leases_pass_in_virtual_time_too(scheduler: SimulatedScheduler, seen: list[Any]) -> None:
    scheduler.stop_task_execute()
    scheduler.start_task_execute(seen.append, confirm="manual")
    scheduler.assign_task(Reminder("manual", retry=Retry(max_retries=1, backoff=0, jitter=0)))
    runs = scheduler.advance(minutes=5)
    assert [run.attempt for run in runs] == [1, 2]
    assert runs[1].started - runs[0].started == timedelta(seconds=scheduler.options.lease_seconds)
    assert [task.id for task in scheduler.dead_tasks()] == ["manual"]


def test_the_same_seed_is_the_same_future() -> None:
    def future(seed: int) -> list[datetime]:
        def fail(payload: str) -> None:
            raise ValueError

        with SimulatedScheduler(start=START, seed=seed) as scheduler:
            scheduler.start_task_accept()
            scheduler.start_task_execute(fail)
            scheduler.assign_task(Reminder("jittery", retry=Retry(max_retries=5, jitter=0.5)))
            return [run.started for run in scheduler.advance(hours=1)]

    assert future(1) == future(1) != future(2)


def test_options_of_the_application_are_taken() -> None:
    urls = [{"url": "redis://cache-a:6379", "name": "a"}, {"url": "redis://cache-b:6379", "name": "b"}]
    with SimulatedScheduler(urls, start=START, namespace="shop", concurrency=3) as scheduler:
        scheduler.start_task_accept()
        scheduler.start_task_execute(lambda payload: None)
        scheduler.assign_tasks(Reminder(f"task {number}") for number in range(50))
        assert {partition.instance for partition in scheduler.stats().partitions if partition.scheduled} == {"a", "b"}
        assert len(scheduler.run_due()) == 50
        assert scheduler.options.namespace == "shop"


def test_what_makes_no_sense_is_refused(scheduler: SimulatedScheduler) -> None:
    with pytest.raises(InvalidOptions, match="without a time zone"):
        SimulatedScheduler(start=datetime(2026, 1, 1))
    with pytest.raises(InvalidOptions, match="time cannot go back"):
        scheduler.advance(-1)
    with pytest.raises(SchedulerError, match=r"start_task_execute\(handler\)"):
        scheduler.run_due()
    with pytest.raises(SchedulerError, match="advance"):
        scheduler.wait()
    with pytest.raises(InvalidOptions, match="handler"):
        scheduler.start_task_execute(None)  # type: ignore[arg-type]
    scheduler.stop_task_accept()
    with pytest.raises(NotAcceptingTasks):
        scheduler.post("x", 1)


def test_time_cannot_pass_inside_of_time(scheduler: SimulatedScheduler) -> None:
    errors: list[SchedulerError] = []

    def impatient(payload: str) -> None:
        for attempt in (lambda: scheduler.advance(1), scheduler.stop_task_execute):
            with pytest.raises(SchedulerError) as caught:
                attempt()
            errors.append(caught.value)

    scheduler.start_task_execute(impatient)
    scheduler.post("x", 1)
    [run] = scheduler.advance(2)
    assert run.succeeded
    assert len(errors) == 2


def test_a_wait_that_nothing_ends_is_an_error(scheduler: SimulatedScheduler) -> None:
    async def wait_for_ever() -> None:
        await asyncio.Event().wait()

    scheduler.stop_task_accept()
    with pytest.raises(SchedulerError, match="never happens"):
        scheduler.run(wait_for_ever())


def test_what_would_run_before_anything_was_assigned() -> None:
    with SimulatedScheduler(start=START) as fresh:
        assert fresh.would_run(hours=1) == []


@pytest.mark.parametrize("start", ["2026-01-01", 5, START.date()])
def test_a_start_that_is_no_time_is_refused(start: Any) -> None:
    with pytest.raises(InvalidOptions, match=r"start is an? (str|int|date): use an aware datetime"):
        SimulatedScheduler(start=start)


@pytest.mark.parametrize(
    ("by", "parts", "shown"),
    [
        (0, {"hour": 1}, "hour=1"),
        (0, {"hours": "1"}, "hours='1'"),
        (float("nan"), {}, "nan"),
        ("5", {}, "'5'"),
        (1e300, {}, "1e"),
    ],
)
def test_a_time_to_pass_that_is_none_is_refused(
    scheduler: SimulatedScheduler, by: Any, parts: dict[str, Any], shown: str
) -> None:
    for method in (scheduler.advance, scheduler.would_run):
        with pytest.raises(
            InvalidOptions, match=rf"the time to pass is .*{re.escape(shown)}.*: use seconds, a timedelta"
        ):
            method(by, **parts)


def test_nothing_happens_after_it_was_closed() -> None:
    scheduler = SimulatedScheduler(start=START)
    scheduler.start_task_accept()
    scheduler.start_task_execute(print)
    scheduler.close()
    for call in (scheduler.advance, scheduler.run_due, scheduler.would_run):
        with pytest.raises(SchedulerClosed):
            call()
