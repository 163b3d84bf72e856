"""Calls that are interrupted: by a signal handler that raises, in the main thread, while a server does not answer.

fault-C6: celery#3682. The exception reaches whoever called, and the call is not repeated.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from interval_scheduler import PartitionUnavailable, Scheduler
from tests.servers import RedisServer
from tests.tasks import Job, after
from tests.waiting import comes_true, wait_until

SIGNAL = signal.SIGUSR1


class SoftTimeLimitExceeded(Exception):
    """As those of applications and other task queues are made."""


class TooSlow(TimeoutError):
    """Looks like the end of a deadline of a socket."""


class Stop(BaseException):
    """No `Exception`."""


WAITING = ("read", "readinto", "read_from_socket", "_read_from_socket", "wait")
"""The functions that wait for a server, or for the thread of the event loop which does."""
RAISED = [SoftTimeLimitExceeded, TooSlow, Stop, TimeoutError, ConnectionError, OSError, RuntimeError, KeyboardInterrupt]


@contextmanager
def interrupted_by(raised: type[BaseException]) -> Iterator[None]:
    """Once the block waits for a server, a signal handler raises."""

    def handler(_number: int, _frame: object) -> None:
        raise raised("interrupted")

    before = signal.signal(SIGNAL, handler)
    main = threading.main_thread().ident
    assert main == threading.get_ident(), "signals are handled in the main thread"
    seen: list[int] = []

    def is_waiting() -> bool:
        """Whether the main thread is at the same place where it reads as the last time."""
        frame = sys._current_frames()[main]
        seen.append(id(frame) if frame.f_code.co_name in WAITING else 0)
        return len(seen) > 1 and seen[-1] == seen[-2] != 0

    def interrupt() -> None:
        assert comes_true(is_waiting, 20)
        signal.pthread_kill(main, SIGNAL)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        signal.signal(SIGNAL, before)


@pytest.fixture
def frozen(own_servers: list[RedisServer]) -> Iterator[RedisServer]:
    """A server of this test, to be paused. It goes on at the end."""
    yield own_servers[0]
    own_servers[0].resume()


@pytest.fixture
def scheduler(frozen: RedisServer, namespace: str) -> Iterator[Scheduler]:
    with Scheduler([frozen.url], namespace=namespace, partitions=4) as made:
        made.start_task_accept()
        yield made


def scripts_run(server: RedisServer) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


@pytest.mark.parametrize("raised", RAISED)
def test_a_call_that_waits_for_its_reply(
    scheduler: Scheduler, frozen: RedisServer, raised: type[BaseException]
) -> None:
    scheduler.assign_task(Job("warm"))
    before = scripts_run(frozen)
    frozen.pause()
    with pytest.raises(raised, match="interrupted") as caught, interrupted_by(raised):
        scheduler.assign_task(Job("a"))
    assert type(caught.value) is raised
    frozen.resume()
    assert scripts_run(frozen) <= before + 1, "it is not repeated"
    check_that_it_goes_on(scheduler)


@pytest.mark.parametrize("raised", RAISED)
def test_a_call_that_connects(scheduler: Scheduler, frozen: RedisServer, raised: type[BaseException]) -> None:
    frozen.pause()
    scheduler._transport.close()  # so that the next call opens a connection
    with pytest.raises(raised, match="interrupted") as caught, interrupted_by(raised):
        scheduler.assign_task(Job("a"))
    assert type(caught.value) is raised
    frozen.resume()
    check_that_it_goes_on(scheduler)


@pytest.mark.parametrize("raised", RAISED)
def test_a_stream_of_tasks(scheduler: Scheduler, frozen: RedisServer, raised: type[BaseException]) -> None:
    frozen.pause()
    with pytest.raises(raised, match="interrupted"), interrupted_by(raised):
        scheduler.assign_tasks(Job(f"s{number}") for number in range(5000))
    frozen.resume()
    check_that_it_goes_on(scheduler)


@pytest.mark.parametrize("raised", [SoftTimeLimitExceeded, TooSlow, KeyboardInterrupt])
def test_calls_to_several_instances(
    own_servers: list[RedisServer], frozen: RedisServer, namespace: str, raised: type[BaseException]
) -> None:
    with Scheduler([server.url for server in own_servers[:2]], namespace=namespace, partitions=4) as scheduler:
        scheduler.start_task_accept()
        frozen.pause()
        with pytest.raises(raised, match="interrupted"), interrupted_by(raised):
            scheduler.remove_tasks([f"a{number}" for number in range(20)])
        frozen.resume()
        check_that_it_goes_on(scheduler)


@pytest.mark.parametrize("call", ["start_task_accept", "start_task_execute", "stop_task_execute", "close"])
def test_what_starts_and_stops_goes_on_and_can_be_asked_again(frozen: RedisServer, namespace: str, call: str) -> None:
    with Scheduler([frozen.url], namespace=namespace, partitions=4) as scheduler:
        if call != "start_task_accept":
            scheduler.start_task_accept()
        if call in ("stop_task_execute", "close"):
            scheduler.start_task_execute(print)
        arguments = [print] if call == "start_task_execute" else []
        frozen.pause()
        with pytest.raises(SoftTimeLimitExceeded), interrupted_by(SoftTimeLimitExceeded):
            getattr(scheduler, call)(*arguments)
        frozen.resume()
        if call == "start_task_execute":
            wait_until(lambda: scheduler.executing_tasks)
            scheduler.stop_task_execute()
        getattr(scheduler, call)(*arguments)
        assert scheduler.executing_tasks == (call == "start_task_execute")
        if call != "close":
            check_that_it_goes_on(scheduler)
            scheduler.clear_all_tasks()


def test_what_an_application_handles_when_it_calls_is_no_interruption(
    scheduler: Scheduler, frozen: RedisServer
) -> None:
    frozen.kill()
    try:
        raise SoftTimeLimitExceeded
    except SoftTimeLimitExceeded:
        with pytest.raises(PartitionUnavailable):
            scheduler.assign_task(Job("a"))
        with pytest.raises(PartitionUnavailable):  # once more: it has to connect now
            scheduler.assign_task(Job("a"))
    frozen.start()
    check_that_it_goes_on(scheduler)


def check_that_it_goes_on(scheduler: Scheduler) -> None:
    """Replies belong to the calls that they are given to."""
    scheduler.start_task_accept()
    scheduler.assign_task(Job("b", after(3600), payload="of b"))
    scheduler.assign_task(Job("c", after(3600), payload="of c"))
    for name in "bc":
        task = scheduler.peek_task(name)
        assert task is not None
        assert task.payload == f"of {name}"
    assert {task.id for task in scheduler.upcoming()} >= {"b", "c"}


AT_ANY_MOMENT = """
import random, signal, sys, time
from interval_scheduler import Scheduler, Task

class SoftTimeLimitExceeded(Exception): pass
class Job(Task):
    def __init__(self, number): self.id, self.execute_on, self.jitter = f"a{number}", time.time() + 3600, 60
    def serialize(self): return [["x", 1, 2.5] for _ in range(200)]

def interrupt(*_): raise SoftTimeLimitExceeded("time limit")

signal.signal(signal.SIGALRM, interrupt)
jobs = [Job(number) for number in range(50)]
interrupted = 0
with Scheduler([sys.argv[1]], namespace=sys.argv[2], partitions=4) as scheduler:
    scheduler.start_task_accept()
    end = time.monotonic() + 4
    while time.monotonic() < end:
        try:
            # Again after a while, because Python ignores exceptions while it deletes an object.
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003), 0.3)
            while True:
                scheduler.assign_task(jobs[0])
                scheduler.try_auto_lock("a", 5)
                scheduler.assign_tasks(jobs)
        except SoftTimeLimitExceeded:
            interrupted += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    assert scheduler.peek_task("a7").payload == jobs[7].serialize()
    scheduler.clear_all_tasks()
print("interrupted", interrupted > 50, flush=True)
"""


def test_at_any_moment_of_a_call(own_servers: list[RedisServer], namespace: str) -> None:
    """While it writes an int, hiredis cannot stand an exception: the process ended by a segmentation fault."""
    done = subprocess.run(
        [sys.executable, "-c", AT_ANY_MOMENT, own_servers[0].url, namespace], capture_output=True, text=True, timeout=90
    )
    assert (done.returncode, done.stdout) == (0, "interrupted True\n"), done.stderr
