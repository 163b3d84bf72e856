"""Schedulers over real servers, blocking and asyncio, for one suite that runs over both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis

from interval_scheduler import AsyncScheduler, Scheduler
from tests.servers import Binary, RedisServer
from tests.tasks import Recorder, Uniform

Make = Callable[..., Uniform]


@pytest.fixture(params=["blocking", "asyncio"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Which of the two schedulers a test gets."""
    return str(request.param)


def storage(servers: list[RedisServer], **more: Any) -> dict[str, Any]:
    """The storage options for named instances on the servers."""
    instances = [{"url": server.url, "name": f"redis-{number}"} for number, server in enumerate(servers)]
    return {"instances": instances, **more}


@pytest.fixture
async def make(flavour: str, redis_servers: list[RedisServer], namespace: str) -> AsyncIterator[Make]:
    """Makes schedulers of the test's flavour on three instances; they are cleared and closed at the end."""
    made: list[Uniform] = []

    def build(**fields: Any) -> Uniform:
        fields.setdefault("storage", storage(redis_servers))
        fields.setdefault("namespace", namespace)
        kind = Scheduler if flavour == "blocking" else AsyncScheduler
        scheduler = Uniform(kind(fields))
        made.append(scheduler)
        return scheduler

    yield build
    for scheduler in made:
        if not scheduler.real._closed:
            await asyncio.wait_for(scheduler.stop_task_execute(grace=2), 20)
    for scheduler in made[:1]:
        if scheduler.real._closed:
            scheduler = build()
        await scheduler.clear_all_tasks()
    for scheduler in made:
        await asyncio.wait_for(scheduler.close(), 20)


def scheduler_of(flavour: str, instance: Any, logger: Any = None, **fields: Any) -> Uniform:
    """A scheduler on one instance, which may be one that cannot be used. The test closes it."""
    kind = Scheduler if flavour == "blocking" else AsyncScheduler
    options = {"storage": {"instances": [instance]}, "partitions": 1, "namespace": "one", **fields}
    return Uniform(kind(options, logger=logger))


@pytest.fixture
async def scheduler(make: Make) -> Uniform:
    """One scheduler that accepts tasks."""
    made = make()
    await made.start_task_accept()
    return made


@pytest.fixture(params=["plain", "coroutine"])
def recorder(request: pytest.FixtureRequest) -> Recorder:
    """A handler that notes its calls: once a plain function, once a coroutine function."""
    return Recorder(coroutine=request.param == "coroutine")


@pytest.fixture
def server(server_binary: Binary) -> Iterator[RedisServer]:
    """A server to be configured at will, with AOF, so that a healthy one has nothing but good findings."""
    made = RedisServer(server_binary, {"appendonly": "yes", "appendfsync": "no"})
    yield made
    made.stop()


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client
