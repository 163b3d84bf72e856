"""`verify` and `repair`: each invariant of what is stored broken by hand, found, and repaired without losing a task.

asynq#1144, asynq#1051, asynq#1158: records without an index entry stick for ever. Here they are found and repaired.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, get_args

import pytest
import redis

from interval_scheduler import CorruptRecord, Retry, Scheduler
from interval_scheduler.cli.audit import _WHAT
from interval_scheduler.protocol.audit import ProblemKind
from tests.integration.conftest import Make, storage
from tests.keyspace import contents
from tests.servers import RedisServer
from tests.tasks import Job, Uniform, after, eventually, is_empty

HOUR = 3600.0


class Keyspace:
    """The stored keys of one task's partition, to be damaged."""

    def __init__(self, scheduler: Uniform, servers: list[RedisServer], task_id: str) -> None:
        layout = scheduler.real._engine.layout
        assert layout is not None
        home = layout.home(task_id.encode())
        self.id = task_id
        self.prefix = home.meta.removesuffix("meta")
        number = int(home.instance.removeprefix("redis-"))
        self.client: Any = redis.Redis.from_url(servers[number].url)

    def key(self, name: str) -> str:
        return self.prefix + name

    @property
    def record(self) -> bytes:
        record: bytes = self.client.hget(self.key("tasks"), self.id)
        return record

    @record.setter
    def record(self, value: bytes) -> None:
        self.client.hset(self.key("tasks"), self.id, value)

    @property
    def bucket(self) -> str:
        """The bucket the record belongs into."""
        due = int(self.record.split(b",")[0][1:])
        return f"bucket:{due - due % 60_000}"


@dataclass
class World:
    """A scheduler with a task in each state, by the name of the state."""

    scheduler: Uniform
    servers: list[RedisServer]
    ran: list[str]

    def of(self, state: str) -> Keyspace:
        return Keyspace(self.scheduler, self.servers, state)

    def everything(self) -> list[dict[bytes, object]]:
        """Every key with its value, by server, without those that a worker writes to all the time."""
        namespace = self.scheduler.real.options.namespace
        return [contents(server, f"*{namespace}*", (b":workers", b":meta", b":leases")) for server in self.servers]


@pytest.fixture
async def world(make: Make, redis_servers: list[RedisServer]) -> AsyncIterator[World]:
    scheduler = make()
    release = threading.Event()
    ran: list[str] = []

    def handler(payload: Any) -> None:
        ran.append(payload)
        if payload == "running":
            release.wait(60)
        elif payload in ("retrying", "dead"):
            raise ValueError(payload)

    await scheduler.start_task_accept()
    await scheduler.start_task_execute(handler)
    await scheduler.assign_tasks(
        [
            Job("scheduled", execute_on=after(HOUR)),
            Job("recurring", execute_on=after(HOUR), reschedule_interval=60),
            Job("running"),
            Job("retrying", retry=Retry(max_retries=1, backoff=HOUR)),
            Job("dead"),
            *(Job(f"other {number}", execute_on=after(HOUR + number)) for number in range(100)),
        ]
    )

    states = ["scheduled", "running", "retrying", "dead"]

    async def all_there() -> bool:
        return [(await scheduler.peek_task(state)).state for state in states] == states

    await eventually(all_there)
    yield World(scheduler, redis_servers, ran)
    release.set()


async def test_nothing_is_wrong(world: World) -> None:
    seen: list[int] = []
    before = world.everything()
    for audit in (await world.scheduler.verify(seen.append), await world.scheduler.repair()):
        assert audit.problems == ()
        assert audit.sound
        assert (audit.tasks, audit.dead) == (104, 1)
    assert seen == sorted(seen)
    assert seen[-1] >= 2 * 104
    assert world.everything() == before


Damage = Callable[[Keyspace], object]
DAMAGES: dict[str, tuple[str, str, Damage]] = {
    # name: (state of the task, kind of the problem, what is done)
    "scheduled, in no bucket": ("scheduled", "place", lambda k: k.client.zrem(k.key(k.bucket), k.id)),
    "scheduled, wrong score": ("scheduled", "place", lambda k: k.client.zadd(k.key(k.bucket), {k.id: 17})),
    "recurring, in no bucket": ("recurring", "place", lambda k: k.client.zrem(k.key(k.bucket), k.id)),
    "bucket not in the index": ("scheduled", "index", lambda k: k.client.zrem(k.key("index"), k.bucket[7:])),
    "retrying, not waited for": ("retrying", "place", lambda k: k.client.zrem(k.key("retries"), k.id)),
    "retrying, wrong time": ("retrying", "place", lambda k: k.client.zadd(k.key("retries"), {k.id: 5})),
    "running without a lease": ("running", "place", lambda k: k.client.zrem(k.key("leases"), k.id)),
    "scheduled and retrying": ("scheduled", "entry", lambda k: k.client.zadd(k.key("retries"), {k.id: 9e12})),
    "scheduled and leased": ("scheduled", "entry", lambda k: k.client.zadd(k.key("leases"), {k.id: 9e12})),
    "running and in a bucket": ("running", "entry", lambda k: _in_bucket(k, 9_000_000_000_000)),
    "in two buckets": ("scheduled", "entry", lambda k: _in_bucket(k, 9_000_000_000_000)),
    "record gone": ("scheduled", "entry", lambda k: k.client.hdel(k.key("tasks"), k.id)),
    "record of a lease gone": ("running", "entry", lambda k: k.client.hdel(k.key("tasks"), k.id)),
    "header cannot be read": ("scheduled", "header", lambda k: _set_header(k, b"?what,is,this")),
    "header of a retry cannot be read": ("retrying", "header", lambda k: _set_header(k, b"")),
    "header of an unknown state": ("scheduled", "header", lambda k: _set_header(k, b"q1800000000000,x")),
    "body cannot be read": ("scheduled", "body", lambda k: setattr(k, "record", k.record.split(b"\n")[0] + b"\n\xc1")),
    "token above the sequence": ("running", "token", lambda k: k.client.set(k.key("sequence"), 5)),
    "sequence gone": ("running", "token", lambda k: k.client.delete(k.key("sequence"))),
    "dead letter not listed": ("dead", "dead", lambda k: k.client.zrem(k.key("dead"), k.id)),
    "dead letter gone": ("dead", "dead", lambda k: k.client.hdel(k.key("dead-records"), k.id)),
    "header of a dead letter": ("dead", "header", lambda k: _damage_letter(k)),
    "index with a wrong score": ("scheduled", "index", lambda k: k.client.zadd(k.key("index"), {k.bucket[7:]: 3})),
    "index with a wrong name": ("scheduled", "index", lambda k: k.client.zadd(k.key("index"), {"17": 17})),
}


def _in_bucket(keyspace: Keyspace, due: int) -> None:
    bucket = due - due % 60_000
    keyspace.client.zadd(keyspace.key(f"bucket:{bucket}"), {keyspace.id: due})
    keyspace.client.zadd(keyspace.key("index"), {str(bucket): bucket})


def _set_header(keyspace: Keyspace, header: bytes) -> None:
    keyspace.record = header + b"\n" + keyspace.record.split(b"\n", 1)[1]


def _damage_letter(keyspace: Keyspace) -> None:
    record: bytes = keyspace.client.hget(keyspace.key("dead-records"), keyspace.id)
    keyspace.client.hset(keyspace.key("dead-records"), keyspace.id, b"many,\n" + record.split(b"\n", 1)[1])


@pytest.mark.parametrize("damage", DAMAGES)
async def test_each_damage_is_found_and_repaired(world: World, damage: str) -> None:
    state, kind, break_it = DAMAGES[damage]
    break_it(world.of(state))
    damaged = world.everything()

    found = await world.scheduler.verify()
    name = state if kind != "index" else None
    assert [problem for problem in found.problems if problem.kind == kind and name in (None, problem.id)], found
    assert not found.sound
    assert not any(problem.repaired for problem in found.problems)
    if damage != "sequence gone":  # live claims make a new one
        assert world.everything() == damaged, "verify changed something"

    repaired = await world.scheduler.repair()
    assert repaired.problems
    left = (await world.scheduler.verify()).problems
    if kind == "body":
        assert not repaired.sound
        assert [problem.kind for problem in left] == ["body"]
        assert await world.scheduler.remove_task(state)
    else:
        assert repaired.sound
        assert left == ()

    if kind == "header" and state == "scheduled":
        # When it was due is lost with the header: it runs now.
        await eventually(lambda: state in world.ran)
        return
    gone = damage in ("record gone", "record of a lease gone", "dead letter gone", "body cannot be read")
    task = await world.scheduler.peek_task(state)
    assert (task is None) == gone
    if task is not None:
        assert task.payload == state


@pytest.mark.parametrize("ending", [b"", b",,abc"], ids=["no header", "a field that is no number"])
async def test_tasks_that_cannot_be_read_hold_up_no_others(
    make: Make, redis_servers: list[RedisServer], ending: bytes
) -> None:
    scheduler = make(partitions=6, concurrency=10, lease_seconds=2)
    await scheduler.start_task_accept()
    ran: list[str] = []
    unread: set[str] = set()
    scheduler.on("error", lambda event: unread.add(event.details["where"]))

    async def handler(payload: str) -> None:
        ran.append(payload)

    # More of them than there are slots, at the head of every partition.
    bad = [f"bad {number}" for number in range(40)]
    good = [f"good {number}" for number in range(100)]
    await scheduler.assign_tasks([Job(name, execute_on=after(-60)) for name in bad])
    await scheduler.assign_tasks([Job(name, execute_on=after(-1)) for name in good])
    for name in bad:
        keyspace = Keyspace(scheduler, redis_servers, name)
        _set_header(keyspace, keyspace.record.split(b"\n")[0] + ending if ending else b"damaged")
    with pytest.raises(CorruptRecord):
        await scheduler.peek_task(bad[0])
    await scheduler.start_task_execute(handler)
    await eventually(lambda: len(ran) == 100)
    assert sorted(ran) == sorted(good)
    await eventually(lambda: unread == {*bad})
    assert await scheduler.remove_tasks(bad) == 40
    await eventually(lambda: is_empty(scheduler))  # the ends of runs are reported a little later


async def test_what_was_repaired_runs(make: Make, redis_servers: list[RedisServer]) -> None:
    scheduler = make()
    await scheduler.start_task_accept()
    ran: list[str] = []

    async def handler(payload: str) -> None:
        ran.append(payload)

    names = [f"lost {number}" for number in range(40)]
    await scheduler.assign_tasks([Job(name, execute_on=after(0.5)) for name in names])
    for name in names:
        keyspace = Keyspace(scheduler, redis_servers, name)
        keyspace.client.zrem(keyspace.key(keyspace.bucket), name)
    await scheduler.start_task_execute(handler)
    # A worker that looked, and found nothing to wait for, is told of what is repaired.
    assert len((await scheduler.repair()).problems) == 40
    await eventually(lambda: len(ran) == 40)
    assert sorted(ran) == sorted(names)
    assert (await scheduler.verify()).sound


async def test_a_live_run_whose_lease_is_repaired_is_not_run_twice(world: World) -> None:
    keyspace = world.of("running")
    keyspace.client.zrem(keyspace.key("leases"), "running")
    assert [problem.kind for problem in (await world.scheduler.repair()).problems] == ["place"]
    token = keyspace.record.split(b",")[2]

    def lease() -> Any:
        return keyspace.client.zscore(keyspace.key("leases"), "running")

    first = lease()
    await eventually(lambda: lease() != first)  # prolonged by its worker again
    assert keyspace.record.split(b",")[2] == token


async def test_a_busy_system_is_sound_all_the_time(make: Make) -> None:
    scheduler = make(concurrency=50)
    await scheduler.start_task_accept()

    async def handler(payload: str) -> None:
        if payload.endswith("7"):
            raise ValueError

    await scheduler.start_task_execute(handler)
    await scheduler.assign_tasks(
        Job(f"busy {number}", execute_on=after(number / 500), reschedule_interval=0.2 if number % 3 else None)
        for number in range(1000)
    )
    for _ in range(6):
        assert (await scheduler.verify()).problems == ()
        assert (await scheduler.repair()).problems == ()
    await scheduler.stop_task_execute()


async def test_an_id_in_the_wrong_partition_is_reported(world: World) -> None:
    keyspace = world.of("scheduled")
    other = next(k for k in map(world.of, (f"other {n}" for n in range(100))) if k.prefix != keyspace.prefix)
    other.client.hset(other.key("tasks"), "scheduled", keyspace.record)
    due = int(keyspace.record.split(b",")[0][1:])
    other.client.zadd(other.key(keyspace.bucket), {"scheduled": due})
    other.client.zadd(other.key("index"), {keyspace.bucket[7:]: int(keyspace.bucket[7:])})
    [problem] = (await world.scheduler.repair()).problems
    assert (problem.kind, problem.id, problem.repaired) == ("home", "scheduled", False)
    other.client.hdel(other.key("tasks"), "scheduled")
    assert (await world.scheduler.repair()).sound


def command(servers: list[RedisServer], namespace: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    urls = [part for entry in storage(servers)["instances"] for part in ("--url", f"{entry['name']}={entry['url']}")]
    return subprocess.run(
        [sys.executable, "-m", "interval_scheduler", *arguments, *urls, "--namespace", namespace],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_damaged_key_is_told_by_the_commands(redis_servers: list[RedisServer], namespace: str) -> None:
    with Scheduler(storage=storage(redis_servers), namespace=namespace) as scheduler:
        scheduler.start_task_accept()
        scheduler.assign_tasks([Job("one", execute_on=after(HOUR))])
        keyspace = Keyspace(Uniform(scheduler), redis_servers, "one")
        kept = keyspace.client.dump(keyspace.key("meta"))
        keyspace.client.set(keyspace.key("meta"), "text")
        for name in ("verify", "repair"):
            found = command(redis_servers, namespace, name)
            assert found.returncode == 1
            assert "Traceback" not in found.stderr
            assert "WRONG     key " in found.stdout
            assert "a key of the partition is damaged" in found.stdout
        assert "fix: restore it, or rename it and repair again" in found.stdout
        keyspace.client.restore(keyspace.key("meta"), 0, kept, replace=True)
        scheduler.clear_all_tasks()


@pytest.mark.parametrize("name", ["verify", "repair"])
def test_a_namespace_that_is_not_there_is_told_and_not_made(
    redis_servers: list[RedisServer], namespace: str, name: str
) -> None:
    before = [contents(server) for server in redis_servers]
    found = command(redis_servers, namespace, name)
    assert found.returncode == 1
    assert f"namespace {namespace!r} is not on the master instance 'redis-0': correct its name" in found.stderr
    assert [contents(server) for server in redis_servers] == before


def test_every_kind_of_problem_has_words() -> None:
    assert set(_WHAT) == set(get_args(ProblemKind))


def test_the_commands(redis_servers: list[RedisServer], namespace: str) -> None:
    with Scheduler(storage=storage(redis_servers), namespace=namespace) as scheduler:
        scheduler.start_task_accept()
        scheduler.assign_tasks([Job("one", execute_on=after(HOUR)), Job("two", execute_on=after(HOUR))])
        keyspace = Keyspace(Uniform(scheduler), redis_servers, "one")
        keyspace.client.zrem(keyspace.key(keyspace.bucket), "one")

        found = command(redis_servers, namespace, "verify")
        assert found.returncode == 1, found.stderr
        assert "WRONG     place   'one'" in found.stdout
        assert "2 tasks and 0 dead letters checked: 1 wrong" in found.stdout
        assert "interval-scheduler repair" in found.stdout

        repaired = command(redis_servers, namespace, "repair", "--json")
        assert repaired.returncode == 0, repaired.stderr
        [problem] = json.loads(repaired.stdout)["problems"]
        assert (problem["kind"], problem["id"], problem["repaired"]) == ("place", "one", True)

        sound = command(redis_servers, namespace, "verify")
        assert (sound.returncode, sound.stdout) == (0, "2 tasks and 0 dead letters checked: nothing is wrong\n")
        scheduler.clear_all_tasks()
