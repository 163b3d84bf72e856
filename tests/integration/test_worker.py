"""How the worker keeps the promises: leases, retries, timeouts, shutdown, killed workers."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis

from interval_scheduler import AsyncScheduler, Cron, LeaseLost, Retry, Scheduler, SchedulerError, current_execution
from interval_scheduler.core.record import parse_header, split_record
from interval_scheduler.protocol import keys
from interval_scheduler.worker.roster import Roster
from interval_scheduler.worker.run import Run
from interval_scheduler.worker.settler import Settler
from tests.integration.conftest import Make, storage
from tests.servers import RedisServer
from tests.tasks import Job, Recorder, Uniform, after, eventually, is_empty


async def state_of(scheduler: Uniform, task_id: str) -> str | None:
    task = await scheduler.peek_task(task_id)
    return None if task is None else task.state


class TestOneAtATime:
    async def test_assigning_during_a_run_of_a_one_off_schedules_it_again(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=True, seconds=0.2)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", payload="old"))
        await eventually(lambda: recorder.calls)
        assert await scheduler.assign_task(Job("a", payload="new")) is False
        await eventually(lambda: len(recorder.calls) == 2)
        await eventually(lambda: is_empty(scheduler))
        assert recorder.payloads == ["old", "new"]
        assert recorder.calls[1].started - recorder.calls[0].started >= 0.2

    async def test_assigning_a_recurring_task_again_during_its_run_adds_no_run(self, scheduler: Uniform) -> None:
        """docket#331: a run that was superseded overwrote its successor's schedule."""
        recorder = Recorder(coroutine=True, seconds=0.2)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", None, 60))
        await eventually(lambda: recorder.calls)
        first = recorder.calls[0].due
        assert await scheduler.assign_task(Job("a", None, 30)) is False
        await eventually(lambda: _waits(scheduler, "a"))
        assert (await scheduler.peek_task("a")).due.timestamp() == first + 30
        assert len(recorder.calls) == 1

    async def test_run_now_on_a_running_task_follows_the_run(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=True, seconds=0.2)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", None, 60))
        await eventually(lambda: recorder.calls)
        grid = recorder.calls[0].due + 60
        assert await scheduler.run_task_now("a") is True
        await eventually(lambda: len(recorder.calls) == 2)
        await eventually(lambda: _waits(scheduler, "a"))
        assert (await scheduler.peek_task("a")).due.timestamp() == grid
        assert recorder.calls[1].started >= recorder.calls[0].started + 0.2

    async def test_run_now_and_reschedule_never_move_the_grid(self, scheduler: Uniform, recorder: Recorder) -> None:
        """hydroserver#445: a manual run shifts the grid."""
        first = round(after(3600), 3)
        await scheduler.assign_task(Job("a", first, 60))
        await scheduler.start_task_execute(recorder.handler)
        assert await scheduler.run_task_now("a") is True
        await eventually(lambda: recorder.calls)
        await eventually(lambda: _waits(scheduler, "a"))
        assert (await scheduler.peek_task("a")).due.timestamp() == first
        assert await scheduler.reschedule_task("a", delay=0.1) is True
        await eventually(lambda: len(recorder.calls) == 2)
        await eventually(lambda: _waits(scheduler, "a"))
        assert (await scheduler.peek_task("a")).due.timestamp() == first + 60


async def _waits(scheduler: Uniform, task_id: str) -> bool:
    task = await scheduler.peek_task(task_id)
    return task is not None and task.state == "scheduled" and task.time_left > 1


class TestLeases:
    async def test_a_handler_that_blocks_the_loop_keeps_its_lease(self, make: Make) -> None:
        """apscheduler#864, #1116: the event loop was busy, the lease lapsed."""
        first, second = make(lease_seconds=0.5), make(lease_seconds=0.5)
        await first.start_task_accept()
        blocked, idle = [], Recorder(coroutine=True)
        loop_free = threading.Event()

        async def block(_payload: Any) -> None:
            blocked.append(current_execution().fencing_token)
            if first.blocking:
                time.sleep(1.6)  # blocks the scheduler's own loop on purpose
            else:
                # Blocks this handler's loop as little as the suite allows, in steps shorter than its own waits.
                for _ in range(4):
                    time.sleep(0.4)  # on purpose, too
            loop_free.set()

        await first.start_task_execute(block)
        await first.assign_task(Job("a"))
        await eventually(lambda: blocked)
        await second.start_task_execute(idle.handler)
        await eventually(lambda: loop_free.is_set())
        await eventually(lambda: is_empty(first))
        assert len(blocked) == 1
        assert idle.calls == []

    async def test_a_waiting_task_holds_none(
        self, make: Make, redis_servers: list[RedisServer], namespace: str
    ) -> None:
        """celery#2481, kombu#337: what was due later than the visibility timeout was delivered again."""
        fields = {"lease_seconds": 0.3, "partitions": 1, "storage": storage(redis_servers[:1])}
        workers, recorders = [make(**fields) for _ in range(2)], [Recorder(coroutine=True) for _ in range(2)]
        for worker, recorder in zip(workers, recorders, strict=True):
            await worker.start_task_accept()
            await worker.start_task_execute(recorder.handler)
        due = round(after(1.2), 3)  # four leases
        await workers[0].assign_task(Job("a", due))
        with redis.Redis.from_url(redis_servers[0].url) as client:
            while time.time() < due - 0.1:
                assert client.zcard(f"{{{namespace}:0}}:leases") == 0
                await asyncio.sleep(0.05)  # between two looks
        await eventually(lambda: is_empty(workers[0]))
        [call] = [call for recorder in recorders for call in recorder.calls]
        assert (call.due, call.attempt) == (due, 1)
        assert call.started >= due

    async def test_a_removed_task_tells_its_run(self, make: Make) -> None:
        scheduler = make(lease_seconds=0.6)
        await scheduler.start_task_accept()
        lost: list[str] = []
        begun, told = threading.Event(), threading.Event()
        scheduler.on("lease-lost", lambda event: lost.append(event.details["id"]))

        async def wait(_payload: Any) -> None:
            begun.set()
            try:
                await asyncio.sleep(30)  # until it is cancelled
            except asyncio.CancelledError:
                told.set()
                raise

        await scheduler.start_task_execute(wait)
        await scheduler.assign_task(Job("a"))
        await eventually(begun.is_set)
        await scheduler.remove_task("a")
        await eventually(told.is_set)
        await eventually(lambda: lost == ["a"])

    async def test_a_thread_can_ask_and_extend(self, make: Make) -> None:
        scheduler = make(lease_seconds=0.6)
        await scheduler.start_task_accept()
        answers: list[Any] = []
        removed = threading.Event()

        def handler(_payload: Any) -> None:
            execution = current_execution()
            before = execution.lease_deadline
            execution.extend(10)
            answers.append(execution.lease_deadline > before)
            answers.append("extended")
            removed.wait(10)
            try:
                execution.extend()
            except LeaseLost as error:
                answers.append(error)
            answers.append(execution.lease_lost)

        await scheduler.start_task_execute(handler)
        await scheduler.assign_task(Job("a"))
        await eventually(lambda: len(answers) == 2)
        await scheduler.remove_task("a")
        removed.set()
        await eventually(lambda: len(answers) == 4)
        assert answers[0] is True
        assert "lost its lease" in str(answers[2])
        assert answers[3] is True


async def _is(scheduler: Uniform, task_id: str, state: str) -> bool:
    return await state_of(scheduler, task_id) == state


class TestFailures:
    async def test_backoff_then_dead_letter_then_another_chance(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=True, fail=3)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", retry=Retry(max_retries=2, backoff=0.05, factor=2, jitter=0)))
        dead = await eventually(scheduler.dead_tasks)
        assert (dead[0].id, dead[0].error, dead[0].count) == ("a", "RuntimeError: asked to fail", 1)
        starts = [call.started for call in recorder.calls]
        assert starts[1] - starts[0] >= 0.05
        assert starts[2] - starts[1] >= 0.1
        assert await scheduler.retry_dead_tasks() == 1
        await eventually(lambda: len(recorder.calls) == 4)
        assert recorder.calls[3].attempt == 1
        await eventually(lambda: is_empty(scheduler))
        assert await scheduler.dead_tasks() == []

    async def test_a_recurring_task_goes_on_after_a_dead_occurrence(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=True, fail=2)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a", None, 0.1))
        await eventually(lambda: len(recorder.calls) >= 4)
        [dead] = await scheduler.dead_tasks()
        assert (dead.count, dead.last > dead.first) == (2, True)
        assert await scheduler.purge_dead_tasks() == 1
        assert await scheduler.dead_tasks() == []

    async def test_a_coroutine_past_its_timeout_is_cancelled(self, scheduler: Uniform) -> None:
        ran: list[str] = []

        async def hang(payload: str) -> None:
            ran.append(payload)
            if payload == "hangs":
                await asyncio.sleep(30)  # until it is cancelled

        await scheduler.start_task_execute(hang)
        await scheduler.assign_task(Job("hangs", timeout=0.1))
        [dead] = await eventually(scheduler.dead_tasks)
        assert "timeout of 0.1 s" in dead.error
        await scheduler.assign_task(Job("next"))
        await eventually(lambda: ran == ["hangs", "next"])

    async def test_a_coroutine_that_cancels_itself_and_returns_hurts_no_other_run(self, make: Make) -> None:
        scheduler = make(partitions=1, concurrency=5)
        await scheduler.start_task_accept()
        ran: list[str] = []

        async def handler(payload: str) -> None:
            if payload == "cancels":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                return
            await asyncio.sleep(0)  # where a cancellation would arrive
            ran.append(payload)

        names = ["cancels", "a", "b", "c", "d"]
        await scheduler.assign_tasks(Job(name, after(number - 10)) for number, name in enumerate(names))
        await scheduler.start_task_execute(handler)
        await eventually(lambda: is_empty(scheduler))
        assert ran == names[1:]
        assert await scheduler.dead_tasks() == []

    async def test_a_plain_function_that_returns_a_coroutine_is_run_to_its_end(self, scheduler: Uniform) -> None:
        """As some decorators make of a coroutine function: its end, and its failure, are those of the run."""
        ended: list[str] = []

        async def work(payload: str) -> None:
            await asyncio.sleep(0.01)
            if payload == "fails":
                raise ValueError("at the end")
            ended.append(payload)

        await scheduler.start_task_execute(lambda payload: work(payload))
        await scheduler.assign_tasks([Job("works"), Job("fails")])
        [dead] = await eventually(scheduler.dead_tasks)
        assert (dead.id, "at the end" in dead.error) == ("fails", True)
        await eventually(lambda: is_empty(scheduler))
        assert ended == ["works"]

    async def test_a_thread_past_its_timeout_counts_as_failed(self, scheduler: Uniform) -> None:
        recorder = Recorder(coroutine=False, seconds=0.2)
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("slow", timeout=0.05))
        [dead] = await eventually(scheduler.dead_tasks)
        assert "timeout of 0.05 s" in dead.error


class TestBacklog:
    async def test_claiming_goes_on_as_soon_as_ended_runs_are_reported(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It pauses while too many wait for that. Whoever is to wake it must not be the last run that ended."""
        gate = threading.Event()
        settle = Settler._settle

        async def late(self: Settler, batch: list[Run]) -> list[Run]:
            await asyncio.to_thread(gate.wait, 20)  # as where the answers take their time
            return await settle(self, batch)

        monkeypatch.setattr(Settler, "_settle", late)
        scheduler = make(concurrency=1, lease_seconds=120, check_tasks_every_seconds=60)
        await scheduler.start_task_accept()
        await scheduler.assign_tasks(Job(f"a{n}") for n in range(1500))
        recorder = Recorder(coroutine=True)
        await scheduler.start_task_execute(recorder.handler)
        worker = scheduler.real._engine.worker
        assert worker is not None
        await eventually(lambda: worker.slots.unsettled >= 1004 and not worker.slots.occupied)
        assert len(recorder.calls) < 1500
        gate.set()
        await eventually(lambda: len(recorder.calls) == 1500)
        await eventually(lambda: is_empty(scheduler))


class TestShutdown:
    @pytest.mark.parametrize("swallows", [False, True])
    def test_a_program_that_dies_during_a_run_ends(self, server: RedisServer, swallows: bool) -> None:
        """``asyncio.run`` cancels every task and waits for all of them, also where nobody closed the scheduler."""
        program = f"""
            import asyncio
            from interval_scheduler import AsyncScheduler
            from tests.tasks import Job

            async def main():
                scheduler = AsyncScheduler({server.url!r})
                await scheduler.start_task_accept()
                begun = asyncio.Event()

                async def handler(payload):
                    begun.set()
                    try:
                        await asyncio.sleep(3600)  # until it is cancelled
                    except asyncio.CancelledError:
                        if not {swallows}:
                            raise

                await scheduler.start_task_execute(handler)
                await scheduler.assign_task(Job("a"))
                await begun.wait()
                raise SystemExit("died")

            asyncio.run(main())
        """
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30
        )
        assert ended.stderr.endswith("died\n"), ended.stderr
        assert ended.returncode == 1

    def test_a_loop_that_ends_during_runs_costs_them_no_attempt(
        self, server: RedisServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """In the same way, many times: whether the end of a run still gets reported then is a race."""

        async def die(scheduler: AsyncScheduler) -> None:
            await scheduler.start_task_accept()
            begun = asyncio.Event()

            async def handler(_payload: Any) -> None:
                begun.set()
                await asyncio.sleep(3600)  # until it is cancelled

            await scheduler.start_task_execute(handler)
            await scheduler.assign_task(Job("a"))
            await begun.wait()
            raise InterruptedError

        for number in range(20):
            options = {"storage": storage([server]), "namespace": f"loop{number}"}
            with pytest.raises(InterruptedError):
                asyncio.run(die(AsyncScheduler(options)))
            with Scheduler(options) as scheduler:
                task = scheduler.peek_task("a")
            assert task is not None
            assert (task.attempt, task.last_error) == (1, None)
        assert "a handler failed" not in capfd.readouterr().err

    async def test_a_handler_that_cancels_itself_fails(self, scheduler: Uniform) -> None:
        """It would run again and again if that were taken for a shutdown."""

        async def handler(_payload: Any) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(3600)  # until it is cancelled

        await scheduler.start_task_execute(handler)
        await scheduler.assign_task(Job("a"))
        await eventually(lambda: _is(scheduler, "a", "dead"))
        assert (await scheduler.peek_task("a")).last_error == "cancelled"

    async def test_waits_for_what_runs_and_releases_the_rest_uncounted(self, make: Make) -> None:
        """asynq#1015: a deploy burns an attempt."""
        scheduler = make(concurrency=2)
        await scheduler.start_task_accept()
        slow = Recorder(coroutine=True, seconds=0.3)
        await scheduler.start_task_execute(slow.handler)
        await scheduler.assign_tasks(Job(f"a{n}") for n in range(10))
        await eventually(lambda: len(slow.calls) == 2)
        await scheduler.stop_task_execute()
        finished = len(slow.calls)
        assert await scheduler.task_size() == 10 - finished
        assert [task.attempt for task in await scheduler.upcoming()] == [1] * (10 - finished)
        quick = Recorder(coroutine=True)
        await scheduler.start_task_execute(quick.handler)
        await eventually(lambda: is_empty(scheduler))
        assert {call.attempt for call in quick.calls} == {1}
        assert len(slow.calls) + len(quick.calls) == 10

    async def test_grace_bounds_the_wait(self, scheduler: Uniform) -> None:
        begun, gate = threading.Event(), threading.Event()

        def handler(_payload: Any) -> None:
            begun.set()
            gate.wait(20)

        await scheduler.start_task_execute(handler)
        await scheduler.assign_task(Job("a"))
        await eventually(begun.is_set)  # what was claimed and has not begun would be given back
        begin = time.monotonic()
        await scheduler.stop_task_execute(grace=0.2)
        assert time.monotonic() - begin < 10
        assert await state_of(scheduler, "a") == "running"
        gate.set()
        await eventually(lambda: is_empty(scheduler))

    @pytest.mark.parametrize("method", ["stop_task_execute", "close"])
    async def test_a_handler_that_stops_what_is_being_stopped_is_refused(self, scheduler: Uniform, method: str) -> None:
        """Both would wait for the handler, and it for them."""
        begun, gate, opened = threading.Event(), threading.Event(), asyncio.Event()
        errors: list[SchedulerError] = []

        async def coroutine(_payload: Any) -> None:
            begun.set()
            await opened.wait()
            try:
                await getattr(scheduler, method)()
            except SchedulerError as error:
                errors.append(error)

        def plain(_payload: Any) -> None:
            begun.set()
            gate.wait(20)
            try:
                getattr(scheduler.real, method)()
            except SchedulerError as error:
                errors.append(error)

        await scheduler.start_task_execute(plain if scheduler.blocking else coroutine)
        await scheduler.assign_task(Job("a"))
        await eventually(begun.is_set)  # what was claimed and has not begun would be given back
        stopping = asyncio.create_task(scheduler.stop_task_execute())
        await eventually(lambda: not scheduler.executing_tasks)
        gate.set()
        opened.set()
        await asyncio.wait_for(stopping, 10)
        assert len(errors) == 1
        assert "wait for that very handler" in str(errors[0])

    async def test_several_may_close_at_once(self, make: Make, recorder: Recorder) -> None:
        scheduler = make()
        await scheduler.start_task_accept()
        recorder.seconds = 0.2
        await scheduler.start_task_execute(recorder.handler)
        await scheduler.assign_task(Job("a"))
        await eventually(lambda: recorder.calls)
        await asyncio.wait_for(asyncio.gather(*(scheduler.close() for _ in range(3))), 10)


def worker_process(servers: list[RedisServer], namespace: str, log: Path, body: str, **fields: Any) -> Any:
    """A worker as a process, whose handler appends what it runs to a file and then does `body`."""
    options = {"namespace": namespace, "storage": storage(servers), **fields}
    script = f"""
        import logging, os, signal, time
        from interval_scheduler import Scheduler, current_execution
        def handler(payload):
            execution = current_execution()
            with open({str(log)!r}, "a") as out:
                out.write(f"{{execution.id}} {{execution.attempt}} {{execution.fencing_token}}\\n")
            {body}
        scheduler = Scheduler({options!r}, logging.getLogger())  # which leaves stdout alone
        scheduler.start_task_execute(handler)
        print("ready", flush=True)
        scheduler.wait()
        scheduler.close()
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, cwd=os.getcwd(), text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    return process


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


class TestKilledWorkers:
    async def test_what_a_killed_worker_ran_is_run_again_after_its_lease(
        self, make: Make, redis_servers: list[RedisServer], namespace: str, tmp_path: Path
    ) -> None:
        """sidekiq#843: pop, then die."""
        scheduler = make(lease_seconds=1)
        await scheduler.start_task_accept()
        log = tmp_path / "log"
        process = worker_process(redis_servers, namespace, log, "time.sleep(60)", lease_seconds=1)  # never ends
        await scheduler.assign_tasks(Job(f"a{n}") for n in range(20))
        await eventually(lambda: len(lines(log)) == 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed = time.time()
        recorder = Recorder(coroutine=True)
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: is_empty(scheduler))
        assert sorted(recorder.payloads) == sorted(f"a{n}" for n in range(20))
        tokens = {line.split()[0]: int(line.split()[2]) for line in lines(log)}
        assert all(call.token > tokens[call.id] for call in recorder.calls)
        assert {call.attempt for call in recorder.calls} == {1}, "a crash is no failed attempt"
        assert max(call.started for call in recorder.calls) - killed < 10

    async def test_at_most_once_is_not_repeated_but_kept_with_unknown_outcome(
        self, make: Make, redis_servers: list[RedisServer], namespace: str, tmp_path: Path
    ) -> None:
        scheduler = make(lease_seconds=0.5)
        await scheduler.start_task_accept()
        log = tmp_path / "log"
        process = worker_process(redis_servers, namespace, log, "time.sleep(60)", lease_seconds=0.5)  # never ends
        await scheduler.assign_task(Job("once", delivery="at_most_once"))
        await scheduler.assign_task(Job("often", None, 0.5, delivery="at_most_once"))
        await eventually(lambda: len(lines(log)) == 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
        recorder = Recorder(coroutine=True)
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: _dead_count(scheduler, 2))
        dead = await scheduler.dead_tasks()
        assert {letter.id for letter in dead} == {"once", "often"}
        assert all("outcome unknown" in letter.error for letter in dead)
        await eventually(lambda: recorder.of("often"))
        assert recorder.of("once") == []

    async def test_a_task_that_kills_its_worker_dies_alone(
        self, make: Make, redis_servers: list[RedisServer], namespace: str, tmp_path: Path
    ) -> None:
        scheduler = make(lease_seconds=0.3)
        await scheduler.start_task_accept()
        log = tmp_path / "log"
        await scheduler.assign_tasks(Job(f"innocent{n}") for n in range(40))
        await scheduler.assign_task(Job("killer"))
        # Some work first, so that others are under way when the killer strikes.
        body = "time.sleep(0.02); os.kill(os.getpid(), signal.SIGKILL) if payload == 'killer' else None"  # the work
        for _ in range(12):
            process = worker_process(redis_servers, namespace, log, body, lease_seconds=0.3)
            await _killed_or_done(process, scheduler)
            if process.poll() is None:
                process.terminate()
                process.wait()
                break
            process.wait()
        [dead] = await scheduler.dead_tasks()
        assert dead.id == "killer"
        assert "vanished 5 times" in dead.error
        assert await is_empty(scheduler)
        assert {line.split()[0] for line in lines(log)} == {"killer", *(f"innocent{n}" for n in range(40))}


async def _dead_count(scheduler: Uniform, count: int) -> bool:
    return len(await scheduler.dead_tasks()) == count


async def _killed_or_done(process: Any, scheduler: Uniform) -> None:
    await eventually(lambda: process.poll() is not None or is_empty(scheduler), 20)


class TestLoops:
    """bull#2015: one error broke the chain. Here an error that nobody foresaw comes up in each loop, once."""

    @pytest.mark.parametrize("loop", ["claimer", "settler", "leases", "roster", "monitor"])
    async def test_survive_any_error(self, make: Make, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
        scheduler = make(lease_seconds=1.8, check_tasks_every_seconds=0.5)
        await scheduler.start_task_accept()
        recorder = Recorder(coroutine=True, seconds=4.0 if loop == "leases" else 0.0)
        await scheduler.start_task_execute(recorder.handler)
        engine: Any = scheduler.real._engine
        parts = {
            "claimer": [(each, "_look") for each in engine.worker._claimers.values()],
            "settler": [(each, "_settle") for each in engine.worker._claims.settlers.values()],
            "leases": [(each, "_apply") for each in engine.worker._keepers.values()],
            "roster": [(engine.worker._roster, "_learn")],
            "monitor": [(each, "disconnect") for each in engine._monitor._listeners.values()],
        }[loop]
        faults = [fails_once(monkeypatch, part, name, late=loop == "monitor") for part, name in parts]
        if loop == "monitor":
            await drop_listeners(engine._monitor)
        await scheduler.assign_tasks(Job(f"a{number}") for number in range(12))
        if loop == "monitor":
            await eventually(lambda: all(calls() for calls in faults))
            await eventually(lambda: all(each._pubsub is not None for each, _ in parts))
        else:
            await eventually(lambda: all(calls() >= 2 for calls in faults), 15)
        await eventually(lambda: is_empty(scheduler))
        assert sorted(recorder.payloads) == sorted(f"a{number}" for number in range(12)), "each of them once"


def fails_once(monkeypatch: pytest.MonkeyPatch, part: Any, name: str, late: bool) -> Callable[[], int]:
    """Makes the first call of a method fail as a bug would, before or after its work; says how often it was called."""
    method = getattr(part, name)
    calls = 0

    def call(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            return fail_late() if late else fail()
        return method(*arguments)

    def fail() -> None:
        raise ZeroDivisionError("not foreseen")

    async def fail_late() -> None:
        await method()
        fail()

    monkeypatch.setattr(part, name, call)
    return lambda: calls


async def drop_listeners(monitor: Any) -> None:
    """Takes the listening connections away, as a reset does."""
    for listener in monitor._listeners.values():
        connection = await eventually(partial(connection_of, listener))
        monitor._tasks[0].get_loop().call_soon_threadsafe(connection._writer.transport.abort)


def connection_of(listener: Any) -> Any:
    """What a listener listens on, once it does."""
    connection = listener._pubsub and listener._pubsub.connection
    return connection if connection is not None and connection.is_connected else None


class TestUnknownRecords:
    @pytest.mark.parametrize("what", ["form", "option"])
    async def test_are_put_back_for_a_worker_that_knows_them(
        self, make: Make, redis_servers: list[RedisServer], namespace: str, what: str
    ) -> None:
        """docket#437: in a rolling deploy an old worker swallowed what it did not know."""
        scheduler = make(lease_seconds=0.3, storage=storage(redis_servers[:1]), partitions=1)
        await scheduler.start_task_accept()
        await scheduler.assign_task(Job("new", after(0.3)))
        met: list[str] = []
        scheduler.on("error", lambda event: met.append(event.details["where"]))
        key = f"{{{namespace}:0}}:tasks"
        with redis.Redis.from_url(redis_servers[0].url) as client:
            head, body = split_record(client.hget(key, "new"))
            fields = msgpack.unpackb(body)
            fields += [None] * (3 - len(fields))
            newer = [*fields, None, "?"] if what == "form" else [*fields[:2], {**(fields[2] or {}), "?": 1}]
            client.hset(key, "new", head + b"\n" + msgpack.packb(newer))
            recorder = Recorder(coroutine=True)
            await scheduler.start_task_execute(recorder.handler)
            # Long enough for its lease to lapse oftener than a task may whose workers vanish.
            await eventually(lambda: met.count("new") >= 2)
            await eventually(lambda: client.zcard(f"{{{namespace}:0}}:retries"))
            head, unchanged = split_record(client.hget(key, "new"))
            assert msgpack.unpackb(unchanged) == newer
            header = parse_header(head)
            assert (header.strikes, header.attempt) == (0, 0), "it was not its fault"
            client.hset(key, "new", head + b"\n" + body)
        await eventually(lambda: recorder.calls)
        await eventually(lambda: is_empty(scheduler))
        assert [(call.payload, call.attempt) for call in recorder.calls] == [("new", 1)]
        assert await scheduler.dead_tasks() == []


class TestCron:
    async def test_runs_at_its_matches(self, scheduler: Uniform, recorder: Recorder) -> None:
        await scheduler.assign_task(Job("a", None, Cron("* * * * * *", tz="Europe/Paris")))
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: len(recorder.calls) >= 3)
        dues = [call.due for call in recorder.calls]
        assert all(due == int(due) for due in dues)
        assert [later - earlier for earlier, later in itertools.pairwise(dues)] == [1.0] * (len(dues) - 1)
        assert (await scheduler.peek_task("a")).interval == Cron("* * * * * *", tz="Europe/Paris")


class TestJitter:
    async def test_is_stable_and_within_bounds(self, scheduler: Uniform) -> None:
        slot = 4_000_000_000
        await scheduler.assign_tasks(Job(f"a{n}", slot, 60, jitter=10) for n in range(100))
        first = {task.id: task.due.timestamp() - slot for task in await scheduler.upcoming()}
        assert all(0 <= late <= 10 for late in first.values())
        assert len(set(first.values())) > 50
        await scheduler.clear_all_tasks()
        await scheduler.assign_tasks(Job(f"a{n}", slot + 60, 60, jitter=10) for n in range(100))
        assert {task.id: task.due.timestamp() - slot - 60 for task in await scheduler.upcoming()} == first


class TestLook:
    async def test_a_task_without_a_hint_is_found_by_the_regular_look(
        self, make: Make, redis_servers: list[RedisServer], namespace: str, recorder: Recorder
    ) -> None:
        scheduler = make(partitions=1, check_tasks_every_seconds=0.3)
        await scheduler.start_task_accept()
        await scheduler.start_task_execute(recorder.handler)
        [partition] = (await scheduler.stats()).partitions
        server = redis_servers[int(partition.instance.removeprefix("redis-"))]
        with redis.Redis.from_url(server.url) as client, client.pubsub() as hints:
            hints.psubscribe(f"*{namespace}*hint")
            hints.get_message(timeout=5)
            # What follows the start of a worker, such as the look when its subscriptions are heard, comes before.
            await scheduler.assign_task(Job("first"))
            await eventually(lambda: recorder.payloads == ["first"])
            await eventually(lambda: hints.get_message(timeout=0.2) is None)
            # As if somebody had been told to wake at this time, and had died since.
            client.hset(keys.meta(namespace, 0), "alarm", int(time.time() * 1000))
            await scheduler.assign_task(Job("second"))
            # Sooner than the look that follows the first report of the worker, after 3 s.
            await eventually(lambda: recorder.payloads == ["first", "second"], timeout=2)
            assert hints.get_message(timeout=0.1) is None


class TestConcurrency:
    async def test_a_change_can_be_read_at_once_even_while_the_loop_is_busy(self, make: Make) -> None:
        scheduler = make(concurrency=3)
        await scheduler.start_task_accept()
        changed = threading.Event()

        async def handler(_payload: Any) -> None:
            if scheduler.blocking:
                changed.wait(5)  # blocks the scheduler's own loop on purpose

        await scheduler.start_task_execute(handler)
        await scheduler.assign_task(Job("a"))
        await eventually(lambda: state_is_running(scheduler))
        await scheduler.set_concurrency(12)
        assert scheduler.concurrency == 12
        changed.set()
        await eventually(lambda: is_empty(scheduler))


async def state_is_running(scheduler: Uniform) -> bool:
    return await state_of(scheduler, "a") in ("running", None)


class TestRoster:
    async def test_workers_hear_of_each_other_at_once(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """Until all know of all, the first in line may take itself for the third, and wake a second late."""
        monkeypatch.setattr("interval_scheduler.worker.roster.BEAT_SECONDS", 1000.0)
        workers = [make() for _ in range(4)]
        for worker in workers:
            await worker.start_task_execute(Recorder(coroutine=True).handler)
        await eventually(lambda: [_ranks(worker) for worker in workers] == [{0, 1, 2, 3}] * 4)
        # Every partition has one that wakes first.
        rosters = [_roster(worker) for worker in workers]
        assert all(sorted(roster.rank(partition) for roster in rosters) == [0, 1, 2, 3] for partition in range(64))
        await workers[0].stop_task_execute()
        await eventually(lambda: [_ranks(worker) for worker in workers[1:]] == [{0, 1, 2}] * 3)


def _roster(scheduler: Uniform) -> Roster:
    worker = scheduler.real._engine.worker
    assert worker is not None
    return worker._roster


def _ranks(scheduler: Uniform) -> set[int]:
    return {_roster(scheduler).rank(partition) for partition in range(64)}
