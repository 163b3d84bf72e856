"""Bad input is refused whole: the error names field, rule and fix, and the keyspace stays byte for byte as it was."""

from __future__ import annotations

import math
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
import redis

from interval_scheduler import Cron, InvalidOptions, InvalidTask, PayloadTooLarge, Retry
from interval_scheduler.model.options import load_options
from interval_scheduler.protocol.bulk import STREAM_TASKS
from tests.integration.conftest import Make
from tests.keyspace import contents
from tests.servers import RedisServer
from tests.tasks import Job, Recorder, Uniform, after, eventually


def keyspace(servers: list[RedisServer], namespace: str) -> list[dict[bytes, object]]:
    """Every key of the namespace with its value, by server."""
    return [contents(server, f"{{{namespace}*") for server in servers]


BAD_TASKS: list[tuple[str, Job, str]] = [
    ("empty id", Job(""), "id"),
    ("huge id", Job("x" * 1025), "id"),
    ("id of bytes", Job(b"x"), "id"),  # type: ignore[arg-type]
    ("id of a number", Job(7), "id"),  # type: ignore[arg-type]
    ("id None", Job(None), "id"),  # type: ignore[arg-type]
    ("id with a lone surrogate", Job("\ud800"), "id"),
    ("naive datetime", Job("a", datetime(2030, 1, 1)), "execute_on"),
    ("execute_on NaN", Job("a", math.nan), "execute_on"),
    ("execute_on infinite", Job("a", math.inf), "execute_on"),
    ("execute_on negative", Job("a", -1), "execute_on"),
    ("execute_on a bool", Job("a", True), "execute_on"),
    ("execute_on text", Job("a", "2030-01-01"), "execute_on"),  # type: ignore[arg-type]
    ("execute_on far away", Job("a", 1e18), "execute_on"),
    ("interval NaN", Job("a", None, math.nan), "reschedule_interval"),
    ("interval infinite", Job("a", None, math.inf), "reschedule_interval"),
    ("interval negative", Job("a", None, -1), "reschedule_interval"),
    ("interval zero", Job("a", None, 0), "reschedule_interval"),
    ("interval below a millisecond", Job("a", None, 0.0001), "reschedule_interval"),
    ("interval a negative timedelta", Job("a", None, timedelta(-1)), "reschedule_interval"),
    ("interval a bool", Job("a", None, True), "reschedule_interval"),
    ("payload a tuple", Job("a", payload=(1, 2)), "serialize()"),
    ("payload a tuple inside", Job("a", payload={"x": [(1,)]}), "serialize()"),
    ("payload a set", Job("a", payload={1}), "serialize()"),
    ("payload a datetime", Job("a", payload=datetime.now(UTC)), "serialize()"),
    ("payload a decimal", Job("a", payload=Decimal(1)), "serialize()"),
    ("payload an object", Job("a", payload=object()), "serialize()"),
    ("payload beyond 64 bits", Job("a", payload=2**64), "serialize()"),
    ("payload below 64 bits", Job("a", payload=-(2**63) - 1), "serialize()"),
    ("payload with a lone surrogate", Job("a", payload="\ud800"), "serialize()"),
    ("payload too large", Job("a", payload="x" * 40_000), "serialize()"),
    ("retry not a Retry", Job("a", retry=3), "retry"),  # type: ignore[arg-type]
    ("timeout zero", Job("a", timeout=0), "timeout"),
    ("misfire unknown", Job("a", misfire="never"), "misfire"),
    ("misfire limit zero", Job("a", misfire_limit=0), "misfire_limit"),
    ("delivery unknown", Job("a", delivery="exactly_once"), "delivery"),
    ("jitter negative", Job("a", jitter=-1), "jitter"),
]


def endless_payload() -> list[Any]:
    payload: list[Any] = []
    payload.append(payload)
    return payload


BAD_TASKS.append(("payload that holds itself", Job("a", payload=endless_payload()), "serialize()"))


class TestTasks:
    async def test_every_bad_task_is_refused_and_nothing_is_written(
        self, scheduler: Uniform, redis_servers: list[RedisServer], namespace: str
    ) -> None:
        await scheduler.assign_task(Job("kept", after(3600)))
        before = keyspace(redis_servers, namespace)
        for what, task, field in BAD_TASKS:
            with pytest.raises(InvalidTask) as caught:
                await scheduler.assign_task(task)
            assert caught.value.field == field, what
            message = str(caught.value)
            assert message.startswith(f"Job.{field} "), what
            assert "; " in message, what
            assert message.endswith("Nothing was written."), what
            with pytest.raises(InvalidTask) as caught:
                await scheduler.assign_tasks([Job("good", after(60)), task])
            assert caught.value.not_written == ["good"], what
        assert keyspace(redis_servers, namespace) == before
        with pytest.raises(PayloadTooLarge):
            await scheduler.assign_task(Job("a", payload="x" * 40_000))

    async def test_words_may_be_members_of_an_enum(self, scheduler: Uniform) -> None:
        class Missed(StrEnum):
            SKIP = "skip"

        class Delivered(StrEnum):
            ONCE = "at_most_once"

        assert await scheduler.assign_task(Job("a", after(3600), misfire=Missed.SKIP, delivery=Delivered.ONCE))
        assert (await scheduler.peek_task("a")).payload == "a"

    async def test_what_is_no_task(self, scheduler: Uniform) -> None:
        for thing in (None, "text", {"id": "a"}, int):
            with pytest.raises(InvalidTask, match=r"subclass interval_scheduler\.Task"):
                await scheduler.assign_task(thing)
        for call in (scheduler.assign_task, scheduler.remove_task):
            with pytest.raises(InvalidTask, match=r"^Job is a class; pass an instance, Job\(\.\.\.\)\. Nothing"):
                await call(Job)

    async def test_a_refusal_in_the_middle_of_a_stream_says_what_was_written_before(self, scheduler: Uniform) -> None:
        good = [Job(f"s{n}", after(60)) for n in range(STREAM_TASKS + 2)]
        await scheduler.assign_task(good[0])
        with pytest.raises(InvalidTask) as caught:
            await scheduler.assign_tasks([*good, Job("")])
        assert (caught.value.created, caught.value.updated) == (STREAM_TASKS - 1, 1)
        text = (
            f"Earlier batches were written: {STREAM_TASKS - 1} tasks created, 1 updated. This task and the 2 before it"
        )
        assert text in str(caught.value)
        assert "Nothing was written" not in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)

    async def test_other_calls(self, scheduler: Uniform, redis_servers: list[RedisServer], namespace: str) -> None:
        await scheduler.assign_task(Job("a", after(3600)))
        before = keyspace(redis_servers, namespace)
        bad_calls = [
            scheduler.reschedule_task("a"),
            scheduler.reschedule_task("a", delay=1, execute_on=1),
            scheduler.reschedule_task("a", delay=-1),
            scheduler.reschedule_task("a", delay=math.nan),
            scheduler.reschedule_task("a", execute_on=datetime(2030, 1, 1)),
            scheduler.remove_task(""),
            scheduler.remove_task(None),
            scheduler.run_task_now(3),
            scheduler.confirm_task("a"),
            scheduler.confirm_task("a", -1),
            scheduler.post("x", delay="soon"),
            scheduler.post("x", delay=1, max_retries=-1),
            scheduler.upcoming(offset=-1),
            scheduler.upcoming(limit=-1),
            scheduler.try_lock(""),
            scheduler.try_lock("x" * 2000),
            scheduler.try_auto_lock("x", 0),
            scheduler.try_auto_lock("x", math.inf),
        ]
        for call in bad_calls:
            with pytest.raises(InvalidTask):
                await call
        assert keyspace(redis_servers, namespace) == before

    @pytest.mark.parametrize(
        "build",
        [
            lambda: Retry(max_retries=-1),
            lambda: Retry(backoff=math.nan),
            lambda: Retry(factor=0.5),
            lambda: Retry(jitter=2),
            lambda: Cron("* * *"),
            lambda: Cron("0 0 30 2 *"),
            lambda: Cron("* * * * *", tz="Mars/Olympus"),
        ],
    )
    def test_parts_of_tasks(self, build: Any) -> None:
        with pytest.raises(InvalidTask, match=r"(Retry|Cron)\.\w+ "):
            build()


class TestUnusualIdsAndPayloadsAreExact:
    IDS = (
        "a b",
        "\0",
        "a\0b",
        "{x}",
        "{a}:{b}",
        "::",
        "user:1",
        "\n\r\t",
        "\N{SNOWMAN}",
        "\U0001f600",
        "e\u0301",
        "\u00e9",
        "x" * 1024,
        "é" * 512,
        "%s {0} \\ \" '",
        "-inf",
        "+",
        "1e5",
    )

    async def test_ids(self, scheduler: Uniform, recorder: Recorder) -> None:
        await scheduler.assign_tasks(Job(task_id, after(0.3)) for task_id in self.IDS)
        assert await scheduler.task_size() == len(self.IDS)
        for task_id in self.IDS:
            assert (await scheduler.peek_task(task_id)).id == task_id
        assert {task.id for task in await scheduler.upcoming()} == set(self.IDS)
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: len(recorder.calls) == len(self.IDS))
        assert {call.id for call in recorder.calls} == set(self.IDS)

    PAYLOADS: tuple[Any, ...] = (
        None,
        False,
        0,
        2**64 - 1,
        -(2**63),
        2**53 + 1,
        0.1,
        -0.0,
        math.inf,
        1.7976931348623157e308,
        5e-324,
        "",
        "\0",
        "\n",
        b"",
        b"\x00\xff\n",
        [],
        {},
        [[], {}, [[]]],
        {"": {}, "a": [None]},
        {1: "int key", b"b": "bytes key", 1.5: "float key"},
        {"nested": {"list": [1, [2, [3, [4]]]]}},
        "x" * 30_000,
    )

    async def test_payloads(self, scheduler: Uniform, recorder: Recorder) -> None:
        jobs = [Job(f"p{n}", payload=[payload]) for n, payload in enumerate(self.PAYLOADS)]
        jobs.append(Job("nan", payload=[math.nan]))
        await scheduler.assign_tasks(jobs)
        await scheduler.start_task_execute(recorder.handler)
        await eventually(lambda: len(recorder.calls) == len(jobs))
        for number, payload in enumerate(self.PAYLOADS):
            [seen] = recorder.of(f"p{number}")
            assert seen.payload == [payload]
            assert type(seen.payload[0]) is type(payload)
            assert repr(seen.payload[0]) == repr(payload)
        assert math.isnan(recorder.of("nan")[0].payload[0])


class TestOptions:
    @pytest.mark.parametrize(
        ("given", "names"),
        [
            ({"unknown": 1}, ["unknown"]),
            ({"storage": {"unknown": 1}}, ["storage.unknown"]),
            ({"storage": 3}, ["storage"]),
            ({"storage": {"instances": []}}, ["storage.instances"]),
            ({"storage": {"instances": [{"host": "h", "port": 0}]}}, ["instances[0]", "port"]),
            ({"storage": {"instances": [{"host": "h", "port": 65536}]}}, ["port"]),
            ({"storage": {"instances": [{"host": "h", "port": "six"}]}}, ["port"]),
            ({"storage": {"instances": ["redis://h:99999"]}}, ["port"]),
            ({"storage": {"instances": ["redis://h:x"]}}, ["port"]),
            ({"storage": {"instances": ["http://h"]}}, ["http", "redis"]),
            ({"storage": {"instances": ["localhost"]}}, ["URL"]),
            ({"storage": {"instances": [{"url": "redis://h", "port": 1}]}}, ["port"]),
            ({"storage": {"instances": [{"host": "h", "colour": 1}]}}, ["colour"]),
            ({"storage": {"instances": ["redis://h", "redis://h"]}}, ["2 times"]),
            ({"storage": {"instances": ["redis+cluster://h"]}}, ["cluster"]),
            ({"storage": {"instances": ["embedded://"]}}, ["path"]),
            ({"storage": {"master_index": 1}}, ["master_index"]),
            ({"storage": {"task_interval_seconds": 0}}, ["task_interval_seconds"]),
            ({"storage": {"reconnect_interval_seconds": -1}}, ["reconnect_interval_seconds"]),
            ({"check_tasks_every_seconds": math.nan}, ["check_tasks_every_seconds"]),
            ({"check_tasks_every_seconds": True}, ["check_tasks_every_seconds"]),
            ({"partitions": 0}, ["partitions"]),
            ({"partitions": 2.5}, ["partitions"]),
            ({"concurrency": 0}, ["concurrency"]),
            ({"lease_seconds": math.inf}, ["lease_seconds"]),
            ({"max_payload_bytes": 0}, ["max_payload_bytes"]),
            ({"namespace": "a{b}"}, ["namespace"]),
            ({"namespace": ""}, ["namespace"]),
            (3, ["options"]),
            ({"partitions": 0, "lease_seconds": 0, "namespace": 1}, ["partitions", "lease_seconds", "namespace"]),
        ],
    )
    def test_every_wrong_one_is_named(self, given: Any, names: list[str]) -> None:
        with pytest.raises(InvalidOptions) as caught:
            load_options(given, environment={})
        for name in names:
            assert name in str(caught.value)

    def test_accepted_shapes(self) -> None:
        default = load_options(None, environment={})
        assert default.instances[0].settings == {"host": "localhost", "port": 6379, "db": 0}
        assert default == load_options("redis://localhost", environment={})
        assert default == load_options(["redis://localhost:6379/0"], environment={})
        assert default == load_options({"storage": {"instances": [{"host": "localhost"}]}}, environment={})
        assert load_options(default, {"namespace": "x"}, {}).namespace == "x"
        two = load_options(
            {"instances": [{"url": "rediss://u:p%40ss@h:1/2", "name": "a", "weight": 2}, "unix:///s?db=3"]},
            environment={},
        )
        assert two.instances[0].settings == {
            "host": "h", "port": 1, "db": 2, "username": "u", "password": "p@ss", "ssl": True,
        }  # fmt: skip
        assert "p@ss" not in repr(two)
        assert two.instances[1].settings == {"path": "/s", "db": 3}

    def test_the_environment_overrides(self) -> None:
        environment = {"INTERVAL_SCHEDULER_INSTANCES": "redis://a, redis://b", "INTERVAL_SCHEDULER_PARTITIONS": "8"}
        options = load_options("redis://c", {"partitions": 4}, environment)
        assert [instance.name for instance in options.instances] == ["a:6379/0", "b:6379/0"]
        assert options.partitions == 8
        with pytest.raises(InvalidOptions, match=r"partitions .*PARTITIONS\) is .many."):
            load_options(None, environment={"INTERVAL_SCHEDULER_PARTITIONS": "many"})


class TestTopology:
    async def test_a_mismatch_is_refused_and_says_what_differs(
        self, make: Make, redis_servers: list[RedisServer], namespace: str
    ) -> None:
        from interval_scheduler import TopologyMismatch
        from tests.integration.conftest import storage

        first = make()
        await first.start_task_accept()
        await first.assign_task(Job("a", after(60)))
        before = keyspace(redis_servers, namespace)
        swapped = storage(redis_servers)
        swapped["instances"][1]["name"], swapped["instances"][2]["name"] = "redis-2", "redis-1"
        for fields, text in (
            ({"partitions": 32}, "partitions=64"),
            ({"storage": storage(redis_servers, task_interval_seconds=30)}, "task_interval_seconds=60"),
            ({"storage": storage(redis_servers[:2])}, "redis-2"),
            ({"storage": swapped}, "swapped"),
        ):
            with pytest.raises(TopologyMismatch, match=text):
                await make(**fields).start_task_accept()
        assert keyspace(redis_servers, namespace) == before

    async def test_an_instance_that_lost_its_data_is_refused(self, own_servers: list[RedisServer], make: Make) -> None:
        from interval_scheduler import TopologyMismatch
        from tests.integration.conftest import storage

        scheduler = make(storage=storage(own_servers))
        await scheduler.start_task_accept()
        with redis.Redis.from_url(own_servers[1].url) as client:
            client.flushall()
        with pytest.raises(TopologyMismatch, match=r"redis-1.*lost"):
            await make(storage=storage(own_servers)).start_task_accept()
        with redis.Redis.from_url(own_servers[0].url) as client:
            client.flushall()
        with redis.Redis.from_url(own_servers[2].url) as client:
            client.flushall()
        # With nothing left anywhere it is a new namespace.
        await make(storage=storage(own_servers)).start_task_accept()

    async def test_partitions_are_filled_by_weight(self, make: Make, redis_servers: list[RedisServer]) -> None:
        from tests.integration.conftest import storage

        weighted = storage(redis_servers)
        weighted["instances"][0]["weight"] = 2
        scheduler = make(storage=weighted)
        await scheduler.start_task_accept()
        owners = [part.instance for part in (await scheduler.stats()).partitions]
        assert [owners.count(f"redis-{n}") for n in range(3)] == [32, 16, 16]
