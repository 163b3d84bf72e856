"""redis+sentinel://: an instance is found through Sentinel."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from interval_scheduler import PartitionUnavailable, Scheduler, UnusableInstance
from tests.servers import Binary, RedisServer, _die_with_parent, free_port
from tests.tasks import Job, Recorder, after
from tests.waiting import wait_until


@pytest.fixture
def sentinel_port(server_binary: Binary, own_servers: list[RedisServer], tmp_path: Path) -> Iterator[int]:
    """A Sentinel that watches the first of the test's own servers as "primary"."""
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor primary 127.0.0.1 {own_servers[0].port} 1\n"
        "sentinel down-after-milliseconds primary 500\nsentinel failover-timeout primary 2000\n"
    )
    process = subprocess.Popen(
        [server_binary.path, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent
    )
    with redis.Redis(port=port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100)) as client:
        assert client.ping()
    yield port
    process.kill()
    process.wait()


def test_tasks_run_on_the_primary_that_sentinel_names(sentinel_port: int, own_servers: list[RedisServer]) -> None:
    recorder = Recorder(coroutine=True)
    with Scheduler(f"redis+sentinel://127.0.0.1:{sentinel_port}/primary/0", namespace="sentinel") as scheduler:
        scheduler.start_task_accept()
        scheduler.start_task_execute(recorder.handler)
        scheduler.assign_task(Job("a"))
        wait_until(lambda: recorder.calls)
        with redis.Redis.from_url(own_servers[0].url) as client:
            assert client.exists("{sentinel}:topology")
        scheduler.stop_task_execute()


def test_an_unknown_service_is_unavailable(sentinel_port: int) -> None:
    with (
        Scheduler(f"redis+sentinel://127.0.0.1:{sentinel_port}/other/0") as scheduler,
        pytest.raises(UnusableInstance, match=r"'other/0' .*; use the name of a service that the Sentinels watch"),
    ):
        scheduler.start_task_accept()


def test_fault_d6_a_wrong_login_at_the_sentinels(sentinel_port: int) -> None:
    with redis.Redis(port=sentinel_port) as client:
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">right")
    for login in ("", "?sentinel_password=SECRET", "?sentinel_username=u&sentinel_password=SECRET"):
        with (
            Scheduler(f"redis+sentinel://127.0.0.1:{sentinel_port}/primary/0{login}") as scheduler,
            pytest.raises(UnusableInstance, match="correct sentinel_username and sentinel_password") as caught,
        ):
            scheduler.start_task_accept()
        assert "SECRET" not in repr(caught.value)


def test_sentinels_that_are_away_are_an_outage() -> None:
    with (
        Scheduler(f"redis+sentinel://127.0.0.1:{free_port()}/primary/0") as scheduler,
        pytest.raises(PartitionUnavailable, match="when the instance is back") as caught,
    ):
        scheduler.start_task_accept()
    assert not isinstance(caught.value, UnusableInstance)


@pytest.fixture
def replica(own_servers: list[RedisServer]) -> Iterator[redis.Redis]:
    """A client of a replica of the primary, in step with it."""
    # A server whose role changes closes the connections it has.
    patient = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100)
    with redis.Redis.from_url(own_servers[1].url, decode_responses=True, retry=patient) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", str(own_servers[0].port))
        yield client


@pytest.mark.parametrize("how", ["asked for", "after a crash"])
def test_work_goes_on_at_the_new_primary(
    replica: redis.Redis, sentinel_port: int, own_servers: list[RedisServer], how: str
) -> None:
    """prefect#22436, docket#440: after a failover the process stayed at the old primary, or did nothing."""
    recorder = Recorder(coroutine=True)
    lost: list[object] = []
    with (
        redis.Redis(port=sentinel_port, decode_responses=True) as sentinel,
        Scheduler(f"redis+sentinel://127.0.0.1:{sentinel_port}/primary/0", namespace="sentinel") as scheduler,
    ):
        # Sentinel takes only a replica that it knows and that is in step.
        wait_until(lambda: in_step(replica, sentinel), 30)
        scheduler.on("data-loss", lost.append)
        scheduler.start_task_accept()
        scheduler.start_task_execute(recorder.handler)
        scheduler.assign_task(Job("a", after(0.1), 0.5))
        wait_until(lambda: len(recorder.calls) >= 3)
        wait_until(lambda: state_of(scheduler) == "scheduled")  # a pause, so that the replica has everything
        if how == "asked for":
            sentinel.execute_command("SENTINEL", "FAILOVER", "primary")
        else:
            own_servers[0].kill()
        wait_until(lambda: replica.info("replication")["role"] == "master", 30)
        # Sentinel tells of the new primary once it has seen for itself that it is one.
        wait_until(lambda: primary_port(sentinel) == own_servers[1].port, 30)
        told = time.time()
        wait_until(lambda: recorder.calls[-1].started > told)
        back = next(call.started for call in recorder.calls if call.started > told)
        assert back - told < 3, "it is to be back within two seconds"
        scheduler.remove_task("a")
        scheduler.stop_task_execute()
    slots = [call.due for call in recorder.calls]
    assert len(slots) == len(set(slots))
    assert lost == [], "the replica had everything"


def in_step(replica: redis.Redis, sentinel: redis.Redis) -> bool:
    known = sentinel.sentinel_slaves("primary")
    return replica.info("replication")["master_link_status"] == "up" and any(
        one["flags"] == "slave" and one["master-link-status"] == "ok" for one in known
    )


def primary_port(sentinel: redis.Redis) -> int:
    address: Any = sentinel.sentinel_get_master_addr_by_name("primary")
    return int(address[1])


def state_of(scheduler: Scheduler) -> str | None:
    task = scheduler.peek_task("a")
    return None if task is None else task.state
