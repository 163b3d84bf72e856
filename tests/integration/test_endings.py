"""How programs end: exit functions, finalisation, forks, signals and several event loops, each in a real process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from interval_scheduler import AsyncScheduler, InvalidOptions, Scheduler, SchedulerError
from tests.servers import RedisServer
from tests.tasks import Job
from tests.waiting import wait_for_signal_handler

ROOT = Path(__file__).parents[2]
Program = Callable[..., "subprocess.Popen[str]"]

HEAD = """
import asyncio, atexit, os, signal, sys, threading, time
from interval_scheduler import AsyncScheduler, Scheduler, Task
from tests.waiting import wait_until

class Job(Task):
    id = "a"
    def serialize(self): return "a"

options = {"storage": {"instances": [sys.argv[1]]}, "namespace": sys.argv[2], "partitions": 2, "lease_seconds": 5}
def say(*words): print(*words, flush=True)
"""


@pytest.fixture
def program(redis_servers: list[RedisServer], namespace: str) -> Program:
    def start(body: str, *flags: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *flags, "-c", HEAD + textwrap.dedent(body), redis_servers[0].url, namespace],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "default"},
        )

    return start


def ended(process: subprocess.Popen[str], seconds: float = 30) -> tuple[list[str], str]:
    """What a program printed, and wrote to stderr, when it has ended by itself."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return out.split(), err


@pytest.fixture(autouse=True)
def cleared(redis_servers: list[RedisServer], namespace: str) -> object:
    yield
    with Scheduler([redis_servers[0].url], namespace=namespace, partitions=2) as scheduler:
        scheduler.clear_all_tasks()
    return None


def test_an_exit_function_closes_and_what_ran_is_reported(
    program: Program, redis_servers: list[RedisServer], namespace: str
) -> None:
    """fault-C1: cpython#86813, apscheduler#1025."""
    out, err = ended(
        program("""
        scheduler = Scheduler(options)
        atexit.register(scheduler.close)
        scheduler.start_task_accept()
        ran = threading.Event()
        def handler(payload):
            say("ran")
            ran.set()
        scheduler.start_task_execute(handler)
        scheduler.assign_task(Job())
        ran.wait(10)
        """)
    )
    assert out == ["ran"]
    assert "cannot schedule" not in err
    assert "Traceback" not in err
    with Scheduler([redis_servers[0].url], namespace=namespace, partitions=2) as scheduler:
        assert scheduler.peek_task("a") is None, "its end was reported"


@pytest.mark.parametrize("kept_by", ["an object", "a generator"])
def test_closing_while_the_interpreter_ends_does_not_hang(program: Program, kept_by: str) -> None:
    """fault-C2: cpython#130402, #87950."""
    process = program(f"""
        scheduler = Scheduler(options)
        scheduler.start_task_accept()
        scheduler.start_task_execute(print)
        class Kept:
            def __del__(self):
                scheduler.close()
                os.write(1, b"closed\\n")
        def suspended():
            kept = Kept()
            yield 1
        if {kept_by == "an object"}:
            sys.kept = Kept()
        else:
            sys.kept = suspended()
            next(sys.kept)
        say("ready")
        """)
    out, _ = ended(process, 30)
    assert out[0] == "ready"


def test_a_signal_handler_that_is_not_of_python_does_not_break_the_wait(program: Program) -> None:
    """fault-C3: cpython#93411."""
    process = program("""
        scheduler = Scheduler(options)
        scheduler.start_task_accept()
        scheduler.start_task_execute(print)
        real = signal.getsignal
        signal.getsignal = lambda number: None
        scheduler.wait()
        say("ended")
        scheduler.close()
        """)
    wait_for_signal_handler(process.pid)
    process.send_signal(signal.SIGTERM)
    assert ended(process)[0] == ["ended"]


@pytest.mark.parametrize("kind", ["AsyncScheduler", "Scheduler"])
def test_a_child_that_a_handler_forks_and_ends_takes_nobody_along(program: Program, kind: str) -> None:
    """fault-C4: fastapi#1487, cpython#94454."""
    process = program(f"""
        ended, returned = threading.Event(), threading.Event()
        def handler(payload):
            wait_until(lambda: signal.getsignal(signal.SIGTERM) != signal.SIG_DFL)  # the main thread is in `wait`
            child = os.fork()
            if child == 0:
                signal.pause()  # the signal ends it; an exit code tells that it did not
                os._exit(1)
            os.kill(child, signal.SIGTERM)  # at once: it may come before the child has run a line of Python
            _, status = os.waitpid(child, 0)
            say("child", os.waitstatus_to_exitcode(status) == -signal.SIGTERM)
            ended.set()
        def observe():
            ended.wait(30)
            # Whatever the child told its parent, it did before it ended.
            say("waits", not returned.wait(0.5))
            os.kill(os.getpid(), signal.SIGTERM)
        async def with_coroutines():
            async with AsyncScheduler(options) as scheduler:
                await scheduler.start_task_accept()
                await scheduler.start_task_execute(handler)
                await scheduler.assign_task(Job())
                await scheduler.wait()
                returned.set()
        def blocking():
            with Scheduler(options) as scheduler:
                scheduler.start_task_accept()
                scheduler.start_task_execute(handler)
                scheduler.assign_task(Job())
                scheduler.wait()
                returned.set()
        threading.Thread(target=observe, daemon=True).start()
        asyncio.run(with_coroutines()) if {kind == "AsyncScheduler"} else blocking()
        say("ended")
        """)
    assert ended(process)[0] == ["child", "True", "waits", "True", "ended"]


def test_another_event_loop_is_refused(redis_servers: list[RedisServer], namespace: str) -> None:
    """fault-C7: redis-py#3351, pytest-asyncio#413."""
    scheduler = AsyncScheduler([redis_servers[0].url], namespace=namespace, partitions=2)
    loop = asyncio.new_event_loop()

    async def first() -> None:
        await scheduler.start_task_accept()
        assert await scheduler.assign_task(Job("a"))

    async def second() -> None:
        for call in (
            lambda: scheduler.assign_task(Job("b")),
            lambda: scheduler.assign_tasks([Job("b")]),
            lambda: scheduler.peek_task("a"),
            lambda: scheduler.start_task_execute(print),
        ):
            with pytest.raises(SchedulerError, match="belongs to another event loop"):
                await asyncio.wait_for(call(), 5)

    loop.run_until_complete(first())
    asyncio.run(second())
    loop.run_until_complete(scheduler.close())
    loop.close()


def test_coroutine_functions_are_no_callbacks() -> None:
    """fault-C9: apscheduler#638."""

    async def callback(_event: object) -> None:
        raise AssertionError("never awaited")

    scheduler = Scheduler("memory://callbacks")
    with pytest.raises(InvalidOptions, match="coroutine function, which nobody would await"):
        scheduler.on("task-done", callback)
    scheduler.close()


def test_bytes_are_compared_with_bytes(program: Program) -> None:
    """fault-C10: redis-py#1322."""
    out, err = ended(
        program(
            """
        async def main():
            async with AsyncScheduler(options) as scheduler:
                await scheduler.start_task_accept()
                ran = asyncio.Event()
                async def handler(payload):
                    ran.set()
                await scheduler.start_task_execute(handler)
                await scheduler.assign_task(Job())
                await asyncio.wait_for(ran.wait(), 10)
                await scheduler.stop_task_execute()
                await scheduler.stats()
                await scheduler.verify()
                say("done")
        asyncio.run(main())
        """,
            "-bb",
        )
    )
    assert out == ["done"]
    assert "BytesWarning" not in err


def test_a_callback_that_closes_is_refused_and_nothing_is_closed(
    redis_servers: list[RedisServer], namespace: str
) -> None:
    """apscheduler#338. It was half closed: it accepted nothing any more, and still executed."""
    scheduler = Scheduler([redis_servers[0].url], namespace=namespace, partitions=2)
    refused: list[BaseException] = []
    again = threading.Event()

    def close(_event: object) -> None:
        try:
            scheduler.close()
        except SchedulerError as error:
            refused.append(error)
            again.set()

    with scheduler:
        scheduler.start_task_accept()
        scheduler.on("task-done", close)
        scheduler.start_task_execute(lambda _payload: None)
        for _ in range(2):
            again.clear()
            assert scheduler.assign_task(Job("a"))
            assert again.wait(10)
        assert scheduler.accepting_tasks
        assert scheduler.executing_tasks
    assert all("own event loop" in str(error) for error in refused)


def test_a_callback_that_closes_while_others_close_does_not_hang(program: Program) -> None:
    """apscheduler#338: whoever closed waited for the loop, and the callback on the loop for whoever closed."""
    process = program("""
        scheduler = Scheduler(options)
        began = threading.Event()
        def handler(payload):
            began.set()
            wait_until(lambda: scheduler._engine._ending)
        def callback(event):
            try:
                scheduler.close()
            except Exception as error:
                say("refused", type(error).__name__)
        scheduler.on("task-done", callback)
        scheduler.start_task_accept()
        scheduler.start_task_execute(handler)
        scheduler.assign_task(Job())
        began.wait(10)
        scheduler.close()
        say("closed")
        """)
    try:
        assert ended(process)[0] == ["refused", "SchedulerError", "closed"]
    finally:
        process.kill()
