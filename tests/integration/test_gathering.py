"""Single assignments made in one turn of the event loop travel together, and each hears of its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any
from unittest import mock

import pytest
import redis
from starlette.background import BackgroundTask

from interval_scheduler import (
    AssignFailed,
    AssignResult,
    AsyncScheduler,
    InvalidTask,
    NotAcceptingTasks,
    PartitionUnavailable,
    Scheduler,
)
from tests.integration.conftest import storage
from tests.proxy import Proxy
from tests.servers import RedisServer
from tests.tasks import Job, after, eventually
from tests.waiting import comes_true


def calls(servers: list[RedisServer]) -> int:
    """How many scripts the servers were asked to run."""
    total = 0
    for server in servers:
        with redis.Redis.from_url(server.url) as client:
            stats: Any = client.info("commandstats")
            total += stats.get("cmdstat_evalsha", {"calls": 0})["calls"]
    return total


async def _quiet(scheduler: AsyncScheduler) -> None:
    """Waits until the server knows the script, and nothing is under way."""
    for number in range(2):
        await scheduler.assign_task(Job(f"warm {number}", after(3600)))


async def test_assignments_of_one_turn_are_one_call_a_partition(
    redis_servers: list[RedisServer], namespace: str
) -> None:
    async with AsyncScheduler(storage=storage(redis_servers), namespace=namespace, partitions=8) as scheduler:
        await scheduler.start_task_accept()
        warm = [Job(f"warm {number}", after(3600)) for number in range(100)]
        await asyncio.gather(*map(scheduler.assign_task, warm))  # now every server knows the script
        before = calls(redis_servers)
        new = await asyncio.gather(*(scheduler.assign_task(Job(f"{n}", after(3600))) for n in range(1000)))
        assert new == [True] * 1000
        assert calls(redis_servers) - before == 8
        assert await scheduler.task_size() == 1100
        again = await asyncio.gather(*(scheduler.assign_task(Job(f"{n}", payload="newer")) for n in range(990, 1010)))
        assert again == [False] * 10 + [True] * 10
        task = await scheduler.peek_task("999")
        assert task is not None
        assert task.payload == "newer"
        await scheduler.clear_all_tasks()


async def test_the_same_id_several_times_is_new_once_and_the_last_one_counts(
    redis_servers: list[RedisServer], namespace: str
) -> None:
    async with AsyncScheduler(storage=storage(redis_servers), namespace=namespace) as scheduler:
        await scheduler.start_task_accept()
        jobs = [Job("one", after(3600), payload=number) for number in range(50)]
        assert await asyncio.gather(*map(scheduler.assign_task, jobs)) == [True] + [False] * 49
        task = await scheduler.peek_task("one")
        assert task is not None
        assert task.payload == 49
        await scheduler.clear_all_tasks()


async def test_a_refused_task_and_a_cancelled_caller_concern_nobody_else(
    redis_servers: list[RedisServer], namespace: str
) -> None:
    async with AsyncScheduler(storage=storage(redis_servers), namespace=namespace, partitions=3) as scheduler:
        await scheduler.start_task_accept()
        tasks = [asyncio.create_task(scheduler.assign_task(Job(name, after(3600)))) for name in ("a", "", "b", "c")]
        await asyncio.sleep(0)  # now they wait to be sent together
        tasks[2].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] is results[3] is True
        assert isinstance(results[1], InvalidTask)
        assert isinstance(results[2], asyncio.CancelledError)
        await scheduler.clear_all_tasks()


async def test_everybody_hears_that_an_instance_is_down(own_servers: list[RedisServer]) -> None:
    async with AsyncScheduler(storage=storage(own_servers), partitions=3) as scheduler:
        await scheduler.start_task_accept()
        own_servers[1].kill()
        jobs = [Job(f"{number}", after(3600)) for number in range(90)]
        results = await asyncio.gather(*map(scheduler.assign_task, jobs), return_exceptions=True)
        failed = [result for result in results if isinstance(result, PartitionUnavailable)]
        assert {error.instance for error in failed} == {"redis-1"}
        assert results.count(True) == 90 - len(failed)
        assert 10 < len(failed) < 50


@pytest.mark.parametrize("known", [True, False])
async def test_what_follows_an_assignment_in_the_same_turn_does_not_overtake_it(
    server: RedisServer, admin: Any, known: bool
) -> None:
    """Nor where the server does not know the script of the assignment, but that of what follows."""
    async with AsyncScheduler(server.url, namespace="alone") as scheduler:
        await scheduler.start_task_accept()
        if known:
            await scheduler.assign_task(Job("warm", after(3600)))
        await scheduler.remove_task("warm")
        await scheduler.reschedule_task("nothing", delay=1)
        gone = [f"gone {number}" for number in range(20)]
        calls = [call for name in gone for call in (scheduler.assign_task(Job(name)), scheduler.remove_task(name))]
        assert await asyncio.gather(*calls) == [True] * 40
        assert await scheduler.task_size() == 0
        moved = (scheduler.assign_task(Job("moved", after(9))), scheduler.reschedule_task("moved", delay=3600))
        assert [*await asyncio.gather(*moved)] == [True, True]
        task = await scheduler.peek_task("moved")
        assert task is not None
        assert task.time_left > 3000
        several = (scheduler.assign_task(Job("both", payload="old")), scheduler.assign_tasks([Job("both")]))
        assert [*await asyncio.gather(*several)] == [True, AssignResult(0, 1)]


async def test_assignments_under_way_when_the_scheduler_is_closed_fail_and_say_so(server: RedisServer) -> None:
    """A cancellation that nobody asked for would be dropped in silence by a group of tasks."""
    scheduler = AsyncScheduler(server.url, namespace="alone")
    await scheduler.start_task_accept()
    await scheduler.assign_task(Job("warm", after(3600)))
    server.pause()
    sent = asyncio.create_task(scheduler.assign_task(Job("sent", after(3600))))
    await asyncio.sleep(0.1)  # no event tells that it has been written to the socket
    waiting = asyncio.create_task(scheduler.assign_task(Job("waiting", after(3600))))
    for _ in range(2):
        await asyncio.sleep(0)  # the turns of the loop after which it waits behind what was sent
    closing = asyncio.create_task(scheduler.close())
    errors = await asyncio.gather(sent, waiting, return_exceptions=True)
    await closing
    server.resume()
    assert all(isinstance(error, PartitionUnavailable) for error in errors), errors
    assert [error.unknown_outcome for error in errors if isinstance(error, PartitionUnavailable)] == [True, False]


async def test_a_single_assignment_leaves_at_once(server: RedisServer) -> None:
    """Not only when its turn of the loop ends: nothing else is under way that it could travel with."""
    async with AsyncScheduler(server.url, namespace="alone") as scheduler:
        await scheduler.start_task_accept()
        await _quiet(scheduler)
        leaving = scheduler.assign_task(Job("single", after(3600)))
        # It blocks this turn, on purpose.
        with (
            pytest.warns(RuntimeWarning, match="on an event loop"),
            Scheduler(server.url, namespace="alone") as other,
        ):
            assert comes_true(lambda: other.is_scheduled("single"), 5)
        assert await leaving


async def test_assignments_of_one_turn_follow_the_first_one_that_left_alone_together(server: RedisServer) -> None:
    async with AsyncScheduler(server.url, namespace="alone", partitions=1) as scheduler:
        await scheduler.start_task_accept()
        await _quiet(scheduler)
        before = calls([server])
        new = await asyncio.gather(*(scheduler.assign_task(Job(f"{n}", after(3600))) for n in range(50)))
        assert new == [True] * 50
        assert calls([server]) - before == 2


async def test_calls_keep_their_order_where_the_server_forgot_some_scripts(server: RedisServer, admin: Any) -> None:
    """A call whose script is missing is repeated: what was called after it must not have been carried out by then."""
    async with AsyncScheduler(server.url, namespace="alone") as scheduler:
        await scheduler.start_task_accept()
        await _quiet(scheduler)
        await scheduler.remove_task("warm 0")
        await scheduler.assign_task(Job("other", after(3600), payload="old"))
        admin.script_flush()
        await scheduler.assign_task(Job("brings the script of assign_task back", after(3600)))

        async def remove() -> bool:
            return await scheduler.remove_task("other")

        async def assign() -> bool:
            return await scheduler.assign_task(Job("other", after(3600), payload="new"))

        removed, created = await asyncio.gather(remove(), assign())
        assert removed
        assert created
        task = await scheduler.peek_task("other")
        assert task is not None
        assert task.payload == "new"


async def test_a_stream_that_outlives_the_scheduler_opens_no_new_connection(server: RedisServer, admin: Any) -> None:
    scheduler = AsyncScheduler(server.url, namespace="alone")
    await scheduler.start_task_accept()
    stream = asyncio.create_task(scheduler.assign_tasks(Job(f"{number}", after(3600)) for number in range(60_000)))
    await eventually(lambda: admin.exists("{alone:0}:tasks"))
    await scheduler.close()
    with pytest.raises(AssignFailed):
        await stream
    await eventually(lambda: len(admin.client_list(_type="normal")) == 1)


@pytest.mark.parametrize("turns", range(6))
async def test_who_cancels_all_tasks_of_a_loop_may_go_on_to_call(server: RedisServer, turns: int) -> None:
    """As at the end of a program. No call waits for ever, and none gets the reply to one that was cancelled."""
    async with AsyncScheduler(server.url, namespace="alone") as scheduler:
        await scheduler.start_task_accept()
        await scheduler.assign_tasks(Job(f"{number}", after(3600)) for number in range(20))
        before = asyncio.all_tasks()
        cancelled = [asyncio.create_task(scheduler.peek_task(f"{number}")) for number in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        kept = asyncio.create_task(scheduler.peek_task("0"))
        for task in asyncio.all_tasks() - before - {kept}:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*cancelled, kept, return_exceptions=True), 10)
        for number in range(20):
            found = await asyncio.wait_for(scheduler.peek_task(f"{number}"), 10)
            assert found is not None
            assert found.id == f"{number}"


class TestWhatAssignTaskGives:
    """A future that is a coroutine too: it goes wherever either of them goes."""

    async def test_it_goes_wherever_a_coroutine_goes(self, scheduler: AsyncScheduler) -> None:
        assert await scheduler.assign_task(Job("awaited", after(3600))) is True
        assert await asyncio.create_task(scheduler.assign_task(Job("a task", after(3600)))) is True
        assert await asyncio.wait_for(scheduler.assign_task(Job("waited for", after(3600))), 10) is True
        assert await asyncio.shield(scheduler.assign_task(Job("shielded", after(3600)))) is True
        for completed in asyncio.as_completed([scheduler.assign_task(Job("as completed", after(3600)))]):
            assert await completed is True
        async with asyncio.TaskGroup() as group:
            grouped = [group.create_task(scheduler.assign_task(Job(name, after(3600)))) for name in ("x", "y", "x")]
        assert [one.result() for one in grouped] == [True, True, False]
        loop = asyncio.get_running_loop()

        def elsewhere() -> bool:
            call = scheduler.assign_task(Job("from a thread", after(3600)))
            return asyncio.run_coroutine_threadsafe(call, loop).result(10)

        assert await asyncio.to_thread(elsewhere) is True
        assert await scheduler.task_size() == 8

    async def test_what_is_wrong_is_raised_where_it_is_awaited(self, scheduler: AsyncScheduler) -> None:
        class Exhausted(Job):
            def serialize(self) -> Any:
                return next(iter(()))

        wrong = scheduler.assign_task(Job("", after(3600)))
        with pytest.raises(InvalidTask):
            await wrong
        with pytest.raises(RuntimeError, match="StopIteration"):
            await scheduler.assign_task(Exhausted("x", after(3600)))
        with pytest.raises(InvalidTask):
            await asyncio.create_task(scheduler.assign_task(Job("", after(3600))))
        refused = scheduler.assign_task(Job("late", after(3600)))
        await scheduler.stop_task_accept()
        assert await refused is True, "it was called before"
        with pytest.raises(NotAcceptingTasks):
            await scheduler.assign_task(Job("too late", after(3600)))

    async def test_a_server_that_fails_is_told_to_a_task_as_well(
        self, scheduler: AsyncScheduler, server: RedisServer
    ) -> None:
        server.kill()
        called = asyncio.create_task(scheduler.assign_task(Job("a", after(3600))))
        with pytest.raises(PartitionUnavailable):
            await called

    async def test_a_cancelled_task_does_not_wait(self, scheduler: AsyncScheduler, server: RedisServer) -> None:
        server.pause()
        called = asyncio.create_task(scheduler.assign_task(Job("a", after(3600))))
        await asyncio.sleep(0.05)  # until it is on its way
        called.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(called, 1)
        server.resume()
        assert await scheduler.assign_task(Job("b", after(3600))) is True

    async def test_another_loop_may_make_it_and_give_it_to_this_one(self, scheduler: AsyncScheduler) -> None:
        here = asyncio.get_running_loop()

        async def elsewhere() -> bool:
            call = scheduler.assign_task(Job("from another loop", after(3600)))
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, here))

        assert await asyncio.to_thread(asyncio.run, elsewhere()) is True

    async def test_frameworks_take_it_for_what_a_coroutine_function_gives(self, scheduler: AsyncScheduler) -> None:
        """Those that ask would call a plain function in a thread, and drop what it gives."""
        assert asyncio.iscoroutinefunction(scheduler.assign_task)
        await BackgroundTask(scheduler.assign_task, Job("in the background", after(3600)))()
        assert await scheduler.is_scheduled("in the background")
        double = mock.create_autospec(AsyncScheduler)
        await double.assign_task(Job("nowhere"))

    async def test_a_task_cancelled_before_it_began_asks_for_nothing(
        self, scheduler: AsyncScheduler, server: RedisServer
    ) -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        server.kill()
        called = asyncio.create_task(scheduler.assign_task(Job("a", after(3600))))
        called.cancel()
        with pytest.raises(asyncio.CancelledError):
            await called
        with pytest.raises(PartitionUnavailable):
            await scheduler.assign_task(Job("b", after(3600)))
        del called
        gc.collect()
        assert complaints == []

    @pytest.fixture
    async def scheduler(self, server: RedisServer) -> AsyncIterator[AsyncScheduler]:
        async with AsyncScheduler(server.url, namespace="alone") as made:
            await made.start_task_accept()
            yield made


class TestFlood:
    """So many calls in one turn that the first are sent while the last are still being made."""

    COUNT = 30_000

    def flood(self, scheduler: AsyncScheduler) -> asyncio.Future[list[bool]]:
        return asyncio.gather(*(scheduler.assign_task(Job(f"{n}", after(3600))) for n in range(self.COUNT)))

    async def test_each_call_gets_its_own_answer(self, server: RedisServer) -> None:
        async with AsyncScheduler(server.url, namespace="flood") as scheduler:
            await scheduler.start_task_accept()
            await scheduler.assign_tasks(Job(f"{n}", after(3600)) for n in range(0, self.COUNT, 3))
            assert await self.flood(scheduler) == [n % 3 != 0 for n in range(self.COUNT)]
            assert await scheduler.task_size() == self.COUNT

    @pytest.mark.parametrize("skip", [0, 70, 250])
    async def test_where_the_connection_breaks_under_it_all_is_sent_again(self, server: RedisServer, skip: int) -> None:
        proxy = Proxy(server.port)
        try:
            async with AsyncScheduler(proxy.url, namespace="flood") as scheduler:
                await scheduler.start_task_accept()
                lost = proxy.lose_replies("assign", skip=skip)
                assert await self.flood(scheduler) == [True] * self.COUNT, "a repeat gets the first answer"
                assert lost.lost == 1
                assert await scheduler.task_size() == self.COUNT
        finally:
            proxy.stop()

    async def test_where_scripts_are_forgotten_they_are_brought_again(self, server: RedisServer, admin: Any) -> None:
        async with AsyncScheduler(server.url, namespace="flood") as scheduler:
            await scheduler.start_task_accept()
            await scheduler.assign_tasks(Job(f"before {n}", after(3600)) for n in range(100))
            admin.script_flush()
            assert await self.flood(scheduler) == [True] * self.COUNT

    async def test_where_the_server_is_gone_everybody_hears_of_it(self, server: RedisServer) -> None:
        async with AsyncScheduler(server.url, namespace="flood") as scheduler:
            await scheduler.start_task_accept()
            await scheduler.assign_task(Job("warm", after(3600)))
            server.kill()
            calls = [scheduler.assign_task(Job(f"{n}", after(3600))) for n in range(self.COUNT)]
            told = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
            assert all(isinstance(error, PartitionUnavailable) for error in told)
            server.start()
            assert await self.flood(scheduler) == [True] * self.COUNT
