"""Bulkheads: whatever a handler, a record or a message does, it hurts only itself."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import decimal
import functools
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import msgpack
import pytest
import redis

from interval_scheduler import GiveUp, Postpone, Retry, RetryAfter, TopologyMismatch, current_execution
from interval_scheduler.protocol import keys
from interval_scheduler.worker import runners
from tests.servers import RedisServer
from tests.tasks import Job, Uniform, after, eventually, is_empty

from .conftest import Make, scheduler_of

HEALTHY = 300


class Partition:
    """The keys of the partition in which an id is at home, by a client of its own."""

    def __init__(self, scheduler: Uniform, servers: list[RedisServer], task_id: bytes) -> None:
        layout = scheduler.real._engine.layout
        assert layout is not None
        self.home = layout.home(task_id)
        self.client: Any = redis.Redis.from_url(servers[int(self.home.instance.removeprefix("redis-"))].url)

    def key(self, name: str) -> str:
        return keys.of_partition(self.home.meta, name)

    def store(self, task_id: bytes, record: bytes, due_ms: int = 1_000_000) -> None:
        """A scheduled task as it may be found: in a bucket, whatever its record says."""
        start = due_ms - due_ms % 60_000
        self.client.hset(self.key(keys.TASKS), task_id, record)
        self.client.zadd(keys.bucket(self.home.meta, start), {task_id: due_ms})
        self.client.zadd(self.key(keys.INDEX), {str(start): start})

    def forget(self, task_id: bytes) -> None:
        for name in (keys.RETRIES, keys.LEASES):
            self.client.zrem(self.key(name), task_id)
        self.client.hdel(self.key(keys.TASKS), task_id)


class Ran:
    """A handler that counts healthy tasks, and hands all others to `hostile`."""

    def __init__(self, hostile: Callable[[Any], Any], *, coroutine: bool) -> None:
        self.healthy = 0
        self.hostile = hostile
        self.handler: Callable[[Any], Any] = self._coroutine if coroutine else self._plain

    def _plain(self, payload: Any) -> Any:
        if isinstance(payload, str) and payload.startswith("healthy"):
            self.healthy += 1
            return None
        return self.hostile(payload)

    async def _coroutine(self, payload: Any) -> Any:
        return self._plain(payload)

    def has_run(self, count: int) -> bool:
        return self.healthy == count


@pytest.fixture(params=["plain", "coroutine"])
def coroutine(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "coroutine")


async def others_run(scheduler: Uniform, ran: Ran, name: str) -> None:
    """Healthy tasks that are assigned now run and are settled, though the damage is there."""
    before = ran.healthy
    await scheduler.assign_tasks(Job(f"healthy:{name}:{n}") for n in range(HEALTHY))
    await eventually(lambda: ran.healthy == before + HEALTHY, 10)

    async def settled() -> bool:
        return not [task for task in await scheduler.upcoming() if task.id.startswith("healthy")]

    await eventually(settled)
    worker = scheduler.real._engine.worker
    assert worker is not None
    await eventually(lambda: worker.slots.occupied == 0 and worker.slots.unsettled == 0, 5)


class Silent(RetryAfter):
    """A verdict without the ``__init__`` of its class."""

    def __init__(self) -> None:
        self.why = "no super"


class Unspeakable(GiveUp):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Hostile(Exception):
    def __str__(self) -> str:
        raise SystemExit("in __str__")

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        raise KeyboardInterrupt if name == "seconds" else RuntimeError(name)


class Text(str):
    def encode(self, *_: Any) -> bytes:
        raise MemoryError("in encode")


def _raises(make: Callable[[], BaseException]) -> Callable[[Any], Any]:
    def handler(_payload: Any) -> Any:
        raise make()

    return handler


def _changes_payload(payload: Any) -> Any:
    payload["at"] = datetime.now(UTC)
    payload["self"] = payload
    raise RuntimeError("with a payload that cannot be stored")


def _odd_pause() -> BaseException:
    error = RetryAfter(1)
    error.seconds = "soon"  # type: ignore[assignment]
    return error


def _endless_pause() -> BaseException:
    error = Postpone(1)
    error.seconds = float("inf")
    return error


HANDLERS: dict[str, Callable[[Any], Any]] = {
    "changes its payload": _changes_payload,
    "verdict without init": _raises(Silent),
    "verdict without text": _raises(Unspeakable),
    "pause of text": _raises(_odd_pause),
    "endless pause": _raises(_endless_pause),
    "error that raises everywhere": _raises(Hostile),
    "text that cannot be encoded": _raises(lambda: ValueError(Text("x"))),
    "lone surrogate": _raises(lambda: ValueError("\ud800")),
    "SystemExit": _raises(lambda: SystemExit(3)),
    "GeneratorExit": _raises(GeneratorExit),
    "StopIteration": lambda _payload: next(iter(())),
    "CancelledError": _raises(asyncio.CancelledError),
    "a group of them": _raises(lambda: BaseExceptionGroup("all", [KeyboardInterrupt(), SystemExit(1)])),
    "a mock": lambda _payload: MagicMock(),
    "a generator": lambda _payload: (number for number in range(3)),
}


@pytest.mark.parametrize("name", HANDLERS)
async def test_a_hostile_handler_hurts_only_its_task(make: Make, coroutine: bool, name: str) -> None:
    """fault-A1, fault-A3: rails#55775, resque#1671, superset#42486, airflow#25343, celery#6990, sentry#20100.

    anyio#475: a StopIteration of a thread, which no future takes.
    """
    scheduler = make(partitions=4, concurrency=20)
    await scheduler.start_task_accept()
    ran = Ran(HANDLERS[name], coroutine=coroutine)
    await scheduler.start_task_execute(ran.handler)
    payload = {"n": 1}
    await scheduler.assign_tasks(
        [Job(f"bad:{n}", payload=payload, retry=Retry(max_retries=1, backoff=0.05)) for n in range(8)]
        + [Job(f"bad again:{n}", payload=payload, reschedule_interval=3600) for n in range(8)]
    )
    await others_run(scheduler, ran, name)
    for task in [*await scheduler.upcoming(), *await scheduler.dead_tasks()]:
        assert task.payload == payload, "what is stored is what was assigned"


async def test_what_is_stored_again_are_the_bytes_that_were_stored(
    make: Make, redis_servers: list[RedisServer]
) -> None:
    """fault-A1, also with options of a newer version that may be ignored."""
    scheduler = make(partitions=4)
    await scheduler.start_task_accept()
    partition = Partition(scheduler, redis_servers, b"odd")
    payload = msgpack.packb({"b": 1, "a": [1.5, b"x"]})
    options = msgpack.packb({"r": [1, 3600.0, 1.0, 3600.0, 0.0], "_later": {"k": 1}})
    body = b"\x93" + payload + b"\xc0" + options
    partition.store(b"odd", b"s1000000,rev,,,,,,,newer,fields\n" + body)

    def handler(payload: Any) -> None:
        payload.clear()
        raise ValueError("no")

    await scheduler.start_task_execute(handler)

    async def failed() -> bool:
        task = await scheduler.peek_task("odd")
        return bool(task.state == "retrying")

    await eventually(failed)
    header, _, stored = partition.client.hget(partition.key(keys.TASKS), b"odd").partition(b"\n")
    assert stored == b"\x94" + body[1:] + msgpack.packb("ValueError: no")
    assert header.endswith(b",,,newer,fields")
    await scheduler.remove_task("odd")


class TestLogger:
    @pytest.mark.parametrize("stderr", [None, "closed", "no isatty"])
    async def test_a_program_without_a_console(
        self, make: Make, coroutine: bool, stderr: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        """fault-A2: pyinstaller#7782, pyinstaller#7339."""
        replaced: Any = None
        if stderr == "closed":
            replaced = (tmp_path / "closed").open("w")
            replaced.close()
        elif stderr == "no isatty":
            replaced = type("Stream", (), {"write": lambda *_: None, "flush": lambda *_: None})()
        scheduler = make(partitions=4, concurrency=5)
        await scheduler.start_task_accept()
        ran = Ran(_raises(lambda: ValueError("no")), coroutine=coroutine)
        monkeypatch.setattr(sys, "stderr", replaced)
        await scheduler.start_task_execute(ran.handler)
        await scheduler.assign_tasks(Job(f"bad:{n}") for n in range(10))
        await others_run(scheduler, ran, "console")

    @pytest.mark.parametrize("sort", ["loguru", "adapter"])
    async def test_loggers_of_other_sorts_get_whole_lines(
        self,
        flavour: str,
        redis_servers: list[RedisServer],
        namespace: str,
        caplog: pytest.LogCaptureFixture,
        sort: str,
    ) -> None:
        """loguru#1395: it formats a message for which it is given fields, and shows neither them nor `exc_info`."""
        texts = Formatting()
        logger = texts if sort == "loguru" else logging.LoggerAdapter(logging.getLogger("adapted"), {})
        scheduler = scheduler_of(flavour, redis_servers[0].url, logger, namespace=namespace)
        await scheduler.start_task_accept()
        await scheduler.start_task_execute(_raises(lambda: ValueError("{'a': {0}} %s")))
        await scheduler.assign_task(Job("{id}"))
        await eventually(scheduler.dead_tasks)
        await scheduler.clear_all_tasks()
        await scheduler.close()
        for line in ("a handler failed", "a task was given up"):
            [text] = [text for text in texts.lines + caplog.text.split("\n" + "WARNING") if line in text][:1]
            assert "{id}" in text
            assert "ValueError: {'a': {0}} %s" in text
        assert "in handler\n    raise make()" in "".join(texts.lines) + caplog.text


class Formatting:
    """What matters of a logger of loguru."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def bind(self, **_: object) -> Formatting:
        return self

    def warning(self, message: str, *args: object, **fields: object) -> None:
        self.lines.append(message.format(*args, **fields) if args or fields else message)

    error = info = debug = warning


class Told(Formatting):
    """A logger that notes when it was told of a handler that goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def warning(self, message: str, *_: object, **__: object) -> None:
        self.lines.append(message)
        if "goes on after its timeout" in message:
            self.event.set()


@pytest.mark.parametrize(
    ("sort", "reason"),
    [
        ("thread", "a thread cannot be stopped"),
        ("ignores", "it was cancelled, and ignores that"),
        ("blocks", "it blocks the event loop"),
    ],
)
async def test_a_handler_that_goes_on_after_its_timeout_is_told(
    flavour: str, redis_servers: list[RedisServer], namespace: str, sort: str, reason: str
) -> None:
    """arq#395: it was not stopped, and nothing said so."""
    told = Told()
    began = threading.Event()

    def thread(_payload: object) -> None:
        began.set()
        assert told.event.wait(10)

    async def coroutine(payload: object) -> None:
        while sort == "ignores" and not told.event.is_set():
            began.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)
        thread(payload)

    fields = {"namespace": namespace, "lease_seconds": 0.6}
    scheduler = scheduler_of(flavour, redis_servers[0].url, told, **fields)
    await scheduler.start_task_accept()
    await scheduler.start_task_execute(thread if sort == "thread" else coroutine)
    await scheduler.assign_task(Job("slow", timeout=0.1))
    await eventually(lambda: began.is_set() and told.event.is_set())
    await eventually(lambda: is_empty(scheduler))
    [line] = [line for line in told.lines if "goes on after" in line]
    assert "id='slow'" in line
    assert "timeout=0.1 " in line
    assert reason in line
    await scheduler.clear_all_tasks()
    await scheduler.close()


@pytest.mark.parametrize("decorated", ["coroutine function", "plain function"])
async def test_what_a_plain_function_returns_is_awaited(make: Make, decorated: str) -> None:
    """aiocron#29: a coroutine or another awaitable, as decorators return them; what it raises fails the run."""
    scheduler = make(partitions=1)
    await scheduler.start_task_accept()
    seen: list[str] = []

    async def work(payload: str) -> None:
        await asyncio.sleep(0)
        seen.append(payload)
        if payload == "fails":
            raise ValueError("after the first step")

    class Later:
        def __init__(self, payload: str) -> None:
            self.payload = payload

        def __await__(self) -> Any:
            return work(self.payload).__await__()

    def plain(payload: str) -> Awaitable[None]:
        return Later(payload) if payload == "awaitable" else work(payload)

    async def nested(payload: str) -> None:
        await plain(payload)

    await scheduler.start_task_execute(plain if decorated == "plain function" else nested)
    await scheduler.assign_tasks(Job(task_id) for task_id in ("awaitable", "coroutine", "fails"))
    await eventually(lambda: is_empty(scheduler))
    assert sorted(seen) == ["awaitable", "coroutine", "fails"]
    [dead] = await scheduler.dead_tasks()
    assert (dead.id, dead.error) == ("fails", "ValueError: after the first step")


async def test_a_worker_whose_tasks_were_cancelled_says_so_and_can_be_started_again(
    flavour: str, redis_servers: list[RedisServer], namespace: str
) -> None:
    """apscheduler#834: cancelled by a scope of other code, in the background, where nobody heard of it."""
    lines = Formatting()
    scheduler = scheduler_of(flavour, redis_servers[0].url, lines, namespace=namespace)
    await scheduler.start_task_accept()
    seen: list[str] = []
    mine = asyncio.current_task()

    async def handler(payload: str) -> None:
        seen.append(payload)
        for task in asyncio.all_tasks() if payload == "hostile" else ():
            if task not in (mine, asyncio.current_task()):
                task.cancel()

    await scheduler.start_task_execute(handler)
    await scheduler.assign_task(Job("hostile"))
    await eventually(lambda: [line for line in lines.lines if "cancelled by other code" in line])
    assert len([line for line in lines.lines if "cancelled by other code" in line]) == 1
    await scheduler.stop_task_execute()
    await scheduler.start_task_execute(handler)
    await scheduler.assign_task(Job("after"))
    await eventually(lambda: "after" in seen)
    await scheduler.clear_all_tasks()
    await scheduler.close()
    assert seen.count("hostile") == 1


class Everything:
    """A proxy that answers to every name, and is called like a function."""

    def __init__(self, called: Callable[[Any], Any]) -> None:
        self._called = called

    def __getattr__(self, name: str) -> Any:
        return Everything(self._called)

    def __call__(self, payload: Any) -> Any:
        return self._called(payload)


class Decorated:
    """A decorator as a class: what it decorates is in `func`, and need not be what is called."""

    def __init__(self, func: Callable[[Any], Awaitable[None]], called: Callable[[Any], Any]) -> None:
        self.func = func
        self._called = called

    def __call__(self, payload: Any) -> Any:
        self._called(payload)


class TestHandlersOfAnySort:
    @pytest.mark.parametrize("sort", ["mock", "magic", "async mock", "proxy", "decorator", "partial", "async object"])
    async def test_what_can_be_called_is_called(self, make: Make, sort: str) -> None:
        """fault-A4, fault-A5: pytest#2208, cpython#77301, litestar#2590."""
        called: list[Any] = []
        threads: list[str] = []

        def note(payload: Any) -> None:
            called.append(payload)
            threads.append(threading.current_thread().name)

        async def note_async(payload: Any) -> None:
            note(payload)

        class Object:
            async def __call__(self, payload: Any) -> None:
                note(payload)

        handler: Any = {
            "mock": lambda: Mock(side_effect=note),
            "magic": lambda: MagicMock(side_effect=note),
            "async mock": lambda: AsyncMock(side_effect=note),
            "proxy": lambda: Everything(note),
            "decorator": lambda: Decorated(note_async, note),
            "partial": lambda: functools.partial(note_async),
            "async object": Object,
        }[sort]()
        scheduler = make()
        await scheduler.start_task_accept()
        await asyncio.wait_for(scheduler.start_task_execute(handler), 5)
        await scheduler.assign_task(Job("a"))
        await eventually(lambda: called == ["a"], 5)
        on_a_thread = threads[0].startswith("interval-scheduler-handler")
        assert on_a_thread == (sort in ("mock", "magic", "proxy", "decorator")), "plain calls must not block the loop"
        await eventually(lambda: is_empty(scheduler))


async def test_threads_that_cannot_be_started_are_asked_for_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """fault-A6: dagobah#181."""
    start = threading.Thread.start
    refusing = True

    def refused(thread: threading.Thread) -> None:
        if refusing and thread.name.startswith("interval-scheduler-handler"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    monkeypatch.setattr(runners, "_GROW_SECONDS", 0.05)
    scheduler = make(partitions=4, concurrency=5)
    await scheduler.start_task_accept()
    ran = Ran(lambda _payload: None, coroutine=False)
    await scheduler.start_task_execute(ran.handler)
    await scheduler.assign_tasks(Job(f"healthy:first:{n}") for n in range(20))
    worker = scheduler.real._engine.worker
    assert worker is not None
    await eventually(lambda: worker.slots.occupied == 5)
    assert ran.healthy == 0
    refusing = False
    await eventually(lambda: ran.healthy == 20)
    await others_run(scheduler, ran, "threads")


NOW = int(time.time() * 1000)
RECORDS = {
    "follow of letters": b"s1000000,rev,,,,,,=abc\n\x90",
    "extra run without a follow": b"s1000000,rev,,,,,x\n\x91\x01",
    "body that is no list": b"s1000000,rev\n\x01",
    "jitter of text": b"s1000000,rev\n" + msgpack.packb([1, 60_000, {"j": "x"}]),
    "due of 500 digits": b"s" + b"9" * 500 + b",rev\n\x91\x01",
    "empty schedule": b"s1000000,rev\n" + msgpack.packb([1, []]),
    "schedule of text": b"s1000000,rev\n" + msgpack.packb([1, ""]),
    "schedule of one": b"s1000000,rev\n" + msgpack.packb([1, ["* * * * *"]]),
    "unknown zone": b"s1000000,rev\n" + msgpack.packb([1, ["* * * * *", "Nowhere/Else"]]),
    "limit of text": b"s1000000,rev\n" + msgpack.packb([1, 60_000, {"m": "all", "l": "x"}]),
    "a milliard misfires": b"s1000000,rev\n" + msgpack.packb([1, 1, {"m": "all", "l": 10**9}]),
    "timeout of text": b"s1000000,rev\n" + msgpack.packb([1, None, {"t": "x"}]),
    "unknown delivery": b"s1000000,rev\n" + msgpack.packb([1, None, {"d": "maybe"}]),
    "retry of text": b"s1000000,rev\n" + msgpack.packb([1, None, {"r": "xxxxx"}]),
    "error of a number": b"s1000000,rev\n" + msgpack.packb([1, None, None, 5]),
    "option of a newer version": b"s1000000,rev\n" + msgpack.packb([1, None, {"z": 1}]),
    "no newline": b"s1000000,rev" + b",a" * 34,
    "commas": b"," * 4000,
    "digits": b"s" + b"1" * 30_000,
    "nothing": b"",
    "state of another": b"q1000000,rev\n\x91\x01",
    "revision with a space": b"s1000000,a b\n\x91\x01",
    "revision of 5,000": b"s1000000," + b"r" * 5000 + b"\n\x91\x01",
    "negative strikes": b"w1000000,rev,,,,-5\n\x91\x01",
    "body of nothing": b"s1000000,rev\n",
    "truncated body": b"s1000000,rev\n\x92\xa5ab",
}


@pytest.mark.parametrize("name", RECORDS)
async def test_a_damaged_record_hurts_only_its_task(make: Make, redis_servers: list[RedisServer], name: str) -> None:
    """fault-A7, fault-A8, fault-A9, fault-A10, fault-A14, fault-A16: prefect#17921, django-celery-beat#568."""
    scheduler = make(partitions=2, concurrency=20, lease_seconds=1, max_payload_bytes=100_000)
    await scheduler.start_task_accept()
    ran = Ran(lambda _payload: None, coroutine=True)
    partition = Partition(scheduler, redis_servers, b"bad")
    partition.store(b"bad", RECORDS[name])
    partition.client.slowlog_reset()
    partition.client.config_set("slowlog-log-slower-than", 50_000)
    await scheduler.start_task_execute(ran.handler)
    await others_run(scheduler, ran, name)
    assert [entry for entry in partition.client.slowlog_get() if b"EVALSHA" in entry["command"].upper()] == []
    assert await scheduler.stats()
    await scheduler.dead_tasks()
    found = await scheduler.verify()
    assert (
        name == "option of a newer version"
        or [p.id for p in found.problems if p.id == "bad"]
        or await is_empty(scheduler)
    ), "verify names it, unless it ran"
    assert await scheduler.peek_task("healthy:unknown") is None
    await scheduler.repair()
    await others_run(scheduler, ran, f"{name} again")
    partition.forget(b"bad")


@pytest.mark.parametrize("task_id", [b"\xff", b"\xff" * 2000, b"\x00"])
async def test_an_id_that_is_none_hurts_only_itself(
    make: Make, redis_servers: list[RedisServer], task_id: bytes
) -> None:
    """fault-A8, with neighbours that may run at most once."""
    scheduler = make(partitions=2, concurrency=20, lease_seconds=1)
    await scheduler.start_task_accept()
    ran = Ran(lambda _payload: None, coroutine=True)
    partition = Partition(scheduler, redis_servers, task_id)
    partition.store(task_id, b"s1000000,rev\n\x91\x01")
    await scheduler.assign_tasks(Job(f"healthy:once:{n}", delivery="at_most_once") for n in range(20))
    await scheduler.start_task_execute(ran.handler)
    await eventually(lambda: ran.healthy == 20)
    await others_run(scheduler, ran, "ids")
    assert await scheduler.dead_tasks() == []
    await scheduler.verify()
    await scheduler.repair()
    partition.forget(task_id)


@pytest.mark.parametrize("damage", [b"", b"garbage", b"1,2,3\n\xc1", b"\xff" * 50], ids=range(4))
async def test_a_damaged_dead_letter_holds_up_no_other(
    make: Make, redis_servers: list[RedisServer], damage: bytes
) -> None:
    """good_job#1263: one that could not be read kept all others from being tried again."""
    scheduler = make(partitions=1, concurrency=20)
    await scheduler.start_task_accept()
    ran = Ran(_raises(lambda: ValueError("no")), coroutine=True)
    await scheduler.start_task_execute(ran.handler)
    await scheduler.assign_tasks(Job(task_id) for task_id in ("a", "b", "c"))

    async def are_dead() -> bool:
        return len(await scheduler.dead_tasks()) == 3

    await eventually(are_dead)
    await scheduler.stop_task_execute()
    partition = Partition(scheduler, redis_servers, b"b")
    partition.client.hset(partition.key(keys.DEAD_RECORDS), "b", damage)
    found = {task.id: task.problem for task in await scheduler.dead_tasks()}
    assert (found["a"], found["c"]) == ("", "")
    assert found["b"]
    assert await scheduler.retry_dead_tasks() >= 2
    assert await scheduler.is_scheduled("a")
    assert await scheduler.is_scheduled("c")
    await scheduler.start_task_execute(ran.handler)
    await others_run(scheduler, ran, "dead letters")
    partition.forget(b"b")


DAMAGED_KEYS: dict[str, Callable[[Partition], Any]] = {
    "retries are text": lambda p: p.client.set(p.key(keys.RETRIES), "x"),
    "leases are text": lambda p: p.client.set(p.key(keys.LEASES), "x"),
    "index is a hash": lambda p: (p.client.delete(p.key(keys.INDEX)), p.client.hset(p.key(keys.INDEX), "a", "b")),
    "tasks are a list": lambda p: (p.client.delete(p.key(keys.TASKS)), p.client.rpush(p.key(keys.TASKS), "x")),
    "sequence of letters": lambda p: p.client.set(p.key(keys.SEQUENCE), "abc"),
    "endless sequence": lambda p: p.client.set(p.key(keys.SEQUENCE), "inf"),
    "sequence is a list": lambda p: (p.client.delete(p.key(keys.SEQUENCE)), p.client.rpush(p.key(keys.SEQUENCE), "x")),
    "writes of letters": lambda p: p.client.hset(p.home.meta, "writes", "many"),
    "width of letters": lambda p: p.client.hset(p.home.meta, "width", "wide"),
    "width of zero": lambda p: p.client.hset(p.home.meta, "width", "0"),
    "starts of letters": lambda p: p.client.hset(p.home.meta, "starts", "a:b c " * 5000),
    "meta is text": lambda p: p.client.set(p.home.meta, "x"),
    "index of 20,000 empty buckets": lambda p: p.client.zadd(p.key(keys.INDEX), {f"b{n}": n for n in range(20_000)}),
    "endless scores": lambda p: p.client.zadd(p.key(keys.RETRIES), {"inf": float("inf"), "-inf": float("-inf")}),
}


NONSENSE = (b"abc", b"", b"-1", b"1e3", b"\xff", b"9" * 30)
DAMAGED_TOPOLOGIES: list[tuple[str, bytes | None]] = [
    *((name, value) for name in ("format", "partitions", "width") for value in (None, *NONSENSE)),
    *(("owners", value) for value in (None, b"", b"\xc1", b"\x90", b"\x91\x93", b"\x92\xa1a\x01", b"\xa1a", b"\x80")),
    *(("state", value) for value in (None, b"", b"\xff", b"readily")),
]


@pytest.mark.parametrize(("name", "value"), DAMAGED_TOPOLOGIES, ids=lambda value: ascii(value)[:20])
async def test_a_damaged_topology_is_told_with_its_key_and_field(
    make: Make, redis_servers: list[RedisServer], namespace: str, name: str, value: bytes | None
) -> None:
    """kombu#2023: a member of `_kombu.binding` with other separators made each call a ValueError."""
    first, second = make(partitions=2), make(partitions=2)
    await first.start_task_accept()
    with redis.Redis.from_url(redis_servers[0].url) as client:
        key = keys.topology(namespace)
        before = client.hget(key, name)
        client.hdel(key, name) if value is None else client.hset(key, name, value)
        with pytest.raises(TopologyMismatch, match=f"is damaged: {name} of the hash '{{{namespace}}}:topology'"):
            await second.start_task_accept()
        assert await first.assign_task(Job("a")), "whoever has joined goes on"
        client.hset(key, name, before)
    await second.start_task_accept()
    assert await second.is_scheduled("a")


async def test_a_name_of_an_instance_that_is_none(make: Make, redis_servers: list[RedisServer], namespace: str) -> None:
    """As kombu#2023."""
    first, second = make(partitions=2), make(partitions=2)
    await first.start_task_accept()
    with redis.Redis.from_url(redis_servers[0].url) as client:
        client.set(keys.instance_name(namespace), b"\xff")
        with pytest.raises(TopologyMismatch, match=r"is known as '\\\\xff'"):
            await second.start_task_accept()
        client.set(keys.instance_name(namespace), "redis-0")


@pytest.mark.parametrize("damage", [b"abc", b"inf", b"nan", b"-1e400", b"\xff", None])
async def test_a_damaged_sequence_of_locks_begins_anew(
    make: Make, redis_servers: list[RedisServer], namespace: str, damage: bytes | None
) -> None:
    """As kombu#2023. It was told as an outage that would pass."""
    scheduler = make(partitions=2)
    await scheduler.start_task_accept()
    lock = await scheduler.try_lock("stock")
    await scheduler.unlock(lock)
    with redis.Redis.from_url(redis_servers[0].url) as client:
        key = keys.lock_sequence(namespace)
        client.delete(key)
        client.lpush(key, "a list") if damage is None else client.set(key, damage)
    again = await scheduler.try_lock("stock")
    assert again.fencing_token > lock.fencing_token
    assert await scheduler.unlock(again)


@pytest.mark.parametrize("name", DAMAGED_KEYS)
async def test_a_damaged_key_hurts_only_its_partition(make: Make, redis_servers: list[RedisServer], name: str) -> None:
    """fault-A11."""
    scheduler = make(partitions=6, concurrency=20, lease_seconds=2, check_tasks_every_seconds=0.5)
    await scheduler.start_task_accept()
    layout = scheduler.real._engine.layout
    assert layout is not None
    partition = Partition(scheduler, redis_servers, b"bad")
    neighbours = [f"healthy:{n}" for n in range(2000) if layout.home(f"healthy:{n}".encode()) is not partition.home]
    saved = {key: partition.client.dump(key) for key in partition.client.scan_iter(f"{partition.key('')}*")}
    DAMAGED_KEYS[name](partition)
    ran = Ran(lambda _payload: None, coroutine=True)
    try:
        await scheduler.start_task_execute(ran.handler)
        for batch in (neighbours[:HEALTHY], neighbours[HEALTHY : 2 * HEALTHY]):
            expected = ran.healthy + HEALTHY
            await scheduler.assign_tasks(Job(task_id) for task_id in batch)
            await eventually(functools.partial(ran.has_run, expected), 5)
        found = await scheduler.verify()
        harmless = name in ("writes of letters", "starts of letters", "sequence of letters", "endless sequence")
        assert harmless or any(problem.partition == partition.home.number for problem in found.problems)
        await scheduler.repair()
        await scheduler.stop_task_execute()
    finally:
        for key in partition.client.scan_iter(f"{partition.key('')}*"):
            partition.client.delete(key)
        for key, value in saved.items():
            partition.client.restore(key, 0, value)


@pytest.mark.parametrize("count", [1, 5000])
async def test_members_among_the_workers_that_are_none(
    make: Make, redis_servers: list[RedisServer], namespace: str, count: int
) -> None:
    """fault-A12."""
    scheduler = make(partitions=4)
    await scheduler.start_task_accept()
    with redis.Redis.from_url(redis_servers[0].url) as client:
        client.zadd(keys.workers(namespace), {b"\xff%d" % n: 4_000_000_000_000 for n in range(count)})
        ran = Ran(lambda _payload: None, coroutine=True)
        await scheduler.start_task_execute(ran.handler)
        await others_run(scheduler, ran, "members")
        client.delete(keys.workers(namespace))


@pytest.mark.parametrize("message", [b"\xff", b"", b"a b", b"nan", b"0 nan", b"1 -inf", b"9" * 400, b"0 " + b"9" * 400])
async def test_garbage_on_a_channel_of_hints(
    make: Make, redis_servers: list[RedisServer], namespace: str, message: bytes
) -> None:
    """fault-A13."""
    scheduler = make(partitions=4)
    lost: list[str] = []
    scheduler.on("db-disconnect", lost.append)
    await scheduler.start_task_accept()
    ran = Ran(lambda _payload: None, coroutine=True)
    await scheduler.start_task_execute(ran.handler)
    for server in redis_servers:
        with redis.Redis.from_url(server.url) as client:
            for channel in [*(keys.hint_channel(namespace, n) for n in range(4)), keys.any_hint_channel(namespace)]:
                client.publish(channel, message)
    await others_run(scheduler, ran, "hints")
    assert lost == []


async def test_the_end_of_the_calendar(make: Make) -> None:
    """fault-A15: crontabula#17."""
    scheduler = make(partitions=4)
    await scheduler.start_task_accept()
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    await scheduler.assign_task(Job("last", execute_on=last, jitter=3600 * 24 * 300))
    await scheduler.assign_task(Job("late", execute_on=last, reschedule_interval=3600 * 24 * 365 * 99))
    for name in ("last", "late"):
        task = await scheduler.peek_task(name)
        assert task.due.year == 9999
    assert {task.id for task in await scheduler.upcoming()} == {"last", "late"}
    assert (await scheduler.stats()).scheduled == 2
    assert await scheduler.run_task_now("late")
    ran = Ran(lambda _payload: None, coroutine=True)
    await scheduler.start_task_execute(ran.handler)
    await others_run(scheduler, ran, "calendar")
    await scheduler.remove_tasks(["last", "late"])
    assert after(0) < last.timestamp()


async def test_each_run_has_a_context_of_its_own(make: Make, coroutine: bool) -> None:
    """fault-C5: django-structlog#76, hatchet#1711."""
    seen: list[tuple[str, int, str]] = []
    scheduler = make(partitions=2, concurrency=1)
    await scheduler.start_task_accept()

    def look(payload: str) -> None:
        seen.append((_bound.get(), decimal.getcontext().prec, current_execution().id))
        _bound.set(payload)
        decimal.getcontext().prec = 3

    async def handler(payload: str) -> None:
        look(payload)
        await asyncio.sleep(0.001)
        assert (_bound.get(), current_execution().id) == (payload, payload)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            inner = group.create_task(_inner())
        assert inner.result() == payload
        await asyncio.wait_for(asyncio.sleep(0), 1)

    await scheduler.start_task_execute(handler if coroutine else look)
    await scheduler.assign_tasks(Job(f"{n}") for n in range(20))
    await eventually(lambda: is_empty(scheduler))
    assert [entry[:2] for entry in seen] == [("nothing", 28)] * 20
    assert {entry[2] for entry in seen} == {f"{n}" for n in range(20)}
    assert await scheduler.dead_tasks() == []


_bound: contextvars.ContextVar[str] = contextvars.ContextVar("bound", default="nothing")


async def _inner() -> str:
    await asyncio.sleep(0)
    return current_execution().id
