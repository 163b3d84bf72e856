"""Parts of a worker, each by itself: what runners give back, what is reported of an instance, and wrong arguments."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from interval_scheduler import InvalidOptions, Scheduler, SchedulerError, current_execution
from interval_scheduler.core.definition import Definition
from interval_scheduler.core.record import parse_header
from interval_scheduler.model.errors import PartitionUnavailable, UnusableInstance
from interval_scheduler.model.events import Events
from interval_scheduler.model.options import load_options
from interval_scheduler.protocol.commands import Partition
from interval_scheduler.protocol.topology import Layout
from interval_scheduler.servers.health import Health
from interval_scheduler.support.log import Log
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.worker.context import Context
from interval_scheduler.worker.run import Run
from interval_scheduler.worker.runners import CoroutineRunners, ThreadRunners
from interval_scheduler.worker.slots import Slots
from interval_scheduler.worker.timer import Timer
from tests.unit.test_doctor import Lines

HEADER = b"r1000,revision,5"
HOME = Partition(0, "redis", "{ns:0}:meta")
NOBODY: Any = None


class Observer:
    """Notes which runs began and ended."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def handler_begins(self, run: Run) -> None:
        self.begun.append(run.task_id)

    def handler_ended(self, run: Run, _outcome: object) -> None:
        self.ended.append(run.task_id)


def a_run(task_id: str) -> Run:
    live = (task_id, parse_header(HEADER), Definition(None), 1000, 1000, False)
    return Run(*live, NOBODY, HOME, task_id.encode(), HEADER, 1000, 1e12)


async def test_plain_runs_that_no_thread_has_taken_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    observer = Observer()
    runners = ThreadRunners(print, cast("Any", observer))
    for task_id in "abc":
        runners.submit(a_run(task_id))
    runners.close()
    runners._queue.put(None)  # what tells a thread to end is no run
    assert [run.task_id for run in runners.withdraw()] == ["a", "b", "c"]
    assert runners.withdraw() == []
    assert observer.begun == []


async def test_coroutine_runs_that_have_not_begun_are_given_back() -> None:
    observer = Observer()

    async def handler(_: object) -> None:
        raise AssertionError("it was given back")

    runners = CoroutineRunners(handler, cast("Any", observer))
    for task_id in "abc":
        runners.submit(a_run(task_id))
    assert [run.task_id for run in runners.withdraw()] == ["a", "b", "c"]
    await asyncio.sleep(0)
    assert observer.begun == []
    runners.close()


@pytest.mark.parametrize("has_health", [True, False])
async def test_what_fails_on_an_instance_is_told_once_by_its_kind(has_health: bool) -> None:
    lines = Lines()
    log, options = Log(lines), load_options("memory://", {}, {})
    events = Events(log)
    told: list[object] = []
    events.on("error", told.append)
    health = Health("redis", events, log) if has_health else None
    layout = Layout("ns", "redis", (HOME,))
    context = Context("me", layout, options, NOBODY, events, log, Runtime(), health=health)
    errors = [
        UnusableInstance("redis", "wrong password", "correct it"),
        PartitionUnavailable("redis", "away"),
        ValueError("else"),
    ]
    for error in errors:
        context.report("redis", error)
    assert len(told) == 3
    said = str(lines.lines)
    assert ("correct it" in said) == has_health
    assert "away" not in said
    assert "else" in said


def test_nothing_is_reported_to_a_loop_that_has_ended() -> None:
    loop = asyncio.new_event_loop()
    told: list[object] = []

    async def make() -> Context:
        log = Log()
        events = Events(log)
        events.on("error", told.append)
        return Context(
            "me", Layout("ns", "redis", (HOME,)), load_options("memory://", {}, {}), NOBODY, events, log, Runtime()
        )

    context = loop.run_until_complete(make())
    loop.close()
    context.report_from_thread("redis", ValueError("late"))
    assert told == []


async def test_a_timer_of_the_loop_can_be_closed_before_and_after_it_was_set() -> None:
    fired: list[int] = []
    for is_set in (False, True):
        timer = Timer(lambda: fired.append(1), kernel_timers=False)
        if is_set:
            timer.set(0)
        timer.close()
    await asyncio.sleep(0.01)
    assert fired == []


def test_there_is_no_execution_outside_a_handler() -> None:
    with pytest.raises(SchedulerError, match="outside a handler"):
        current_execution()


def test_another_way_to_confirm_is_refused() -> None:
    confirm: Any = "by hand"
    with Scheduler("memory://confirm", partitions=1) as scheduler:
        with pytest.raises(InvalidOptions, match="confirm is 'by hand': use 'auto' or 'manual'"):
            scheduler.start_task_execute(print, confirm)
        assert not scheduler.executing_tasks


async def test_slots_tell_how_many_there_are() -> None:
    slots = Slots(3)
    slots.concurrency = 5
    assert slots.concurrency == 5
