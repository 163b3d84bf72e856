"""CONFORMANCE.md, rows IS-1 to IS-22, over three real servers, blocking and asyncio."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from typing import Any

import pytest

from interval_scheduler import AlreadyExecuting, InvalidOptions, InvalidTask, NotAcceptingTasks, Task
from tests.integration.conftest import Make, storage
from tests.servers import RedisServer
from tests.tasks import Job, Recorder, Uniform, after, eventually, is_empty


class ByProperties(Task):
    def __init__(self, user: int) -> None:
        self.user = user

    @property
    def id(self) -> str:
        return f"user:{self.user}"

    @property
    def reschedule_interval(self) -> float:
        return 60

    def serialize(self) -> dict[str, int]:
        return {"user": self.user}


class ByAttributes(Task):
    id = "by-attributes"
    execute_on = None

    def serialize(self) -> str:
        return "payload"


@dataclass
class ByFields(Task):
    id: str
    reschedule_interval: float

    def serialize(self) -> str:
        return self.id


class NoId(Task):
    def serialize(self) -> str:
        return "x"


class NoSerialize(Task):
    id = "x"


class TestIS1TaskBySubclass:
    async def test_properties_attributes_and_dataclass_fields(self, scheduler: Uniform) -> None:
        assert await scheduler.assign_task(ByProperties(1)) is True
        assert await scheduler.assign_task(ByAttributes()) is True
        assert await scheduler.assign_task(ByFields("fields", 5)) is True
        assert (await scheduler.peek_task("user:1")).payload == {"user": 1}

    @pytest.mark.parametrize(
        ("task", "field"),
        [
            (NoId(), "id"),
            (NoSerialize(), "serialize()"),
            (Job("x", execute_on="soon"), "execute_on"),  # type: ignore[arg-type]
            (Job("x", reschedule_interval="1"), "reschedule_interval"),  # type: ignore[arg-type]
        ],
    )
    async def test_a_missing_or_ill_typed_member_names_class_member_and_rule(
        self, scheduler: Uniform, task: Task, field: str
    ) -> None:
        with pytest.raises(InvalidTask, match=type(task).__name__) as caught:
            await scheduler.assign_task(task)
        assert caught.value.field == field
        assert await scheduler.task_size() == 0


class TestIS2AssignAgain:
    async def test_updates_payload_and_interval_and_keeps_the_time(
        self, scheduler: Uniform, recorder: Recorder
    ) -> None:
        due = after(0.5)
        assert await scheduler.assign_task(Job("a", due, 60, "old")) is True
        assert await scheduler.assign_task(Job("a", after(100), 0.2, "new")) is False
        before = await scheduler.peek_task("a")
        assert before.payload == "new"
        assert abs(before.due.timestamp() - due) < 0.002
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: len(recorder.calls) >= 3)
        assert recorder.payloads[0] == "new"
        first, second = recorder.calls[0].due, recorder.calls[1].due
        assert abs(first - due) < 0.002
        assert second - first == pytest.approx(0.2, abs=0.0011)

    async def test_fifty_concurrent_assigns_leave_one_task(self, scheduler: Uniform) -> None:
        """BullMQ#2876, #2988, #3381, #3430: races between upserts at a deploy."""
        results = await asyncio.gather(*(scheduler.assign_task(Job("a", after(60))) for _ in range(50)))
        assert sorted(results) == [False] * 49 + [True]
        assert await scheduler.task_size() == 1


class TestIS3ManySchedulers:
    async def test_the_same_tasks_are_scheduled_once(self, make: Make, recorder: Recorder) -> None:
        several = [make() for _ in range(3)]
        for one in several:
            await one.start_task_accept()
        jobs = [Job(f"job:{n}", after(0.5)) for n in range(30)]
        created = await asyncio.gather(*(one.assign_task(job) for one in several for job in jobs))
        assert sum(created) == 30
        for one in several:
            await one.start_task_execute(recorder.handler)
        await eventually(lambda: len(recorder.calls) == 30)
        await eventually(lambda: is_empty(several[0]))
        assert sorted(recorder.payloads) == sorted(job.id for job in jobs)


class TestIS4Remove:
    async def test_once_true_then_false_then_assignable(self, scheduler: Uniform) -> None:
        await scheduler.assign_task(Job("a", after(60)))
        assert await scheduler.remove_task("a") is True
        assert await scheduler.remove_task(Job("a")) is False
        assert await scheduler.remove_task("unknown") is False
        later = after(120)
        assert await scheduler.assign_task(Job("a", later)) is True
        assert abs((await scheduler.peek_task("a")).due.timestamp() - later) < 0.002

    async def test_nothing_of_it_remains(self, scheduler: Uniform) -> None:
        await scheduler.assign_task(Job("a", after(60)))
        await scheduler.remove_task("a")
        assert await scheduler.task_size() == 0
        assert await scheduler.queue_size() == 0

    async def test_while_running_stops_what_follows(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=True, seconds=0.3)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", None, 0.05))
        await eventually(lambda: recorder.calls)
        assert await scheduler.remove_task("a") is True
        await eventually(lambda: is_empty(scheduler))
        await scheduler.stop_task_execute()
        assert len(recorder.calls) == 1
        assert await scheduler.peek_task("a") is None


class TestIS5IsScheduled:
    async def test_tells_and_peek_shows_the_payload(self, scheduler: Uniform) -> None:
        assert await scheduler.is_scheduled("a") is False
        assert await scheduler.peek_task("a") is None
        await scheduler.assign_task(Job("a", after(60), payload={"n": [1, b"2", None]}))
        assert await scheduler.is_scheduled("a") is True
        assert (await scheduler.peek_task("a")).payload == {"n": [1, b"2", None]}


class TestIS6Sizes:
    async def test_buckets_and_tasks(self, scheduler: Uniform) -> None:
        assert await scheduler.queue_size() == 0
        result = await scheduler.assign_tasks(Job(f"a{n}", after(3600)) for n in range(100))
        assert (result.created, result.updated) == (100, 0)
        assert await scheduler.task_size() == 100
        assert 1 <= await scheduler.queue_size() <= 128


class TestIS7Accepting:
    async def test_assigning_while_not_accepting_fails(self, make: Make) -> None:
        scheduler = make()
        assert scheduler.accepting_tasks is False
        with pytest.raises(NotAcceptingTasks, match="not accepting tasks"):
            await scheduler.assign_task(Job("a"))
        await scheduler.start_task_accept()
        await scheduler.start_task_accept()
        assert scheduler.accepting_tasks is True
        await scheduler.assign_task(Job("a", after(60)))
        await scheduler.stop_task_accept()
        for call in (
            scheduler.assign_task(Job("b")),
            scheduler.assign_tasks([Job("b")]),
            scheduler.remove_task("a"),
        ):
            with pytest.raises(NotAcceptingTasks):
                await call
        assert await scheduler.is_scheduled("a")


class TestIS8Executing:
    async def test_second_start_fails_and_accepting_goes_on_after_stop(
        self, scheduler: Uniform, recorder: Recorder
    ) -> None:
        await scheduler.start_task_execute(recorder.handler)
        assert scheduler.executing_tasks is True
        with pytest.raises(AlreadyExecuting):
            await scheduler.start_task_execute(recorder.handler)
        await scheduler.stop_task_execute()
        assert scheduler.executing_tasks is False
        assert await scheduler.assign_task(Job("a")) is True
        assert recorder.calls == []

    async def test_quick_stop_and_start_leaves_one_loop(self, scheduler: Uniform, recorder: Recorder) -> None:
        for _ in range(3):
            await scheduler.start_task_execute(recorder.handler)
            await scheduler.stop_task_execute()
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_tasks(Job(f"a{n}") for n in range(50))
        await eventually(lambda: len(recorder.calls) >= 50)
        assert sorted(recorder.payloads) == sorted(f"a{n}" for n in range(50))


class TestIS9Handler:
    async def test_gets_the_payload_and_failures_do_not_end_the_loop(self, scheduler: Uniform) -> None:
        seen: list[Any] = []

        def handler(payload: Any) -> None:
            seen.append(payload)
            if payload == "exit":
                sys.exit(3)
            if payload == "bad":
                raise ValueError("bad")

        await scheduler.start_task_execute(handler)
        for name in ("exit", "bad", "good"):
            await scheduler.assign_task(Job(name))
        await eventually(lambda: len(seen) == 3)
        dead = await eventually(scheduler.dead_tasks)
        await eventually(lambda: is_empty(scheduler))
        dead = await scheduler.dead_tasks()
        assert {letter.id: letter.error.split(":")[0] for letter in dead} == {"exit": "SystemExit", "bad": "ValueError"}


class TestIS10Order:
    async def test_oldest_first_and_drained_without_sleeping(self, make: Make) -> None:
        scheduler = make(concurrency=1, partitions=1)
        await scheduler.start_task_accept()
        recorder = Recorder(coroutine=True)
        now = time.time()
        jobs = [Job(f"a{n:03}", now - 1000 + n) for n in range(300)]
        await scheduler.assign_tasks(reversed(jobs))
        begin = time.monotonic()
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: len(recorder.calls) == 300)
        assert time.monotonic() - begin < 8  # the default check is every 10 s: nothing slept
        assert recorder.payloads == [job.id for job in jobs]

    async def test_wakes_at_the_due_time(self, scheduler: Uniform, recorder: Recorder) -> None:
        await scheduler.start_task_execute(recorder.handler)
        due = after(0.4)
        await scheduler.assign_task(Job("a", due))
        await eventually(lambda: recorder.calls)
        assert recorder.calls[0].started >= due


class TestIS11ExactTimes:
    async def test_never_early_no_drift_any_interval(self, scheduler: Uniform, recorder: Recorder) -> None:
        await scheduler.start_task_execute(recorder.handler)
        start = round(after(0.3), 3)
        await scheduler.assign_task(Job("a", start, 0.05))
        await eventually(lambda: len(recorder.calls) >= 20)
        for number, call in enumerate(recorder.calls[:20]):
            assert call.started >= call.due
            slot = (call.due - start) / 0.05
            assert slot == pytest.approx(round(slot), abs=0.03), number
        assert min(call.started - call.due for call in recorder.calls) < 0.01

    async def test_one_millisecond(self, scheduler: Uniform, recorder: Recorder) -> None:
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", None, 0.001))
        await eventually(lambda: len(recorder.calls) >= 50)
        dues = [call.due for call in recorder.calls]
        assert all(later > earlier for earlier, later in itertools.pairwise(dues))

    async def test_a_quarter_second_with_default_options(self, scheduler: Uniform, recorder: Recorder) -> None:
        assert scheduler.options.storage.task_interval_seconds == 60
        await scheduler.start_task_execute(recorder.handler)
        for number in range(5):
            due = after(0.25)
            await scheduler.assign_task(Job(f"a{number}", due))
            await eventually(lambda: len(recorder.calls) > number)  # noqa: B023
            call = recorder.calls[number]
            assert call.started >= due
        # A busy machine may delay some of them, but not all.
        assert min(call.started - call.due for call in recorder.calls) < 0.01


class TestIS12Misfire:
    @pytest.mark.parametrize(
        ("policy", "limit", "overdue"), [("coalesce", 100, 1), ("skip", 100, 1), ("all", 100, 11), ("all", 3, 3)]
    )
    async def test_policies(
        self, scheduler: Uniform, recorder: Recorder, policy: str, limit: int, overdue: int
    ) -> None:
        """river#1035: after two weeks off, a flood."""
        start = int(time.time()) - 1000
        interval = 100
        # Eleven occurrences are due: ten that were missed, and the latest one.
        await scheduler.assign_task(Job("a", start, interval, misfire=policy, misfire_limit=limit))
        await scheduler.start_task_execute(recorder.handler)
        following = await eventually(lambda: _due_after(scheduler, "a", start + 1000))
        assert following == start + 1100
        assert len(recorder.calls) == overdue
        assert recorder.calls[0].due == {"coalesce": start, "skip": start + 1000}.get(
            policy, start + (11 - overdue) * 100
        )


async def _due_after(scheduler: Uniform, task_id: str, time: float) -> float | None:
    task = await scheduler.peek_task(task_id)
    due: float = task.due.timestamp()
    return due if due > time else None


class TestIS13ManyInstances:
    async def test_tasks_are_spread_and_each_has_one_home(self, scheduler: Uniform) -> None:
        await scheduler.assign_tasks(Job(f"a{n}", after(60)) for n in range(600))
        await scheduler.assign_tasks(Job(f"a{n}", after(60)) for n in range(600))
        assert await scheduler.task_size() == 600
        stats = await scheduler.stats()
        shares = [
            sum(part.scheduled for part in stats.partitions if part.instance == f"redis-{number}")
            for number in range(3)
        ]
        assert sum(shares) == 600
        assert min(shares) > 120


class TestIS14Master:
    async def test_online_once_connected(self, make: Make) -> None:
        scheduler = make()
        assert scheduler.online is False
        await scheduler.start_task_accept()
        assert scheduler.online is True


class TestIS15Lock:
    async def test_taken_once_and_given_back_by_the_holder_only(self, make: Make) -> None:
        """rq#2338: locks were extended or deleted by someone who did not hold them."""
        first, second = make(), make()
        lock = await first.try_lock("job")
        assert lock is not None
        assert await second.try_lock("job") is None
        assert await first.unlock(lock) is True
        assert await first.unlock(lock) is False
        other = await second.try_lock("job")
        assert other.fencing_token > lock.fencing_token
        assert await first.unlock(lock) is False
        assert await second.unlock(other) is True

    async def test_extend_and_context_manager(self, make: Make) -> None:
        from interval_scheduler import LockNotAcquired

        scheduler = make()

        async def inside(lock: Any) -> None:
            assert await scheduler.try_lock("job") is None
            with pytest.raises(LockNotAcquired):
                await scheduler.hold("job", inside)

        await scheduler.hold("job", inside)
        lock, extended = await scheduler.try_lock_then_extend("job", 0.05)
        assert extended is True
        again = await eventually(lambda: scheduler.try_lock("job"))
        assert await scheduler.unlock(lock) is False
        assert await scheduler.unlock(again) is True

    async def test_a_user_lock_never_collides_with_internal_names(self, make: Make) -> None:
        scheduler = make()
        for name in ("topology", "workers", "sequence", "0}:meta", "\N{SNOWMAN}\0"):
            lock = await scheduler.try_lock(name)
            assert lock is not None, name
            assert await scheduler.unlock(lock)


class TestIS16AutoLock:
    async def test_released_by_redis(self, make: Make) -> None:
        scheduler = make()
        assert await scheduler.try_auto_lock("job", 0.2) is True
        assert await scheduler.try_auto_lock("job", 0.2) is False
        await eventually(lambda: scheduler.try_auto_lock("job", 0.05))


class TestIS17Clear:
    async def test_counts_leaves_nothing_and_reassigned_tasks_run_once(
        self, scheduler: Uniform, recorder: Recorder
    ) -> None:
        await scheduler.assign_tasks(Job(f"a{n}", after(600 + 60 * n), 60) for n in range(2500))
        steps: list[int] = []
        assert await scheduler.clear_all_tasks(progress=steps.append) == 2500
        assert steps[-1] == 2500
        assert await scheduler.task_size() == 0
        assert await scheduler.queue_size() == 0
        start = round(after(0.3), 3)
        await scheduler.assign_tasks(Job(f"a{n}", start, 60) for n in range(20))
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: len(recorder.calls) >= 20)
        await scheduler.stop_task_execute()
        assert sorted(recorder.payloads) == sorted(f"a{n}" for n in range(20))


class TestIS18Events:
    async def test_disconnect_and_reconnect_of_instances_and_master(
        self, own_servers: list[RedisServer], make: Make
    ) -> None:
        scheduler = make(storage=storage(own_servers, reconnect_interval_seconds=0.1))
        seen: list[Any] = []
        for event in ("online", "offline"):
            scheduler.on(event, lambda event=event: seen.append(event))
        for event in ("db-disconnect", "db-reconnect"):
            scheduler.on(event, lambda name, event=event: seen.append((event, name)))
        await scheduler.start_task_accept()
        recorder = Recorder(coroutine=True)
        await scheduler.start_task_execute(recorder.handler)
        own_servers[1].kill()
        await eventually(lambda: ("db-disconnect", "redis-1") in seen)
        assert scheduler.online is True
        own_servers[1].restart()
        await eventually(lambda: ("db-reconnect", "redis-1") in seen)
        own_servers[0].kill()
        await eventually(lambda: "offline" in seen)
        assert scheduler.online is False
        own_servers[0].restart()
        await eventually(lambda: "online" in seen)
        assert scheduler.online is True
        await scheduler.assign_tasks(Job(f"a{n}") for n in range(100))
        await eventually(lambda: len(recorder.calls) == 100)

    async def test_an_unknown_event_is_refused(self, make: Make) -> None:
        with pytest.raises(InvalidOptions, match="db-disconnect"):
            make().on("db-disconect", print)


class TestIS19Options:
    async def test_every_wrong_field_is_named_with_its_range(self, make: Make) -> None:
        with pytest.raises(InvalidOptions) as caught:
            make(
                check_tasks_every_seconds=0,
                storage={
                    "instances": [{"host": "localhost", "port": 99999}],
                    "task_interval_seconds": float("nan"),
                    "master_index": "x",
                },
                unknown=1,
            )
        text = str(caught.value)
        for part in (
            "check_tasks_every_seconds",
            "0.05",
            "port",
            "65,535",
            "task_interval_seconds",
            "master_index",
            "unknown",
        ):
            assert part in text


class TestIS20Logger:
    async def test_a_standard_logger_and_any_object(
        self,
        make: Make,
        redis_servers: list[RedisServer],
        caplog: pytest.LogCaptureFixture,
        namespace: str,
        flavour: str,
    ) -> None:
        from interval_scheduler import AsyncScheduler, Scheduler

        lines: list[str] = []

        class Mine:
            def warning(self, message: str) -> None:
                lines.append(message)

        kind = Scheduler if flavour == "blocking" else AsyncScheduler
        root = list(logging.getLogger().handlers)
        for logger in (logging.getLogger("application"), Mine()):
            scheduler = Uniform(kind(storage_options(redis_servers, namespace), logger))
            await scheduler.start_task_accept()
            await scheduler.start_task_execute(_failing)
            await scheduler.assign_task(Job("a"))
            await eventually(scheduler.dead_tasks)
            await scheduler.clear_all_tasks()
            await scheduler.close()
        await make().start_task_accept()
        assert any("a handler failed" in record.message for record in caplog.records if record.name == "application")
        assert any("a handler failed" in line for line in lines)
        assert logging.getLogger().handlers == root


def storage_options(servers: list[RedisServer], namespace: str) -> dict[str, Any]:
    return {"namespace": namespace, "storage": storage(servers)}


def _failing(_payload: Any) -> None:
    raise RuntimeError("asked to fail")


class TestIS21Crash:
    async def test_a_killed_process_leaves_tasks_set_or_unset(
        self, scheduler: Uniform, redis_servers: list[RedisServer], namespace: str
    ) -> None:
        script = textwrap.dedent(
            f"""
            import itertools
            from interval_scheduler import Scheduler
            from tests.tasks import Job
            scheduler = Scheduler({storage_options(redis_servers, namespace)!r})
            scheduler.start_task_accept()
            print("ready", flush=True)
            for n in itertools.count():
                scheduler.assign_task(Job(f"a{{n}}", 4e9))
            """
        )
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=os.getcwd())
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        await eventually(lambda: _at_least(scheduler, 50))
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        process.stdout.close()
        size = await scheduler.task_size()
        listed = await scheduler.upcoming()
        assert [task.id for task in listed] == [f"a{n}" for n in range(size)] or sorted(
            task.id for task in listed
        ) == sorted(f"a{n}" for n in range(size))


async def _at_least(scheduler: Uniform, count: int) -> bool:
    size: int = await scheduler.task_size()
    return size >= count


class TestIS22Costs:
    async def test_server_work_per_operation_does_not_grow(
        self, scheduler: Uniform, redis_servers: list[RedisServer]
    ) -> None:
        """Commands run inside the scripts are counted by the server: the same with 20 as with 5,000 tasks pending."""

        async def commands_used(number: int) -> int:
            before = sum(map(_commands, redis_servers))
            task = Job(f"x{number}", 4e9 + 61 * number)
            await scheduler.assign_task(task)
            await scheduler.peek_task(task)
            await scheduler.remove_task(task)
            return sum(map(_commands, redis_servers)) - before

        await scheduler.assign_tasks(Job(f"a{n}", 3e9 + 60 * n) for n in range(20))
        few = await commands_used(1)
        await scheduler.assign_tasks(Job(f"b{n}", 3e9 + 60 * n) for n in range(5000))
        many = await commands_used(2)
        assert abs(many - few) <= 4
        assert few < 60


def _commands(server: RedisServer) -> int:
    import redis

    with redis.Redis.from_url(server.url) as client:
        stats: Any = client.info("commandstats")
        # What the scripts do; connections, pings and subscriptions of the watch come and go.
        data = re.compile(r"cmdstat_(h|z|time|publish|exists|get|set)")
        return sum(entry["calls"] for name, entry in stats.items() if data.match(name) and name != "cmdstat_hello")
