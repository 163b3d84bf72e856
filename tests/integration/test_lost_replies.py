"""Every call is safe to repeat when its reply was lost: it was carried out, and nobody heard of it.

A proxy loses exactly the reply that a test names. Where one is lost the transport repeats by itself what can be
recognised as a repeat; where the reply to that is lost too, the caller is told that the outcome is unknown and repeats.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from interval_scheduler import AssignFailed, Event, PartitionUnavailable, Retry, Scheduler, current_execution
from tests.integration.conftest import Make
from tests.proxy import Proxy
from tests.servers import RedisServer
from tests.tasks import Job, Recorder, Uniform, after, eventually

LEASE = 1.0
TWICE = 2
"""The reply of a call, and that of its repeat."""


@pytest.fixture
def proxy(redis_servers: list[RedisServer]) -> Iterator[Proxy]:
    made = Proxy(redis_servers[0].port)
    yield made
    made.stop()


@pytest.fixture
async def far(proxy: Proxy, make: Make) -> Uniform:
    """A scheduler on one instance behind the proxy."""
    made = make(storage={"instances": [{"url": proxy.url, "name": "redis-0"}]}, partitions=4, lease_seconds=LEASE)
    await made.start_task_accept()
    return made


async def told_unknown(call: Any) -> None:
    """Awaits a call that must fail, and say that it may have been carried out and that repeating it is safe."""
    with pytest.raises(PartitionUnavailable, match="repeating it is safe") as caught:
        await call
    assert caught.value.unknown_outcome


async def size_is(scheduler: Uniform, size: int) -> bool:
    return await scheduler.task_size() == size  # type: ignore[no-any-return]


class TestProducers:
    async def test_assign_gets_the_first_answer(self, far: Uniform, proxy: Proxy) -> None:
        lost = proxy.lose_replies("assign")
        assert await far.assign_task(Job("a", after(60))) is True
        assert lost.lost == 1
        lost = proxy.lose_replies("assign")
        assert await far.assign_task(Job("a", after(60), payload="new")) is False
        assert lost.lost == 1
        assert [task.payload for task in await far.upcoming()] == ["new"]

    async def test_assign_repeated_by_the_caller_makes_one_task_that_runs_once(
        self, far: Uniform, proxy: Proxy
    ) -> None:
        recorder = Recorder(coroutine=True)
        due = round(after(0.5), 3)
        lost = proxy.lose_replies("assign", TWICE)
        await told_unknown(far.assign_task(Job("a", due)))
        assert lost.lost == TWICE
        assert await far.assign_task(Job("a", due)) is False, "it was carried out the first time"
        await far.start_task_execute(recorder.handler)
        await eventually(lambda: size_is(far, 0))
        assert [call.due for call in recorder.calls] == [due]

    async def test_a_recurring_task_keeps_its_grid(self, far: Uniform, proxy: Proxy) -> None:
        first = round(after(60), 3)
        proxy.lose_replies("assign", TWICE)
        await told_unknown(far.assign_task(Job("a", first, 30)))
        await far.assign_task(Job("a", round(first + 7, 3), 30))
        [task] = await far.upcoming()
        assert task.due.timestamp() == first, "an update leaves the pending time as it is"

    async def test_a_batch_names_what_is_unknown_and_can_be_repeated_whole(self, far: Uniform, proxy: Proxy) -> None:
        jobs = [Job(f"a{number}", after(60)) for number in range(40)]
        lost = proxy.lose_replies("assign", TWICE)
        with pytest.raises(AssignFailed, match="assigning them again is safe") as caught:
            await far.assign_tasks(jobs)
        assert lost.lost == TWICE
        known = caught.value.created + caught.value.updated
        assert caught.value.unknown
        assert known + len(caught.value.unknown) + len(caught.value.not_written) == 40
        again = await far.assign_tasks(jobs)
        assert again.created + again.updated == 40
        assert again.updated >= known
        assert await far.task_size() == 40

    async def test_a_batch_gets_the_first_answer(self, far: Uniform, proxy: Proxy) -> None:
        lost = proxy.lose_replies("assign")
        result = await far.assign_tasks(Job(f"a{number}", after(60)) for number in range(40))
        assert lost.lost == 1
        assert (result.created, result.updated) == (40, 0)

    async def test_remove(self, far: Uniform, proxy: Proxy) -> None:
        await far.assign_tasks([Job("a", after(60)), Job("b", after(60))])
        lost = proxy.lose_replies("remove")
        await far.remove_task("a")
        assert lost.lost == 1
        assert not await far.is_scheduled("a")
        lost = proxy.lose_replies("remove", TWICE)
        await told_unknown(far.remove_task("b"))
        assert lost.lost == TWICE
        assert await far.remove_task("b") is False, "it was removed the first time"
        assert await far.task_size() == 0

    @pytest.mark.parametrize("times", [1, TWICE])
    async def test_reschedule_moves_once(self, far: Uniform, proxy: Proxy, times: int) -> None:
        first = round(after(3600), 3)
        await far.assign_task(Job("a", first, 30))
        lost = proxy.lose_replies("reschedule", times)
        if times == 1:
            assert await far.reschedule_task("a", delay=60) is True
        else:
            await told_unknown(far.reschedule_task("a", delay=60))
            assert await far.reschedule_task("a", delay=60) is True
        assert lost.lost == times
        [task] = await far.upcoming()
        assert 50 < task.time_left <= 60
        assert await far.reschedule_task("a", execute_on=first) is True
        assert (await far.peek_task("a")).due.timestamp() == first

    async def test_reschedule_of_what_is_gone_creates_nothing(self, far: Uniform, proxy: Proxy) -> None:
        lost = proxy.lose_replies("reschedule")
        assert await far.reschedule_task("a", delay=60) is False
        assert lost.lost == 1
        assert await far.task_size() == 0

    @pytest.mark.parametrize("times", [1, TWICE])
    async def test_run_now_runs_once_more_and_leaves_the_grid(self, far: Uniform, proxy: Proxy, times: int) -> None:
        first = round(after(3600), 3)
        recorder = Recorder(coroutine=True)
        await far.assign_task(Job("a", first, 60))
        lost = proxy.lose_replies("run_now", times)
        if times == 1:
            assert await far.run_task_now("a") is True
        else:
            await told_unknown(far.run_task_now("a"))
            assert await far.run_task_now("a") is True
        assert lost.lost == times
        await far.start_task_execute(recorder.handler)
        await eventually(lambda: recorder.calls)
        await eventually(lambda: waits_for(far, "a", first))
        assert len(recorder.calls) == 1

    async def test_run_now_is_recognised_after_its_run(self, far: Uniform, proxy: Proxy) -> None:
        """The worker is quicker than the repeat."""
        first = round(after(3600), 3)
        recorder = Recorder(coroutine=True)
        await far.assign_task(Job("a", first, 60))
        await far.start_task_execute(recorder.handler)
        lost = proxy.lose_replies("run_now")
        assert await far.run_task_now("a") is True
        assert lost.lost == 1
        await eventually(lambda: recorder.calls)
        await eventually(lambda: waits_for(far, "a", first))
        assert len(recorder.calls) == 1

    async def test_a_dead_letter_gets_one_more_chance(self, far: Uniform, proxy: Proxy) -> None:
        recorder = Recorder(coroutine=True, fail=1)
        await far.start_task_execute(recorder.handler)
        await far.assign_task(Job("a"))
        await eventually(far.dead_tasks)
        lost = proxy.lose_replies("revive")
        await told_unknown(far.retry_dead_tasks())
        assert lost.lost == 1
        await far.retry_dead_tasks()
        await eventually(lambda: size_is(far, 0))
        assert len(recorder.calls) == 2

    async def test_a_lock_is_taken_once(self, far: Uniform, proxy: Proxy) -> None:
        lost = proxy.lose_replies("lock")
        lock = await far.try_lock("a")
        assert lost.lost == 1
        assert lock is not None, "the repeat came from the same holder"
        assert await far.try_lock("a") is None
        lost = proxy.lose_replies("lock")
        await told_unknown(far.unlock(lock))
        assert lost.lost == 1
        assert await far.unlock(lock) is False, "it was given back the first time"
        assert await far.try_lock("a") is not None

    async def test_a_silent_connection_is_noticed_within_seconds(self, far: Uniform, proxy: Proxy) -> None:
        """BullMQ#2466, #2543, #4484: a read on a dead connection never returned."""
        lost = proxy.lose_replies("assign", silent=True)
        begin = time.monotonic()
        assert await far.assign_task(Job("a", after(60))) is True
        assert lost.lost == 1
        assert time.monotonic() - begin < 8, "the deadline of an answer is 5 s"


def test_silence_is_noticed_once_for_the_connections_of_all_threads(proxy: Proxy, namespace: str) -> None:
    """BullMQ#2466: six threads had a connection each; whoever calls next does not try them one after another."""
    options = {"storage": {"instances": [{"url": proxy.url, "name": "redis-0"}]}, "namespace": namespace}
    together = threading.Barrier(6)

    def call(scheduler: Scheduler) -> None:
        together.wait(10)
        for _ in range(20):
            scheduler.is_scheduled("a")

    with Scheduler(options) as scheduler, ThreadPoolExecutor(6) as threads:
        scheduler.start_task_accept()
        for done in [threads.submit(call, scheduler) for _ in range(6)]:
            done.result(20)
        proxy.forsake()
        begin = time.monotonic()
        for _ in range(6):
            assert not scheduler.is_scheduled("a")
        assert time.monotonic() - begin < 8.5, "the deadline of an answer is 5 s"


async def waits_for(scheduler: Uniform, task_id: str, due: float) -> bool:
    task = await scheduler.peek_task(task_id)
    return task is not None and task.state == "scheduled" and task.due.timestamp() == due


class TestWorkers:
    @pytest.mark.parametrize("times", [1, 3])
    async def test_settle_ends_a_one_off_once(self, far: Uniform, proxy: Proxy, times: int) -> None:
        told: Counter[str] = count_events(far)
        recorder = Recorder(coroutine=True)
        await far.start_task_execute(recorder.handler)
        lost = proxy.lose_replies("settle", times)
        await far.assign_task(Job("a"))
        # Carried out the first time, so that each repeat finds nothing of the run: it counts as settled all the same.
        await eventually(lambda: told["task-done"])
        assert lost.lost >= 1
        await asyncio.sleep(1.5 * LEASE)  # time enough for a lease to lapse
        assert len(recorder.calls) == 1
        assert told == {"task-done": 1}
        assert await far.task_size() == 0

    async def test_settle_leaves_the_grid_of_a_recurring_task(self, far: Uniform, proxy: Proxy) -> None:
        recorder = Recorder(coroutine=True)
        await far.start_task_execute(recorder.handler)
        lost = proxy.lose_replies("settle", 5)
        first = round(after(0.2), 3)
        await far.assign_task(Job("a", first, 0.2, misfire="all"))
        await eventually(lambda: lost.lost == 5 and len(recorder.calls) >= 12)
        dues = [round((call.due - first) / 0.2, 3) for call in recorder.calls]
        assert dues == [float(number) for number in range(len(dues))], "each occurrence once, in order"

    async def test_settle_counts_a_failure_once(self, far: Uniform, proxy: Proxy) -> None:
        recorder = Recorder(coroutine=True, fail=3)
        await far.start_task_execute(recorder.handler)
        lost = proxy.lose_replies("settle", 3)
        await far.assign_task(Job("a", retry=Retry(max_retries=2, backoff=0.05, jitter=0)))
        [letter] = await eventually(far.dead_tasks)
        await eventually(lambda: lost.lost == 3)
        assert [call.attempt for call in recorder.calls] == [1, 2, 3]
        assert letter.count == 1
        await asyncio.sleep(1.5 * LEASE)  # time enough for a lease to lapse
        assert len(recorder.calls) == 3
        assert [letter.count for letter in await far.dead_tasks()] == [1]

    async def test_what_was_claimed_in_vain_runs_once_after_its_lease(self, far: Uniform, proxy: Proxy) -> None:
        recorder = Recorder(coroutine=True)
        await far.assign_tasks(Job(f"a{number}") for number in range(30))
        # The first claims, one for each partition, come in one round trip.
        lost = proxy.lose_replies("claim")
        begin = time.time()
        await far.start_task_execute(recorder.handler)
        await eventually(lambda: size_is(far, 0))
        assert lost.lost == 1
        assert Counter(recorder.payloads) == {f"a{number}": 1 for number in range(30)}
        assert {call.attempt for call in recorder.calls} == {1}
        assert max(call.started for call in recorder.calls) - begin < LEASE + 2.5

    async def test_an_occurrence_claimed_in_vain_is_not_lost_when_it_is_assigned_again(
        self, far: Uniform, proxy: Proxy
    ) -> None:
        """As a producer does that assigns all its tasks at its start: nothing in that says to leave out a run."""
        recorder = Recorder(coroutine=True)
        await far.start_task_execute(recorder.handler)
        lost = proxy.lose_replies("claim")
        first = round(after(0.3), 3)
        await far.assign_task(Job("a", first, 60, payload="old"))
        await eventually(lambda: lost.lost)
        await far.assign_task(Job("a", first, 60, payload="new"))
        await eventually(lambda: waits_for(far, "a", first + 60))
        assert [(call.due, call.payload) for call in recorder.calls] == [(first, "new")]

    async def test_a_claim_in_vain_of_what_must_not_be_repeated_is_kept_as_unknown(
        self, far: Uniform, proxy: Proxy
    ) -> None:
        recorder = Recorder(coroutine=True)
        await far.assign_task(Job("a", delivery="at_most_once"))
        lost = proxy.lose_replies("claim")
        await far.start_task_execute(recorder.handler)
        [letter] = await eventually(far.dead_tasks)
        assert lost.lost == 1
        assert "outcome unknown" in letter.error
        assert recorder.calls == []

    async def test_silence_is_noticed_once_for_all_connections(self, far: Uniform, proxy: Proxy) -> None:
        """BullMQ#2466: what is claimed over the first new connection is not reported over the next silent one."""
        recorder = Recorder(coroutine=True)
        await far.start_task_execute(recorder.handler)
        await far.assign_task(Job("a", after(0.1), 0.7))
        await eventually(lambda: recorder.calls)
        await eventually(lambda: is_settled(far))
        proxy.forsake()
        before, silent_since = len(recorder.calls), time.monotonic()
        await eventually(lambda: len(recorder.calls) >= before + 3, 20)
        assert time.monotonic() - silent_since < 8.5, "the deadline of an answer is 5 s"

    async def test_renewing_keeps_the_lease(self, far: Uniform, proxy: Proxy) -> None:
        told: Counter[str] = count_events(far)
        recorder = Recorder(coroutine=True, seconds=2.5 * LEASE)
        await far.start_task_execute(recorder.handler)
        lost = proxy.lose_replies("renew", TWICE)
        await far.assign_task(Job("a"))
        await eventually(lambda: size_is(far, 0))
        assert lost.lost == TWICE
        assert len(recorder.calls) == 1
        assert told["lease-lost"] == 0

    async def test_renewing_keeps_the_lease_where_one_attempt_after_the_other_fails(
        self, proxy: Proxy, make: Make
    ) -> None:
        """They come closer together then than the regular ones, of which too few fit a lease."""
        lease = 4.0
        far = make(storage={"instances": [{"url": proxy.url, "name": "redis-0"}]}, partitions=4, lease_seconds=lease)
        await far.start_task_accept()
        told: Counter[str] = count_events(far)
        recorder = Recorder(coroutine=True, seconds=1.2 * lease)
        await far.start_task_execute(recorder.handler)
        lost = proxy.lose_replies("renew", 6 * TWICE)
        await far.assign_task(Job("a"))
        await eventually(lambda: size_is(far, 0))
        assert lost.lost == 6 * TWICE
        assert len(recorder.calls) == 1
        assert told["lease-lost"] == 0

    @pytest.mark.parametrize("inside", [True, False], ids=["inside the handler", "after it returned"])
    async def test_confirm(self, far: Uniform, proxy: Proxy, inside: bool) -> None:
        tokens: list[int] = []
        confirmed: list[bool] = []

        async def handler(_: Any) -> None:
            tokens.append(current_execution().fencing_token)
            if inside:
                confirmed.append(await far.confirm_task("a"))

        lost = proxy.lose_replies("confirm")
        await far.start_task_execute(handler, "manual")
        await far.assign_task(Job("a"))
        if not inside:
            await eventually(lambda: tokens)
            await eventually(lambda: is_settled(far))
            confirmed.append(await far.confirm_task("a", tokens[0]))
        await eventually(lambda: size_is(far, 0))
        assert lost.lost == 1
        assert confirmed == [True]
        assert len(tokens) == 1


def is_settled(scheduler: Uniform) -> bool:
    """Whether the worker has reported the end of every run."""
    return scheduler.real._engine.worker.slots.unsettled == 0  # type: ignore[union-attr]


def count_events(scheduler: Uniform) -> Counter[str]:
    """Counts what happens to runs, by the name of the event, from now on."""
    counts: Counter[str] = Counter()

    def note(event: Event) -> None:
        counts[event.name] += 1

    for name in ("task-done", "task-retry", "task-dead", "lease-lost"):
        scheduler.real.on(name, note)
    return counts
