"""What a scheduler does at connect about how its servers are set up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
import redis

from interval_scheduler import AsyncScheduler, PartitionUnavailable, Scheduler, UnsuitableServer
from tests.integration.conftest import storage
from tests.integration.diagnosis import Altered, as_redis_6_0
from tests.keyspace import contents
from tests.servers import RedisServer
from tests.tasks import Job, Uniform, eventually
from tests.unit.test_doctor import Lines


@pytest.mark.parametrize("kind", [Scheduler, AsyncScheduler])
async def test_what_is_wrong_is_logged_once_over_many_connections(server: RedisServer, admin: Any, kind: Any) -> None:
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.config_set("maxmemory", "1gb")
    logger = Lines()
    started: list[Any] = []
    scheduler = Uniform(kind(server.url, logger))
    try:
        await scheduler.start_task_accept()
        assert logger.checks == [("error", f"127.0.0.1:{server.port}/0", "eviction")]
        await scheduler.start_task_execute(started.append)
        await scheduler.assign_task(Job("a"))
        await eventually(lambda: started == ["a"])
        admin.client_kill_filter(_type="normal", skipme=True)
        await scheduler.assign_task(Job("b"))
        await eventually(lambda: started == ["a", "b"])
    finally:
        await scheduler.close()
    assert [line for line in logger.checks if line[2] == "eviction"] == logger.checks[:1]


@pytest.mark.parametrize("kind", [Scheduler, AsyncScheduler])
async def test_an_evicting_server_is_refused_by_option(own_servers: list[RedisServer], kind: Any) -> None:
    """At the start any instance; later only what its partitions hold, until it is corrected."""
    options = {"storage": storage(own_servers, evicting_servers="refuse")}
    with redis.Redis.from_url(own_servers[1].url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", "1gb")
        refused = Uniform(kind(options, Lines()))
        with pytest.raises(UnsuitableServer, match=r"'redis-1'.* allkeys-lru: .*; set maxmemory-policy noeviction"):
            await refused.start_task_accept()
        await refused.close()
        assert [contents(server) for server in own_servers[1:2]] == [{}]

        client.config_set("maxmemory-policy", "noeviction")
        ran: list[Any] = []
        scheduler = Uniform(kind(options, Lines()))
        try:
            await scheduler.start_task_accept()
            await scheduler.start_task_execute(ran.append)
            jobs = [Job(str(number), time.time() + 1000) for number in range(20)]
            await scheduler.assign_tasks(jobs)
            client.config_set("maxmemory-policy", "volatile-lru")
            client.client_kill_filter(_type="normal", skipme=True)
            outcomes = [await outcome(scheduler.assign_task(job)) for job in jobs]
            assert set(outcomes) == {False, UnsuitableServer}
            client.config_set("maxmemory-policy", "noeviction")
            assert [await outcome(scheduler.assign_task(job)) for job in jobs] == [False] * 20
            for job in jobs:
                await scheduler.run_task_now(job.id)
            await eventually(lambda: {job.id for job in jobs} <= set(ran))  # the worker is back too
            await scheduler.clear_all_tasks()
        finally:
            await scheduler.close()


async def outcome(call: Awaitable[bool]) -> object:
    """What a call returns, or the class of its error."""
    try:
        return await call
    except PartitionUnavailable as error:
        return type(error)


def make_namespace(servers: list[RedisServer]) -> None:
    with Scheduler({"storage": storage(servers)}, Lines()) as scheduler:
        scheduler.start_task_accept()


@pytest.mark.parametrize("kind", [Scheduler, AsyncScheduler])
@pytest.mark.parametrize("old", ["redis-0", "redis-1"])
@pytest.mark.parametrize("existing", [False, True])
async def test_an_old_version_is_refused_at_the_start(
    own_servers: list[RedisServer], kind: Any, old: str, existing: bool
) -> None:
    if existing:
        await asyncio.to_thread(make_namespace, own_servers)
    before = contents(own_servers[int(old[-1])])
    logger = Lines()
    runtime = Altered(**{old: as_redis_6_0})
    scheduler = Uniform(kind({"storage": storage(own_servers)}, logger, runtime=runtime))
    with pytest.raises(UnsuitableServer, match=rf"{old}.* Redis 6\.0\.16 lacks commands .*upgrade to Redis 6\.2"):
        await scheduler.start_task_accept()
    with pytest.raises(UnsuitableServer):
        await scheduler.start_task_execute(print)
    await scheduler.close()
    assert logger.checks == [("error", old, "version")]
    assert contents(own_servers[int(old[-1])]) == before, "nothing was written to it"


@pytest.mark.parametrize("kind", [Scheduler, AsyncScheduler])
async def test_connecting_asks_info_once_per_connection_and_calls_do_not(
    server: RedisServer, admin: Any, kind: Any
) -> None:
    def asked() -> int:
        return int(admin.info("commandstats")["cmdstat_info"]["calls"])

    scheduler = Uniform(kind(server.url, Lines()))
    try:
        before = asked()
        await scheduler.start_task_accept()
        started = asked() - before - 1  # without the one that asks
        assert started == 1
        for number in range(20):
            await scheduler.assign_task(Job(str(number), time.time() + 1000))
        assert asked() - before - 2 == started
        await scheduler.clear_all_tasks()
    finally:
        await scheduler.close()


@pytest.mark.parametrize("kind", [Scheduler, AsyncScheduler])
async def test_servers_that_are_fine_or_keep_nothing_on_purpose_are_not_spoken_of(
    server: RedisServer, tmp_path: Path, kind: Any
) -> None:
    for url in (server.url, "memory://quiet", f"embedded://{tmp_path}"):
        logger = Lines()
        scheduler = Uniform(kind(url, logger, evicting_servers="refuse"))
        await scheduler.start_task_accept()
        await scheduler.assign_task(Job("one", time.time() + 1000))
        assert await scheduler.clear_all_tasks() == 1
        await scheduler.close()
        assert logger.lines == []
