"""What handlers say about their own runs, and assigning only what was not changed: over both schedulers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from interval_scheduler import (
    Execution,
    GiveUp,
    InvalidTask,
    Postpone,
    Retry,
    RetryAfter,
    SchedulerError,
    TaskChanged,
    current_execution,
)
from interval_scheduler.model.errors import HandlerVerdict
from tests.integration.conftest import Make
from tests.tasks import Job, Uniform, after, eventually

Seen = list[tuple[int, Any]]


def raising(seen: Seen, verdict: Callable[[int], BaseException | None], kind: str) -> Callable[[Any], Any]:
    """A plain or coroutine handler that notes (attempt, slot) and raises what `verdict(call number)` says."""

    def note(_payload: Any) -> None:
        execution = current_execution()
        seen.append((execution.attempt, execution.slot))
        error = verdict(len(seen))
        if error is not None:
            raise error

    async def coroutine(payload: Any) -> None:
        note(payload)

    return note if kind == "plain" else coroutine


@pytest.fixture(params=["plain", "coroutine"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_one_asked_for_twice_is_the_same_execution(scheduler: Uniform, kind: str) -> None:
    seen: list[tuple[Execution, Execution]] = []

    def note(_payload: Any) -> None:
        seen.append((current_execution(), current_execution()))

    async def coroutine(payload: Any) -> None:
        note(payload)

    await scheduler.start_task_execute(note if kind == "plain" else coroutine)
    await scheduler.assign_tasks([Job("a"), Job("b")])
    await eventually(lambda: len(seen) == 2)
    assert all(first == second for first, second in seen)
    assert len({execution for pair in seen for execution in pair}) == 2, "one for each run, as in a set of live ones"


async def test_retry_after_replaces_the_backoff_and_counts(scheduler: Uniform, kind: str) -> None:
    seen: Seen = []
    verdict = {1: RetryAfter(0, "busy"), 2: RetryAfter(0)}.get
    await scheduler.start_task_execute(raising(seen, verdict, kind))
    await scheduler.assign_task(Job("a", retry=Retry(max_retries=2, backoff=3600, max_backoff=3600)))
    await eventually(lambda: len(seen) == 3)
    assert [attempt for attempt, _ in seen] == [1, 2, 3]
    assert len({slot for _, slot in seen}) == 1, "all attempts of one occurrence have one slot"


async def test_retry_after_waits_and_keeps_its_message(scheduler: Uniform, kind: str) -> None:
    seen: Seen = []
    await scheduler.start_task_execute(raising(seen, lambda _: RetryAfter(3600, "come back in an hour"), kind))
    await scheduler.assign_task(Job("a", retry=Retry(max_retries=5, backoff=0)))
    waiting = await eventually(lambda: _peek(scheduler, "a", "retrying"))
    assert 3500 < waiting.time_left <= 3600
    assert "come back in an hour" in waiting.last_error


async def test_retry_after_without_attempts_left_is_a_dead_letter(scheduler: Uniform, kind: str) -> None:
    await scheduler.start_task_execute(raising([], lambda _: RetryAfter(3600), kind))
    await scheduler.assign_task(Job("a", retry=Retry(max_retries=0)))
    assert await eventually(lambda: _peek(scheduler, "a", "dead"))
    await scheduler.purge_dead_tasks()


async def test_give_up_is_a_dead_letter_at_once_and_recurring_tasks_go_on(scheduler: Uniform, kind: str) -> None:
    seen: Seen = []
    await scheduler.start_task_execute(raising(seen, lambda _: GiveUp("gone for good"), kind))
    await scheduler.assign_task(Job("once", retry=Retry(max_retries=None)))
    await scheduler.assign_task(Job("hourly", reschedule_interval=3600, retry=Retry(max_retries=None)))
    await eventually(lambda: _peek(scheduler, "once", "dead"))
    hourly = await eventually(lambda: _peek(scheduler, "hourly", "scheduled"))
    await eventually(lambda: _is_true(scheduler.dead_tasks(), lambda letters: len(letters) == 2))
    assert hourly.time_left > 3500
    assert all("gone for good" in letter.error for letter in await scheduler.dead_tasks())
    assert len(seen) == 2
    await scheduler.purge_dead_tasks()
    await scheduler.remove_task("hourly")


async def test_postpone_is_no_attempt(scheduler: Uniform, kind: str) -> None:
    seen: Seen = []
    verdict = {1: Postpone(0), 2: Postpone(0.01)}.get
    await scheduler.start_task_execute(raising(seen, verdict, kind))
    await scheduler.assign_task(Job("a", retry=Retry(max_retries=0)))
    await eventually(lambda: len(seen) == 3)
    assert [attempt for attempt, _ in seen] == [1, 1, 1]
    assert len({slot for _, slot in seen}) == 1
    await eventually(lambda: _is_true(scheduler.is_scheduled("a"), lambda there: not there))
    assert await scheduler.dead_tasks() == []


@pytest.mark.parametrize("verdict", [RetryAfter, Postpone])
@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "soon", True, None])
def test_a_wrong_pause_is_refused(verdict: type[HandlerVerdict], seconds: Any) -> None:
    with pytest.raises(InvalidTask, match="seconds"):
        verdict(seconds)


async def test_the_slot_stays_where_the_occurrence_is_moved(scheduler: Uniform) -> None:
    slots: list[float] = []
    first = after(3600)
    await scheduler.assign_task(Job("a", execute_on=first))
    await scheduler.reschedule_task("a", delay=0)
    await scheduler.start_task_execute(lambda _: slots.append(current_execution().slot.timestamp()))
    await eventually(lambda: slots)
    assert slots[0] == pytest.approx(first, abs=0.002)


# -- continue_as -------------------------------------------------------------------------------------------------------


async def test_a_task_continues_as_another_in_the_step_that_ends_its_run(scheduler: Uniform, kind: str) -> None:
    stages: list[Any] = []

    def next_stage(payload: Any) -> None:
        stages.append(payload)
        if payload == "first":
            current_execution().continue_as(Job("a", payload="second", execute_on=after(0)))
        elif payload == "second":
            current_execution().continue_as(Job("a", payload="last", execute_on=after(3600)))

    async def coroutine(payload: Any) -> None:
        next_stage(payload)

    await scheduler.start_task_execute(next_stage if kind == "plain" else coroutine)
    await scheduler.assign_task(Job("a", payload="first"))
    last = await eventually(lambda: _peek(scheduler, "a", "scheduled", payload="last"))
    assert last.time_left > 3500
    assert stages == ["first", "second"]
    await scheduler.remove_task("a")


async def test_a_run_that_fails_continues_as_nothing(scheduler: Uniform) -> None:
    def fail(_payload: Any) -> None:
        current_execution().continue_as(Job("a", payload="never", execute_on=after(3600)))
        raise RuntimeError("after all")

    await scheduler.start_task_execute(fail)
    await scheduler.assign_task(Job("a", payload="first"))
    dead = await eventually(lambda: _peek(scheduler, "a", "dead"))
    assert dead.payload == "first"
    await scheduler.purge_dead_tasks()


@pytest.mark.parametrize("meanwhile", ["assigned", "moved", "removed"])
async def test_what_is_asked_for_during_the_run_wins(scheduler: Uniform, meanwhile: str) -> None:
    begun, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def handle(payload: Any) -> None:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(_coroutine(release.wait()), loop).result(10)
        current_execution().continue_as(Job("a", payload="mine", execute_on=after(7200)))
        loop.call_soon_threadsafe(ended.set)

    await scheduler.start_task_execute(handle)
    await scheduler.assign_task(Job("a", payload="first"))
    await begun.wait()
    if meanwhile == "assigned":
        await scheduler.assign_task(Job("a", payload="theirs", execute_on=after(3600)))
    elif meanwhile == "moved":
        await scheduler.reschedule_task("a", delay=3600)
    else:
        await scheduler.remove_task("a")
    release.set()
    await ended.wait()
    await scheduler.stop_task_execute()
    left = await scheduler.peek_task("a")
    if meanwhile == "removed":
        assert left is None
        return
    assert left.payload == ("theirs" if meanwhile == "assigned" else "first")
    assert 3500 < left.time_left <= 3600
    await scheduler.remove_task("a")


async def test_continue_as_refuses_another_id_and_manual_confirmation(make: Make) -> None:
    scheduler = make()
    await scheduler.start_task_accept()
    errors: list[Exception] = []

    def handle(_payload: Any) -> None:
        try:
            current_execution().continue_as(Job("other"))
        except SchedulerError as error:
            errors.append(error)
        current_execution().extend()

    await scheduler.start_task_execute(handle)
    await scheduler.assign_task(Job("a"))
    await eventually(lambda: errors)
    assert "is not that of the run" in str(errors[0])
    await scheduler.stop_task_execute()
    await scheduler.start_task_execute(handle, confirm="manual")
    await scheduler.assign_task(Job("b", retry=Retry(max_retries=0)))
    await eventually(lambda: len(errors) == 2)
    assert 'confirm="auto"' in str(errors[1])
    await scheduler.stop_task_execute()
    await scheduler.remove_task("b")


# -- if_version --------------------------------------------------------------------------------------------------------


async def test_only_one_of_many_creates(scheduler: Uniform) -> None:
    async def create(number: int) -> bool:
        try:
            return bool(await scheduler.assign_task(Job("a", payload=number, execute_on=after(60)), if_version=""))
        except TaskChanged:
            return False

    created = await asyncio.gather(*(create(number) for number in range(20)))
    assert sum(created) == 1
    assert (await scheduler.peek_task("a")).payload == created.index(True)
    await scheduler.remove_task("a")


async def test_a_version_that_was_passed_by_is_refused(scheduler: Uniform) -> None:
    with pytest.raises(TaskChanged, match="no longer at version"):
        await scheduler.assign_task(Job("a"), if_version="unheard-of")
    assert await scheduler.peek_task("a") is None
    await scheduler.assign_task(Job("a", payload=1, execute_on=after(60)))
    first = await scheduler.peek_task("a")
    assert not await scheduler.assign_task(Job("a", payload=2, execute_on=after(60)), if_version=first.version)
    with pytest.raises(TaskChanged):
        await scheduler.assign_task(Job("a", payload=3, execute_on=after(60)), if_version=first.version)
    second = await scheduler.peek_task("a")
    assert second.payload == 2
    await scheduler.reschedule_task("a", delay=30)
    with pytest.raises(TaskChanged):
        await scheduler.assign_task(Job("a", payload=3), if_version=second.version)
    await scheduler.remove_task("a")


@pytest.mark.parametrize("version", ["two words", 3, "\ud800"], ids=["two words", "no text", "no unicode"])
async def test_a_wrong_version_is_refused(scheduler: Uniform, version: Any) -> None:
    with pytest.raises(InvalidTask, match="if_version"):
        await scheduler.assign_task(Job("a"), if_version=version)


# -- purging by age ----------------------------------------------------------------------------------------------------


async def test_dead_letters_are_purged_by_age(scheduler: Uniform) -> None:
    def fail(_payload: Any) -> None:
        raise RuntimeError("as asked")

    await scheduler.start_task_execute(fail)
    await scheduler.assign_task(Job("a"))
    letter = (await eventually(lambda: _peek(scheduler, "a", "dead"))).due
    assert await scheduler.purge_dead_tasks(before=letter) == 0
    assert await scheduler.purge_dead_tasks(before=time.time() - 60) == 0
    assert await scheduler.purge_dead_tasks(before=letter.timestamp() + 1) == 1
    with pytest.raises(InvalidTask, match="before"):
        await scheduler.purge_dead_tasks(before="yesterday")


async def _peek(scheduler: Uniform, task_id: str, state: str, payload: Any = None) -> Any:
    task = await scheduler.peek_task(task_id)
    fits = task is not None and task.state == state and (payload is None or task.payload == payload)
    return task if fits else None


async def _is_true(awaitable: Any, condition: Callable[[Any], bool]) -> bool:
    return condition(await awaitable)


async def _coroutine(awaitable: Any) -> Any:
    return await awaitable
