"""Forks: whatever the parent was doing at that moment, the child can use the scheduler, and executes nothing yet.

fault-C8: sentry-python#6148.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from interval_scheduler.support import forks
from tests.servers import RedisServer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

HEAD = """
import asyncio, faulthandler, os, signal, sys, threading, time
from interval_scheduler import AsyncScheduler, Cron, Scheduler, Task
from interval_scheduler.support import forks
from tests.waiting import wait_until

class Job(Task):
    def __init__(self, id, every=None): self.id, self.reschedule_interval = id, every
    def serialize(self): return "a"

url, namespace, server = sys.argv[1], sys.argv[2], int(sys.argv[3])
options = {"storage": {"instances": [url]}, "namespace": namespace, "partitions": 2}

def child_does(work):
    # What the child printed and its exit code. A child that hangs says where, and ends.
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(10, exit=True)
        try:
            work()
            os._exit(0)
        finally:
            import traceback
            traceback.print_exc()
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def use(scheduler):
    scheduler.start_task_accept()
    scheduler.assign_task(Job("a"))
    assert scheduler.peek_task("a").payload == "a"
    ran = threading.Event()
    scheduler.start_task_execute(lambda payload: ran.set())
    assert ran.wait(8)
    scheduler.close()
"""
Run = Callable[[str], str]


@pytest.fixture
def run(own_servers: list[RedisServer], namespace: str) -> Run:
    def start(body: str) -> str:
        server = own_servers[0]
        done = subprocess.run(
            [sys.executable, "-c", HEAD + textwrap.dedent(body), server.url, namespace, str(server.pid)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return start


def test_in_the_middle_of_the_first_call_of_another_thread(run: Run) -> None:
    said = run("""
        scheduler = Scheduler(options)
        os.kill(server, signal.SIGSTOP)
        first = threading.Thread(target=scheduler.start_task_accept)
        first.start()
        main = threading.get_ident()
        def waits():
            frame = sys._current_frames()[first.ident]
            names = set()
            while frame is not None:
                names.add(frame.f_code.co_name)
                frame = frame.f_back
            return "_connected" in names and "connect" in names
        wait_until(waits)
        def work():
            os.kill(server, signal.SIGCONT)
            use(scheduler)
        print("child", child_does(work))
        os.kill(server, signal.SIGCONT)
        first.join()
        scheduler.close()
        """)
    assert "child 0" in said, said


@pytest.mark.parametrize("calls", [1, 30, 100, 300, 1000, 3000, 10_000, 30_000])
def test_at_any_moment_of_the_first_call(run: Run, calls: int) -> None:
    """The moment is after so many calls of Python functions in it, or at its end."""
    said = run(f"""
        scheduler = Scheduler(options)
        seen, reached = 0, threading.Event()
        def count(frame, event, argument):
            global seen
            seen += 1
            if seen == {calls}:
                reached.set()
        def call():
            scheduler.start_task_accept()
            scheduler.assign_task(Job("b"))
            reached.set()
        threading.setprofile(count)
        first = threading.Thread(target=call)
        first.start()
        assert reached.wait(20)
        threading.setprofile(None)
        print("child", child_does(lambda: use(scheduler)))
        first.join()
        scheduler.close()
        """)
    assert "child 0" in said, said


def test_while_another_thread_makes_a_scheduler(run: Run) -> None:
    said = run("""
        begun = threading.Event()
        def make():
            begun.set()
            Scheduler(options).close()
        first = threading.Thread(target=make)
        first.start()
        begun.wait()
        print("child", child_does(lambda: use(Scheduler(options))))
        first.join()
        """)
    assert "child 0" in said, said


def test_nothing_executes_in_a_child_until_it_starts_that(run: Run) -> None:
    said = run("""
        async def main():
            blocking = Scheduler(options)
            blocking.start_task_accept()
            blocking.start_task_execute(print)
            async with AsyncScheduler(options) as scheduler:
                await scheduler.start_task_accept()
                await scheduler.start_task_execute(print)
                def work():
                    assert not scheduler.executing_tasks
                    assert not blocking.executing_tasks
                    assert blocking.accepting_tasks
                    blocking.close()
                print("child", child_does(work))
                assert scheduler.executing_tasks
                assert blocking.executing_tasks
            blocking.close()
        asyncio.run(main())
        """)
    assert "child 0" in said, said


def test_a_child_uses_the_asyncio_scheduler_on_its_own_loop(run: Run) -> None:
    said = run("""
        scheduler = AsyncScheduler(options)
        async def assign(id):
            await scheduler.start_task_accept()
            await scheduler.assign_task(Job(id))
            assert (await scheduler.peek_task(id)).payload == "a"
        async def all_of_it():
            await assign("b")
            await scheduler.close()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(assign("a"))
        print("child", child_does(lambda: asyncio.run(all_of_it())))
        loop.run_until_complete(assign("c"))
        loop.run_until_complete(scheduler.close())
        """)
    assert "child 0" in said, said


@pytest.mark.parametrize("face", ["Scheduler", "AsyncScheduler"])
def test_no_call_imports_while_others_may_fork(run: Run, face: str) -> None:
    """A module that another thread is importing at a fork could never be imported in the child."""
    said = run(f"""
        class Spy:
            def find_spec(self, name, path=None, target=None):
                free = []
                def look():
                    free.append(forks.held_back._lock.acquire(blocking=False))
                    if free[0]:
                        forks.held_back._lock.release()
                thread = threading.Thread(target=look)
                thread.start()
                thread.join()
                if free[0]:
                    print("imports", name)

        async def calls(scheduler, do):
            sys.meta_path.insert(0, Spy())
            await do(scheduler.start_task_accept)
            await do(scheduler.assign_task, Job("a"))
            await do(scheduler.assign_tasks, [Job(str(number), 5) for number in range(5)])
            await do(scheduler.assign_task, Job("c", Cron("* * * * *", "Europe/Paris")))
            await do(scheduler.peek_task, "a")
            await do(scheduler.stats)
            await do(scheduler.dead_tasks)
            await do(scheduler.verify)
            await do(scheduler.post, 1, 5)
            await do(scheduler.try_lock, "l")
            await do(scheduler.start_task_execute, lambda payload: None)
            await do(scheduler.stop_task_execute)
            await do(scheduler.clear_all_tasks)
            await do(scheduler.close)
            print("done")

        async def blocking(call, *arguments):
            call(*arguments)
        async def awaited(call, *arguments):
            await call(*arguments)
        asyncio.run(calls({face}(options), blocking if {face} is Scheduler else awaited))
        """)
    assert "done" in said, said
    assert "imports" not in said, said


def test_a_lock_is_free_in_the_child_if_another_thread_held_it() -> None:
    lock = forks.Lock()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    assert child_takes(lock)
    release.set()
    thread.join()


def test_a_lock_stays_held_in_the_child_if_the_forking_thread_holds_it() -> None:
    lock = forks.Lock()
    with lock:
        assert not child_takes(lock, in_thread=True)
        assert child_takes(lock)
    assert child_takes(lock, in_thread=True)


def child_takes(lock: forks.Lock, *, in_thread: bool = False) -> bool:
    """Whether a forked child can take the lock, in the thread that forked or in another one."""
    child = os.fork()
    if child == 0:
        taken: list[bool] = []

        def take() -> None:
            taken.append(lock._lock.acquire(blocking=False))

        if in_thread:
            thread = threading.Thread(target=take)
            thread.start()
            thread.join()
        else:
            take()
        os._exit(0 if taken[0] else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


HANDLERS = {
    "returns": ("return", 0),
    "raises": ("raise ValueError('in the child')", 1),
    "exits": ("sys.exit(7)", 7),
    "exits with words": ("sys.exit('gone')", 1),
}


@pytest.mark.parametrize("end", HANDLERS)
@pytest.mark.parametrize("handler", ["def", "async def", "async def after an await"])
def test_a_child_that_a_handler_forks_ends_with_the_handler(run: Run, handler: str, end: str) -> None:
    """It must not go on with the runs of its parent."""
    statement, code = HANDLERS[end]
    first = "await asyncio.sleep(0.01)" if "await" in handler else "pass"
    said = run(f"""
        codes, all_ran = [], threading.Event()
        {handler.removesuffix(" after an await")} handler(payload):
            {first}
            pid = os.fork()
            if pid == 0:
                {statement}
            else:
                codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                print("ran in", os.getpid() == parent, flush=True)
                if len(codes) == 3:
                    all_ran.set()
        parent = os.getpid()
        with Scheduler(options, concurrency=1) as scheduler:
            scheduler.start_task_accept()
            scheduler.assign_tasks([Job("a"), Job("b"), Job("c")])
            scheduler.start_task_execute(handler)
            assert all_ran.wait(20)
        print("codes", codes)
        """)
    assert said.count("ran in True") == 3
    assert "ran in False" not in said
    assert f"codes {[code] * 3}" in said, said
    assert ("in the child" in said) == (end == "raises")


def test_a_child_of_a_coroutine_handler_that_awaits_is_ended(run: Run) -> None:
    said = run("""
        codes, ran = [], threading.Event()
        async def handler(payload):
            pid = os.fork()
            if pid == 0:
                await asyncio.sleep(0)
                print("went on", flush=True)
            else:
                print("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                ran.set()
        with Scheduler(options) as scheduler:
            scheduler.start_task_accept()
            scheduler.start_task_execute(handler)
            scheduler.assign_task(Job("a"))
            assert ran.wait(20)
        """)
    assert "code 1" in said
    assert "went on" not in said
    assert "end it by os._exit()" in said
