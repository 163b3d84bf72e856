"""A method that blocks, called on an event loop. fault-D12."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from interval_scheduler import Scheduler
from tests.tasks import Job


@pytest.fixture
def scheduler() -> Any:
    made = Scheduler("memory://blocking", partitions=2)
    made.start_task_accept()
    yield made
    made.close()


CALLS: dict[str, Callable[[Scheduler], object]] = {
    "assign_task": lambda scheduler: scheduler.assign_task(Job("a")),
    "assign_tasks": lambda scheduler: scheduler.assign_tasks([Job("a")]),
    "peek_task": lambda scheduler: scheduler.peek_task("a"),
    "upcoming": lambda scheduler: list(scheduler.upcoming()),
    "try_lock": lambda scheduler: scheduler.try_lock("a"),
    "start_task_execute": partial(Scheduler.start_task_execute, handler=print),
    "stop_task_execute": Scheduler.stop_task_execute,
    "close": Scheduler.close,
}


@pytest.mark.parametrize("call", CALLS)
async def test_it_is_warned_of_once_with_the_place(scheduler: Scheduler, call: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CALLS[call](scheduler)
        CALLS["peek_task" if call != "close" else "close"](scheduler)
    [warning] = caught
    assert warning.category is RuntimeWarning
    assert warning.filename == __file__
    assert "use AsyncScheduler, or call it by asyncio.to_thread()" in str(warning.message)


def test_a_coroutine_handler_is_warned_too(scheduler: Scheduler) -> None:
    seen = threading.Event()

    async def handler(_: object) -> None:
        with pytest.warns(RuntimeWarning, match="on an event loop"):
            scheduler.peek_task("a")
        seen.set()

    scheduler.start_task_execute(handler)
    scheduler.assign_task(Job("a"))
    assert seen.wait(10)
    scheduler.stop_task_execute()


def test_threads_and_plain_handlers_are_not(scheduler: Scheduler) -> None:
    seen = threading.Event()

    def handler(_: object) -> None:
        scheduler.peek_task("a")
        seen.set()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler.start_task_execute(handler)
        scheduler.assign_task(Job("a"))
        assert seen.wait(10)
        scheduler.stop_task_execute()
    assert not caught
