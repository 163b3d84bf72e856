"""CONFORMANCE.md, rows DT-1 to DT-11, over three real servers, blocking and asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from interval_scheduler import AsyncScheduler, Retry, current_execution
from tests.integration.conftest import Make, storage
from tests.servers import RedisServer
from tests.tasks import Job, Recorder, Uniform, after, eventually, is_empty, size


def _members(scheduler: Uniform) -> int:
    """How many live workers the worker of a scheduler knows of."""
    worker = scheduler.real._engine.worker
    assert worker is not None
    return len(worker._roster._members)


class TestDT1Workers:
    async def test_each_occurrence_goes_to_one_and_the_load_is_even(self, make: Make) -> None:
        """arq#196, taskiq#244: a slower poller fired the same minute again."""
        producer = make()
        await producer.start_task_accept()
        recorders = [Recorder(coroutine=True, seconds=0.005) for _ in range(3)]
        workers = [make() for _ in recorders]
        for worker, recorder in zip(workers, recorders, strict=True):
            await worker.start_task_execute(recorder.handler)
        # Every worker knows of every other one after the next report on the master.
        await eventually(lambda: all(_members(worker) == 3 for worker in workers))
        start = after(0.5)
        await producer.assign_tasks(Job(f"a{n}", start + n / 600) for n in range(600))
        await eventually(lambda: sum(len(recorder.calls) for recorder in recorders) >= 600)
        await eventually(lambda: is_empty(producer))
        ids = [call.id for recorder in recorders for call in recorder.calls]
        assert len(ids) == len(set(ids)) == 600
        # A third each, but for what piles up, and goes to one of them, whenever a busy machine stalls.
        assert min(len(recorder.calls) for recorder in recorders) > 120

    async def test_workers_come_and_go(self, make: Make) -> None:
        producer = make()
        await producer.start_task_accept()
        first, second = Recorder(coroutine=True), Recorder(coroutine=True)
        workers = [make(), make()]
        await workers[0].start_task_execute(first.handler)
        await workers[1].start_task_execute(second.handler)
        await workers[0].stop_task_execute()
        await producer.assign_tasks(Job(f"a{n}") for n in range(50))
        await eventually(lambda: len(second.calls) == 50)
        assert first.calls == []


class TestDT2Post:
    async def test_post_with_and_without_an_id(self, scheduler: Uniform, recorder: Recorder) -> None:
        assert await scheduler.post({"msg": "hello"}, 0.2, id="mine") == "mine"
        made_up = await scheduler.post("other", 60)
        assert len(made_up) == 32
        assert await scheduler.is_scheduled(made_up)
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: recorder.calls)
        assert recorder.payloads == [{"msg": "hello"}]

    async def test_assign_task_with_execute_on(self, scheduler: Uniform, recorder: Recorder) -> None:
        due = after(0.2)
        await scheduler.assign_task(Job("a", due))
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: recorder.calls)
        assert recorder.calls[0].started >= due


class TestDT3CancelConfirmChangeDelay:
    async def test_unknown_ids_are_false_and_create_nothing(self, scheduler: Uniform) -> None:
        assert await scheduler.remove_task("unknown") is False
        assert await scheduler.confirm_task("unknown", 1) is False
        assert await scheduler.reschedule_task("unknown", delay=1) is False
        assert await scheduler.run_task_now("unknown") is False
        assert await size(scheduler) == 0

    async def test_change_of_delay(self, scheduler: Uniform, recorder: Recorder) -> None:
        await scheduler.assign_task(Job("sooner", after(3600)))
        await scheduler.assign_task(Job("later", after(0.5)))
        assert await scheduler.reschedule_task("sooner", delay=0.1) is True
        assert await scheduler.reschedule_task("later", execute_on=after(3600)) is True
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: recorder.calls)
        await asyncio.sleep(0.6)  # until past the old time of the other one
        assert recorder.payloads == ["sooner"]

    async def test_while_running_a_one_off_runs_again_at_the_new_time(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=True, seconds=0.3)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a"))
        await eventually(lambda: recorder.calls)
        assert await scheduler.reschedule_task("a", delay=0.6) is True
        moved = time.time() + 0.6
        await eventually(lambda: len(recorder.calls) == 2)
        assert recorder.calls[1].started >= moved - 0.1
        await eventually(lambda: is_empty(scheduler))

    async def test_while_waiting_for_a_retry(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=True, fail=1)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", retry=Retry(backoff=3600)))
        await scheduler.assign_task(Job("b", retry=Retry(backoff=3600)))
        recorder.fail += 1
        await eventually(lambda: _in_state(scheduler, "a", "retrying"))
        await eventually(lambda: _in_state(scheduler, "b", "retrying"))
        assert await scheduler.remove_task("b") is True
        assert await scheduler.reschedule_task("a", delay=0) is True
        await eventually(lambda: len(recorder.of("a")) == 2)
        assert recorder.of("a")[1].attempt == 2
        await eventually(lambda: is_empty(scheduler))
        assert len(recorder.of("b")) == 1

    async def test_cancel_while_running(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=True, seconds=0.2, fail=1)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", retry=Retry(backoff=0)))
        await eventually(lambda: recorder.calls)
        assert await scheduler.remove_task("a") is True
        await scheduler.stop_task_execute()
        assert len(recorder.calls) == 1
        assert await scheduler.dead_tasks() == []


async def _in_state(scheduler: Uniform, task_id: str, state: str) -> bool:
    task = await scheduler.peek_task(task_id)
    return task is not None and task.state == state


class TestDT4Peek:
    async def test_time_left_and_payload_or_none(self, scheduler: Uniform) -> None:
        assert await scheduler.peek_task("a") is None
        await scheduler.assign_task(Job("a", after(60), payload=[1, {"b": b"c"}]))
        task = await scheduler.peek_task("a")
        assert 58 < task.time_left <= 60.001
        assert (task.payload, task.state, task.attempt, task.interval) == ([1, {"b": b"c"}], "scheduled", 1, None)

    async def test_running_retrying_and_dead(self, scheduler: Uniform) -> None:
        gate = threading.Event()

        def fail(_payload: Any) -> None:
            gate.wait(20)
            raise RuntimeError("asked to fail")

        await scheduler.start_task_execute(fail)
        await scheduler.assign_task(Job("a", retry=Retry(max_retries=1, backoff=1)))
        await eventually(lambda: _in_state(scheduler, "a", "running"))
        gate.set()
        await eventually(lambda: _in_state(scheduler, "a", "retrying"))
        task = await scheduler.peek_task("a")
        assert (task.attempt, task.last_error) == (2, "RuntimeError: asked to fail")
        await eventually(lambda: _in_state(scheduler, "a", "dead"))
        task = await scheduler.peek_task("a")
        assert (task.payload, task.last_error) == ("a", "RuntimeError: asked to fail")
        assert await scheduler.is_scheduled("a") is False


class TestDT5Upcoming:
    async def test_in_due_order_with_offset_duration_and_limit(self, scheduler: Uniform) -> None:
        now = time.time()
        await scheduler.assign_tasks(Job(f"a{n:04}", now + 1000 + 10 * n) for n in range(500))
        await scheduler.assign_task(Job("overdue", now - 50))
        everything = [task.id for task in await scheduler.upcoming()]
        assert everything == ["overdue", *(f"a{n:04}" for n in range(500))]
        assert [task.id for task in await scheduler.upcoming(limit=3)] == ["overdue", "a0000", "a0001"]
        # Five seconds for a machine in demand to come this far.
        window = await scheduler.upcoming(offset=1495, duration=100)
        assert [task.id for task in window] == [f"a{n:04}" for n in range(50, 60)]
        assert await scheduler.upcoming(limit=0) == []

    async def test_many_at_the_same_millisecond(self, make: Make) -> None:
        scheduler = make(partitions=1)
        await scheduler.start_task_accept()
        due = after(100)
        await scheduler.assign_tasks(Job(f"a{n:04}", due) for n in range(950))
        assert [task.id for task in await scheduler.upcoming()] == [f"a{n:04}" for n in range(950)]

    async def test_retries_are_upcoming(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=True, fail=1)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", retry=Retry(backoff=600)))
        await eventually(lambda: _in_state(scheduler, "a", "retrying"))
        assert [(task.id, task.state) for task in await scheduler.upcoming()] == [("a", "retrying")]


class TestDT6Confirm:
    async def test_redelivered_until_confirmed_then_gone(self, make: Make, recorder: Recorder) -> None:
        scheduler = make(lease_seconds=0.4)
        await scheduler.start_task_accept()
        await scheduler.start_task_execute(recorder.handler, confirm="manual")
        payload = {"n": 2**63, "b": b"\x00\xff", "empty": [[], {}]}
        await scheduler.post(payload, 0, id="a", max_retries=5)
        await eventually(lambda: len(recorder.calls) == 3)
        assert [call.attempt for call in recorder.calls] == [1, 2, 3]
        assert recorder.payloads == [payload] * 3
        tokens = [call.token for call in recorder.calls]
        assert tokens == sorted(set(tokens))
        assert await scheduler.confirm_task("a", tokens[0]) is False
        assert await scheduler.confirm_task("a", tokens[-1]) is True
        assert await size(scheduler) == 0
        assert await scheduler.confirm_task("a", tokens[-1]) is False

    async def test_exhausted_ones_are_kept_as_dead_letters(self, make: Make, recorder: Recorder) -> None:
        scheduler = make(lease_seconds=0.3)
        await scheduler.start_task_accept()
        await scheduler.start_task_execute(recorder.handler, confirm="manual")
        await scheduler.post("x", 0, id="a", max_retries=1)
        dead = await eventually(scheduler.dead_tasks)
        assert (dead[0].id, dead[0].payload) == ("a", "x")
        assert "not confirmed" in dead[0].error
        assert len(recorder.calls) == 2

    async def test_confirmed_inside_the_handler_without_a_token(self, make: Make) -> None:
        scheduler = make(lease_seconds=0.3)
        await scheduler.start_task_accept()
        answers: list[Any] = []

        real: Any = scheduler.real

        async def asynchronous(_payload: Any) -> None:
            answers.append(await real.confirm_task(current_execution().id))

        def plain(_payload: Any) -> None:
            answers.append(real.confirm_task(current_execution().id))

        handler = asynchronous if isinstance(real, AsyncScheduler) else plain
        await scheduler.start_task_execute(handler, confirm="manual")
        await scheduler.assign_task(Job("once"))
        await scheduler.assign_task(Job("often", None, 0.1))
        await eventually(lambda: len(answers) >= 6)
        assert set(answers) == {True}
        assert not await scheduler.is_scheduled("once")

    async def test_a_failing_handler_is_retried_with_the_payload_unchanged(
        self, scheduler: Uniform, recorder: Recorder
    ) -> None:
        recorder.fail = 3
        await scheduler.start_task_execute(recorder.handler)
        payload = {"f": 0.1, "big": 2**64 - 1, "neg": -(2**63), "s": "\N{SNOWMAN}\0", "l": [None, True, [], {}]}
        await scheduler.assign_task(Job("a", payload=payload, retry=Retry(max_retries=3, backoff=0.01)))
        await eventually(lambda: len(recorder.calls) == 4)
        assert recorder.payloads == [payload] * 4
        assert [call.attempt for call in recorder.calls] == [1, 2, 3, 4]
        await eventually(lambda: is_empty(scheduler))
        assert await scheduler.dead_tasks() == []


class TestDT7Concurrency:
    @pytest.mark.parametrize("coroutine", [True, False])
    async def test_limits_running_handlers_and_can_be_changed(self, make: Make, coroutine: bool) -> None:
        scheduler = make(concurrency=3)
        await scheduler.start_task_accept()
        running = most = done = 0

        async def asynchronous(_payload: Any) -> None:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.02)  # the work
            running -= 1
            done += 1

        def plain(_payload: Any) -> None:
            nonlocal running, most, done
            running += 1
            most = max(most, running)
            time.sleep(0.02)  # the work
            running -= 1
            done += 1

        await scheduler.start_task_execute(asynchronous if coroutine else plain)
        await scheduler.assign_tasks(Job(f"a{n}") for n in range(60))
        await eventually(lambda: done == 60)
        assert most == 3
        await scheduler.set_concurrency(12)
        assert scheduler.concurrency == 12
        most = 0
        await scheduler.assign_tasks(Job(f"b{n}") for n in range(200))
        await eventually(lambda: done == 260)
        assert 6 <= most <= 12


class TestDT8WakeUp:
    async def test_an_idle_worker_is_woken_and_asks_little(self, make: Make, redis_servers: list[RedisServer]) -> None:
        """One immediate task and five idle workers: a few claims, not one from every worker."""
        producer = make()
        await producer.start_task_accept()
        recorder = Recorder(coroutine=True)
        workers = [make(check_tasks_every_seconds=60) for _ in range(5)]
        for worker in workers:
            await worker.start_task_execute(recorder.handler)
        await eventually(lambda: all(_members(worker) == 5 for worker in workers))
        # A call whose script the server lacks so far counts twice.
        await producer.assign_task(Job("a"))
        await eventually(lambda: recorder.calls)
        recorder.calls.clear()
        await asyncio.sleep(0.5)  # the looks that follow a change of the roster
        before = sum(map(_claims, redis_servers))
        begin = time.time()
        await producer.assign_task(Job("a"))
        await eventually(lambda: recorder.calls)
        assert recorder.calls[0].started - begin < 0.5
        await asyncio.sleep(0.3)  # whoever else was woken has asked by then
        assert sum(map(_claims, redis_servers)) - before <= 6


def _claims(server: RedisServer) -> int:
    """How often something was claimed: a claim is what reads the sequence or the leases by time."""
    import redis

    with redis.Redis.from_url(server.url) as client:
        stats: Any = client.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


class TestDT9ServerTime:
    async def test_due_times_follow_the_server_not_the_client(
        self, scheduler: Uniform, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """light-task-scheduler#330: clock skew."""
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 1000)
        await scheduler.start_task_execute(recorder.handler)
        due = real() + 0.3
        await scheduler.assign_task(Job("a", due))
        await scheduler.assign_task(Job("now"))
        await eventually(lambda: len(recorder.calls) == 2)
        assert recorder.of("a")[0].started - 1000 >= due
        assert abs(recorder.of("now")[0].due - real()) < 10


class TestDT10Errors:
    async def test_ready_and_error_events_and_polling_goes_on(self, own_servers: list[RedisServer], make: Make) -> None:
        scheduler = make(storage=storage(own_servers, reconnect_interval_seconds=0.1))
        seen: list[str] = []
        for event in ("ready", "error"):
            scheduler.on(event, lambda event: seen.append(event.name))
        await scheduler.start_task_accept()
        recorder = Recorder(coroutine=True)
        await scheduler.start_task_execute(recorder.handler)
        assert seen == ["ready"]
        await scheduler.assign_task(Job("a", None, 0.05))
        await eventually(lambda: recorder.calls)
        for server in own_servers:
            server.kill()
        await eventually(lambda: "error" in seen)
        for server in own_servers:
            server.restart()
        before = len(recorder.calls)
        await eventually(lambda: len(recorder.calls) > before + 3)

    async def test_a_flushed_script_cache_is_no_error(
        self, scheduler: Uniform, recorder: Recorder, redis_servers: list[RedisServer]
    ) -> None:
        """groupmq#16: NOSCRIPT for hours."""
        import redis

        await scheduler.start_task_execute(recorder.handler)
        for server in redis_servers:
            with redis.Redis.from_url(server.url) as client:
                client.script_flush()
        await scheduler.assign_tasks(Job(f"a{n}") for n in range(50))
        await eventually(lambda: len(recorder.calls) == 50)


class TestDT11Namespaces:
    async def test_keep_applications_apart(self, make: Make, namespace: str) -> None:
        one, two = make(), make(namespace=f"{namespace}-other")
        await one.start_task_accept()
        await two.start_task_accept()
        assert await one.assign_task(Job("a", after(60))) is True
        assert await two.assign_task(Job("a", after(60))) is True
        assert await two.clear_all_tasks() == 1
        assert await one.is_scheduled("a")
