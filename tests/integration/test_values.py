"""Values of other libraries, on real servers: they mean what they say, or the error says what to give instead."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import pendulum
import pytest

from interval_scheduler import InvalidTask, Retry, Task, current_execution
from tests.integration.conftest import Make
from tests.tasks import Job, Uniform, eventually

LATER = pendulum.datetime(2100, 10, 31, 1, 30, 0, 123_456, tz="Europe/Paris")
HOUR = pendulum.duration(hours=1)
MINUTES = pendulum.now().add(minutes=5) - pendulum.now()  # an interval


class TestPendulum:
    """fault-D1, pendulum#382."""

    async def test_every_method_takes_its_times_and_durations(self, make: Make) -> None:
        scheduler = make(lease_seconds=pendulum.duration(seconds=5), check_tasks_every_seconds=MINUTES)
        await scheduler.start_task_accept()
        assert scheduler.options.lease_ms == 5000

        task = Job("a", LATER, HOUR, timeout=HOUR, jitter=pendulum.duration(), retry=Retry(backoff=HOUR))
        assert await scheduler.assign_task(task)
        assert await scheduler.assign_tasks([task])
        stored = await scheduler.peek_task("a")
        assert stored.due == LATER.set(microsecond=124_000)  # rounded up
        assert stored.interval == HOUR

        assert await scheduler.reschedule_task("a", execute_on=LATER.add(days=1))
        assert (await scheduler.peek_task("a")).due == LATER.add(days=1).set(microsecond=124_000)
        assert await scheduler.reschedule_task("a", delay=MINUTES)
        posted = await scheduler.post("b", HOUR)
        assert [found.id for found in await scheduler.upcoming(duration=2 * HOUR)] == ["a", posted]
        assert [found.id for found in await scheduler.upcoming(offset=2 * MINUTES, duration=2 * HOUR)] == [posted]
        assert await scheduler.try_auto_lock("lock", HOUR)
        assert (await scheduler.try_lock_then_extend("other", HOUR))[1]
        assert await scheduler.purge_dead_tasks(before=pendulum.now()) == 0

    async def test_handlers_use_them_too(self, scheduler: Uniform) -> None:
        seen: list[Any] = []

        def handler(payload: object) -> None:
            execution = current_execution()
            execution.extend(MINUTES)
            seen.append(execution.due)

        await scheduler.start_task_execute(handler)
        await scheduler.assign_task(Job("a", pendulum.now("Asia/Tokyo")))
        await eventually(lambda: seen)
        assert pendulum.now() - pendulum.instance(seen[0]) < pendulum.duration(minutes=1)
        assert seen[0].tzinfo is UTC
        await scheduler.stop_task_execute(grace=pendulum.duration(seconds=5))
        assert not scheduler.executing_tasks

    async def test_a_payload_with_one_is_refused_and_nothing_is_written(self, scheduler: Uniform) -> None:
        with pytest.raises(InvalidTask, match="DateTime"):
            await scheduler.assign_task(Job("a", payload={"at": LATER}))
        assert await scheduler.peek_task("a") is None


async def test_a_wrong_grace_stops_nothing(scheduler: Uniform) -> None:
    """fault-D1: it was found when the worker was half stopped."""
    seen: list[object] = []
    await scheduler.start_task_execute(seen.append)
    for wrong in ("5", -1, float("nan")):
        for method in (scheduler.stop_task_execute, scheduler.wait):
            with pytest.raises(InvalidTask, match=r"^(stop_task_execute|wait)\.grace is .*; use "):
                await method(grace=wrong)
    assert scheduler.executing_tasks
    await scheduler.assign_task(Job("a"))
    await eventually(lambda: seen)


@pytest.mark.parametrize("sort", [property, cached_property])
@pytest.mark.parametrize("name", ["id", "execute_on", "reschedule_interval", "retry", "jitter"])
async def test_a_property_that_raises_an_attribute_error_is_not_missing(
    scheduler: Uniform, sort: Any, name: str
) -> None:
    """marshmallow#1452: what was wrong inside a property was taken for the absence of the property."""

    def read(task: Any) -> Any:
        return task.settings.value

    kind = type("Report", (Task,), {"id": "a", "serialize": lambda _: 1, name: sort(read)})
    if sort is cached_property:
        kind.__dict__[name].__set_name__(kind, name)
    with pytest.raises(InvalidTask) as caught:
        await scheduler.assign_task(kind())
    assert str(caught.value).startswith(
        f"Report.{name} raised an AttributeError ('Report' object has no attribute 'settings'); correct this property"
    )
    assert caught.value.__cause__ is not None
    assert await scheduler.task_size() == 0


async def test_a_member_that_is_missing(scheduler: Uniform) -> None:
    class Slots(Task):
        __slots__ = ("id",)

        def serialize(self) -> Any:
            return 1

    for kind in (Slots, type("Report", (Task,), {"serialize": lambda _: 1})):
        with pytest.raises(InvalidTask, match=rf"^{kind.__name__}\.id is missing .*; define it on {kind.__name__}"):
            await scheduler.assign_task(kind())


class TestPayloads:
    """fault-D7: whoever gives a payload is told where in it the value is that cannot be stored."""

    async def test_each_method_names_the_value_and_writes_nothing(self, scheduler: Uniform) -> None:
        payload = {"list": [0, {"at": datetime.now(UTC)}]}
        where = (
            r'holds something msgpack cannot carry exactly: payload\["list"\]\[1\]\["at"\] is a datetime; store text'
        )
        with pytest.raises(InvalidTask, match=rf"^Job\.serialize\(\) {where}"):
            await scheduler.assign_task(Job("a", payload=payload))
        with pytest.raises(InvalidTask, match=rf"^Job\.serialize\(\) {where}") as caught:
            await scheduler.assign_tasks([Job("good"), Job("a", payload=payload), Job("other")])
        assert caught.value.not_written == ["good"]
        with pytest.raises(InvalidTask, match=rf"^post\.payload {where}") as caught:
            await scheduler.post(payload, 5, id="a")
        assert caught.value.field == "payload"
        assert "PostedTask" not in str(caught.value)
        assert await scheduler.task_size() == 0

    @pytest.mark.parametrize(
        ("wrong", "field"),
        [
            ({"payload": "x" * 40_000}, "payload"),
            ({"id": ""}, "id"),
            ({"id": 5}, "id"),
            ({"delay": "5"}, "delay"),
            ({"delay": -1}, "delay"),
            ({"max_retries": -1}, "max_retries"),
            ({"max_retries": "3"}, "max_retries"),
        ],
    )
    async def test_post_names_its_own_arguments(self, scheduler: Uniform, wrong: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidTask, match=rf"^post\.{field} ") as caught:
            await scheduler.post(**{"payload": 1, "delay": 5, **wrong})
        assert caught.value.field == field
        assert await scheduler.task_size() == 0
