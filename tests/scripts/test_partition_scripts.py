"""What all scripts of a partition promise, on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from interval_scheduler.core.record import parse_header, split_record
from interval_scheduler.core.settlement import End, Outcome, settle
from interval_scheduler.model.options import load_options
from interval_scheduler.model.times import MAX_MS
from interval_scheduler.protocol import calls, keys
from interval_scheduler.protocol.commands import ABSENT, MOVED, Command, Partition, partition_command
from interval_scheduler.protocol.operation import BATCH_TASKS, drive
from interval_scheduler.protocol.settling import claimed_run
from interval_scheduler.protocol.tasks import Operations
from interval_scheduler.protocol.topology import join
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.transport.blocking import BlockingTransport
from interval_scheduler.transport.endpoint import Endpoint
from tests.keyspace import contents
from tests.servers import RedisServer
from tests.tasks import Job, after
from tests.waiting import wait_until

LUA = Path(__file__).parents[2] / "interval_scheduler" / "lua"
PARTITION_SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua") if "--! include partition\n" in path.read_text())
LEASE_MS = 60_000


class Namespace:
    """One partition on one server, its scripts and its operations."""

    def __init__(self, server: RedisServer, name: str) -> None:
        self.name = name
        self._server = server
        self.client: Any = redis.Redis.from_url(server.url)
        options = load_options(server.url, {"namespace": name, "partitions": 1}, {})
        endpoint = Endpoint(options.instances[0])
        self.transport = BlockingTransport({endpoint.name: endpoint})
        layout = drive(join(options, ""), self.transport.execute)
        self.home = layout.partitions[0]
        self.operations = Operations(layout, options, Runtime())

    def ask(self, command: Command) -> Any:
        [reply] = self.transport.execute([command])
        return reply

    def claim(self, limit: int, lease_ms: int = LEASE_MS, suspects: int = 1) -> calls.Claimed:
        command = calls.claim(self.home, "", limit, lease_ms, suspects, 1 << 30, is_first=True)
        return calls.read_claim(self.home, self.ask(command))

    def look(self, *, forgets: bool = False) -> calls.NextTimes:
        [times] = calls.read_look(self.ask(calls.look([self.home], "", forgets=forgets))).partitions
        return times

    def lapsed(self) -> int:
        """How many leases have ended by the clock of the server."""
        seconds, microseconds = self.client.time()
        now = seconds * 1000 + microseconds // 1000
        return int(self.client.zcount(self.key(keys.LEASES), "-inf", now))

    def key(self, name: str) -> str:
        return keys.of_partition(self.home.meta, name)

    def contents(self) -> dict[bytes, object]:
        return contents(self._server, f"*{self.name}*")


@pytest.fixture
def space(redis_servers: list[RedisServer], namespace: str) -> Iterator[Namespace]:
    made = Namespace(redis_servers[0], namespace)
    yield made
    made.transport.close()
    made.client.close()


def test_there_are_scripts_of_partitions() -> None:
    assert {"assign", "claim", "settle", "remove"} <= set(PARTITION_SCRIPTS)


@pytest.mark.parametrize("script", PARTITION_SCRIPTS)
@pytest.mark.parametrize("refusal", [MOVED, ABSENT])
def test_a_partition_that_is_elsewhere_is_refused_and_left_alone(space: Namespace, script: str, refusal: bytes) -> None:
    drive(space.operations.assign_task(Job("a", 4e9)), space.transport.execute)
    before = space.contents()
    elsewhere = {
        MOVED: Partition(0, space.home.instance, space.home.meta, "2"),
        ABSENT: Partition(1, space.home.instance, space.home.meta.replace(":0}", ":1}"), "1"),
    }
    assert space.ask(partition_command(script, elsewhere[refusal], "", ["1"] * 8)) == [refusal]
    assert space.contents() == before
    drive(space.operations.clear_all_tasks(None), space.transport.execute)


def test_a_full_batch_with_the_longest_ids_passes_every_step(space: Namespace) -> None:
    """Lua's `unpack` ends near 8,000 values."""
    jobs = [Job(f"{n:0>1024}") for n in range(BATCH_TASKS)]
    result = drive(space.operations.assign_tasks(jobs), space.transport.execute)
    assert result.created == BATCH_TASKS
    claimed = space.claim(BATCH_TASKS)
    assert claimed.count == BATCH_TASKS
    now_ms = claimed.now_us // 1000
    runs = [claimed_run(*entry, now_ms) for entry in calls.pairs(claimed.entries)]
    settlements = [settle(run, Outcome(End.ABANDONED, "failed"), now_ms, 0.5) for run in runs]
    reply = space.ask(calls.settle(space.home, "", LEASE_MS, runs, settlements))
    assert calls.read_settle(space.home, reply).answers == bytes([calls.ACCEPTED]) * BATCH_TASKS
    assert drive(space.operations.retry_dead_tasks(None), space.transport.execute) == BATCH_TASKS
    assert drive(space.operations.remove_tasks([job.id for job in jobs]), space.transport.execute) == BATCH_TASKS


def test_the_last_millisecond_of_the_calendar_is_exact(space: Namespace) -> None:
    """Lua numbers are floats, and its `..` writes large ones in exponent form."""
    drive(space.operations.assign_task(Job("a", MAX_MS / 1000)), space.transport.execute)
    assert parse_header(split_record(space.client.hget(space.key(keys.TASKS), "a"))[0]).due == MAX_MS
    start_ms = MAX_MS - MAX_MS % 60_000
    bucket = keys.bucket(space.home.meta, start_ms)
    assert space.client.zrange(space.key(keys.INDEX), 0, -1) == [b"%d" % start_ms]
    assert space.client.zscore(bucket, "a") == MAX_MS
    assert drive(space.operations.reschedule_task("a", None, (MAX_MS - 1) / 1000), space.transport.execute)
    assert space.client.zscore(bucket, "a") == MAX_MS - 1
    drive(space.operations.clear_all_tasks(None), space.transport.execute)


@pytest.mark.parametrize("overdue", [0, 1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("limit", [1, 4, 20])
def test_a_claim_tells_what_is_due_next_however_many_buckets_it_empties(
    space: Namespace, overdue: int, limit: int
) -> None:
    """Buckets are 60 s wide: every task has one of its own."""
    now = int(time.time())
    future = [now + 3600 + 60 * place for place in range(3)]
    past = [now - 60 * place for place in range(overdue, 0, -1)]
    jobs = [Job(f"{place}", due) for place, due in enumerate(past + future)]
    drive(space.operations.assign_tasks(jobs), space.transport.execute)
    claimed = space.claim(limit)
    taken = min(limit, overdue)
    assert [task_id.decode() for task_id, _ in calls.pairs(claimed.entries)] == [job.id for job in jobs[:taken]]
    times = space.look()
    assert claimed.due == times.due == 1000 * (past + future)[taken]
    assert claimed.lapse == times.lapse
    assert (claimed.lapse is None) == (taken == 0)
    assert space.client.zcard(space.key(keys.INDEX)) == len(jobs) - taken
    drive(space.operations.clear_all_tasks(None), space.transport.execute)


def test_an_alarm_that_stands_for_nothing_is_withdrawn_by_whoever_looks(space: Namespace) -> None:
    """Else a later task that is due later would not be announced, and the workers have forgotten the earlier time."""
    drive(space.operations.assign_task(Job("earlier", after(5))), space.transport.execute)
    alarm = space.client.hget(space.home.meta, "alarm")
    space.look(forgets=True)
    assert space.client.hget(space.home.meta, "alarm") == alarm, "it stands for the task"
    drive(space.operations.remove_tasks(["earlier"]), space.transport.execute)
    space.look(forgets=True)
    assert space.client.hget(space.home.meta, "alarm") is None
    with space.client.pubsub() as listener:
        listener.subscribe(space.key(keys.HINT))
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        drive(space.operations.assign_task(Job("later", after(6))), space.transport.execute)
        assert listener.get_message(timeout=5)["type"] == "message"
    drive(space.operations.clear_all_tasks(None), space.transport.execute)


@pytest.mark.parametrize("forgets", [False, True], ids=["claim", "look"])
def test_a_lapsed_run_that_waits_for_another_suspect_is_no_alarm(space: Namespace, forgets: bool) -> None:
    """No worker wakes for it, so that what is due while it waits must be announced."""
    drive(space.operations.assign_task(Job("suspect", after(-1))), space.transport.execute)
    for _ in range(2):
        assert space.claim(10, lease_ms=1).count == 1
        wait_until(lambda: space.lapsed() == 1)  # its lease is one of a millisecond
    with space.client.pubsub() as listener:
        listener.subscribe(space.key(keys.HINT))
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        assert space.claim(10, suspects=0).count == 0
        if forgets:
            drive(space.operations.assign_task(Job("gone", after(0.5))), space.transport.execute)
            assert listener.get_message(timeout=5)["type"] == "message"
            drive(space.operations.remove_tasks(["gone"]), space.transport.execute)
            space.look(forgets=True)
        drive(space.operations.assign_task(Job("new", after(0.6))), space.transport.execute)
        assert listener.get_message(timeout=5)["type"] == "message"
    drive(space.operations.clear_all_tasks(None), space.transport.execute)
