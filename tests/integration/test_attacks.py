"""Faults that once broke a promise, each provoked for real: full memory, a frozen instance, a dead loop, a fork."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from interval_scheduler import InvalidOptions, Scheduler, SchedulerError, current_execution
from tests.integration.conftest import Make, storage
from tests.servers import RedisServer
from tests.tasks import Job, Uniform, eventually
from tests.waiting import wait_until


@pytest.fixture
def on_own(own_servers: list[RedisServer], namespace: str) -> Iterator[Any]:
    """Makes blocking schedulers on servers that the test may break."""
    made: list[Scheduler] = []

    def make(count: int = 1, **fields: Any) -> Scheduler:
        options = {"namespace": namespace, "partitions": 4, "storage": storage(own_servers[:count]), **fields}
        scheduler = Scheduler(options)
        scheduler.start_task_accept()
        made.append(scheduler)
        return scheduler

    yield make
    for server in own_servers:
        if server._process is not None:
            server.resume()
    for scheduler in made:
        if not scheduler._closed:
            scheduler.stop_task_execute(grace=1)
            scheduler.close()


def run_script(code: str, *arguments: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    """Runs a Python program that may hang or kill itself."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=Path(__file__).parents[2],
    )


class TestFullMemory:
    @pytest.mark.parametrize("confirm", ["auto", "manual"])
    def test_leases_are_kept_and_runs_confirmed(
        self, on_own: Any, own_servers: list[RedisServer], confirm: Any
    ) -> None:
        scheduler, other = on_own(lease_seconds=2), on_own(lease_seconds=2)
        live: list[int] = []
        release = threading.Event()

        def handler(_: Any) -> None:
            live.append(current_execution().fencing_token)
            release.wait(20)
            if confirm == "manual":
                assert scheduler.confirm_task("a")

        for each in (scheduler, other):
            each.start_task_execute(handler, confirm)
        scheduler.assign_task(Job("a"))
        wait_until(lambda: live)
        with redis.Redis.from_url(own_servers[0].url) as client:
            client.config_set("maxmemory", 1)
            assert not release.wait(5), "two leases long, nobody else may start it"
            release.set()
            wait_until(lambda: scheduler.task_size() == 0)
            client.config_set("maxmemory", 0)
        assert len(live) == 1

    def test_a_refusal_does_not_count_as_an_outage(self, on_own: Any, own_servers: list[RedisServer]) -> None:
        scheduler = on_own()
        lost: list[object] = []
        scheduler.on("offline", lambda: lost.append("offline"))
        with redis.Redis.from_url(own_servers[0].url) as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(SchedulerError, match="maxmemory"):
                scheduler.assign_task(Job("a"))
            client.config_set("maxmemory", 0)
        assert scheduler.online
        assert not lost


def test_a_frozen_instance_costs_no_lease_of_a_healthy_one(on_own: Any, own_servers: list[RedisServer]) -> None:
    scheduler = on_own(2, lease_seconds=3)
    ids: dict[str, str] = {}
    for number in range(50):
        home = scheduler._operations._layout.home(f"t{number}".encode())
        ids.setdefault(home.instance, f"t{number}")
    healthy, frozen = ids["redis-0"], ids["redis-1"]
    started: list[str] = []
    release = threading.Event()

    def handler(_: Any) -> None:
        started.append(current_execution().id)
        release.wait(30)

    scheduler.start_task_execute(handler)
    for task_id in (healthy, frozen):
        scheduler.assign_task(Job(task_id))
    wait_until(lambda: len(started) == 2)
    own_servers[1].pause()
    with redis.Redis.from_url(own_servers[0].url) as client:
        [leases] = client.keys("*leases")
        for _ in range(14):
            assert not release.wait(0.5)
            seconds, microseconds = client.time()
            left = client.zscore(leases, healthy) - seconds * 1000 - microseconds / 1000
            assert left > 1000, "the lease was not renewed in time"
    own_servers[1].resume()
    release.set()
    assert started.count(healthy) == 1


class TestStop:
    async def test_a_claim_under_way_is_given_back(self, make: Make, redis_servers: list[RedisServer]) -> None:
        """Tasks that must not be repeated: what was claimed and not begun must not be taken for begun."""
        producer = make()
        await producer.start_task_accept()
        ran: list[str] = []
        count = 0
        for _ in range(25):
            worker = make(storage=storage(redis_servers))
            await worker.start_task_accept()
            await worker.start_task_execute(lambda payload: ran.append(payload))
            for _ in range(20):
                await producer.assign_task(Job(f"t{count}", payload=f"t{count}", delivery="at_most_once"))
                count += 1
            await worker.stop_task_execute()
            await worker.close()
        last = make()
        await last.start_task_accept()
        await last.start_task_execute(lambda payload: ran.append(payload))
        await eventually(lambda: len(ran) == count)
        assert sorted(ran) == sorted({f"t{number}" for number in range(count)})
        assert await producer.dead_tasks() == []

    def test_a_handler_that_outlives_close_keeps_no_lease_after_its_end(self, on_own: Any) -> None:
        first, second = on_own(lease_seconds=1), on_own(lease_seconds=1)
        release = threading.Event()
        started = threading.Event()

        def outlive(_: Any) -> None:
            started.set()
            release.wait(30)

        first.start_task_execute(outlive)
        first.assign_task(Job("a"))
        assert started.wait(10)
        first.stop_task_execute(grace=0.1)
        first.close()
        again: list[Any] = []
        second.start_task_execute(again.append)
        assert not threading.Event().wait(2), "it still runs"
        assert not again, "its lease was kept while it ran"
        release.set()
        wait_until(lambda: again)

    @pytest.mark.parametrize("kind", ["plain", "coroutine"])
    def test_stopping_inside_a_handler_says_why_not(self, on_own: Any, kind: str) -> None:
        scheduler = on_own()
        errors: list[str] = []

        def plain(_: Any) -> None:
            for stop in (scheduler.stop_task_execute, scheduler.close):
                try:
                    stop()
                except SchedulerError as error:
                    errors.append(str(error))

        async def coroutine(payload: Any) -> None:
            plain(payload)
            scheduler.concurrency = 3

        scheduler.start_task_execute(plain if kind == "plain" else coroutine)
        scheduler.assign_task(Job("a"))
        wait_until(lambda: len(errors) == 2)
        assert all("asked the scheduler to stop" in error for error in errors)
        if kind == "coroutine":
            wait_until(lambda: scheduler.concurrency == 3)

    def test_closing_from_several_threads(self, on_own: Any) -> None:
        scheduler = on_own()
        scheduler.start_task_execute(lambda _: None)
        failures: list[BaseException] = []

        def close() -> None:
            try:
                scheduler.close()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=close) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert not failures

    def test_a_program_that_forgets_to_close_ends(self, redis_servers: list[RedisServer], namespace: str) -> None:
        code = """
            import asyncio, sys
            from interval_scheduler import AsyncScheduler
            async def main():
                scheduler = AsyncScheduler(sys.argv[1], namespace=sys.argv[2])
                await scheduler.start_task_accept()
                await scheduler.start_task_execute(print)
                await asyncio.sleep(0.1)  # it works for a while
            asyncio.run(main())
        """
        for _ in range(3):
            assert run_script(code, redis_servers[0].url, namespace).returncode == 0


class TestTheLoop:
    @pytest.mark.parametrize("how", ["child task", "callback", "error text"])
    def test_survives_sys_exit(self, on_own: Any, how: str) -> None:
        scheduler = on_own(lease_seconds=1)
        ran: list[Any] = []

        async def leave() -> None:
            sys.exit(3)

        class Rude(Exception):
            def __str__(self) -> str:
                sys.exit(4)

        async def handler(payload: Any) -> None:
            ran.append(payload)
            if payload != "bad":
                return
            if how == "child task":
                await asyncio.wait_for(asyncio.ensure_future(leave()), 5)
            if how == "error text":
                raise Rude

        def callback(_: Any) -> None:
            if how == "callback":
                sys.exit(5)

        scheduler.on("task-started", callback)
        scheduler.start_task_execute(handler)
        scheduler.assign_task(Job("bad", payload="bad"))
        wait_until(lambda: ran)
        scheduler.assign_task(Job("good", payload="good"))
        wait_until(lambda: "good" in ran)
        wait_until(lambda: scheduler.task_size() == 0)

    def test_a_forked_child_works_and_leaves_the_parent_alone(self, on_own: Any) -> None:
        scheduler = on_own()
        scheduler.start_task_execute(lambda _: None)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            result = b"failed"
            try:
                ran = threading.Event()
                scheduler.start_task_execute(lambda _: ran.set())
                scheduler.assign_task(Job("a"))
                scheduler.stop_task_execute()
                scheduler.close()
                result = b"closed"
            finally:
                os.write(write, result)
                os._exit(0)
        os.close(write)
        watchdog = threading.Timer(15, os.kill, (child, 9))
        watchdog.start()
        said = os.read(read, 100)
        watchdog.cancel()
        os.waitpid(child, 0)
        assert said == b"closed"
        assert scheduler.executing_tasks
        assert scheduler.online


class TestHandlersThatCannotWork:
    @pytest.mark.parametrize("name", ["generator", "async generator", "no argument", "two arguments", "no function"])
    async def test_are_refused_at_once(self, scheduler: Uniform, name: str) -> None:
        def generator(payload: Any) -> Iterator[Any]:
            yield payload

        async def async_generator(payload: Any) -> Any:
            yield payload

        handlers: dict[str, Any] = {
            "generator": generator,
            "async generator": async_generator,
            "no argument": lambda: None,
            "two arguments": lambda one, two: None,
            "no function": 3,
        }
        with pytest.raises(InvalidOptions, match="one argument, the payload"):
            await scheduler.start_task_execute(handlers[name])
        assert not scheduler.executing_tasks
