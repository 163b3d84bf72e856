"""redis+sentinel://: an instance is found through Sentinel."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from interval_scheduler import PartitionUnavailable, Scheduler
from tests.servers import Binary, RedisServer, _die_with_parent, _free_port
from tests.tasks import Job, Recorder, eventually


@pytest.fixture
def sentinel_port(server_binary: Binary, own_servers: list[RedisServer], tmp_path: Path) -> Iterator[int]:
    """A Sentinel that watches the first of the test's own servers as "primary"."""
    port = _free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor primary 127.0.0.1 {own_servers[0].port} 1\n"
    )
    process = subprocess.Popen(
        [server_binary.path, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL, preexec_fn=_die_with_parent
    )
    with redis.Redis(port=port, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100)) as client:
        assert client.ping()
    yield port
    process.kill()
    process.wait()


async def test_tasks_run_on_the_primary_that_sentinel_names(sentinel_port: int, own_servers: list[RedisServer]) -> None:
    recorder = Recorder(coroutine=True)
    with Scheduler(f"redis+sentinel://127.0.0.1:{sentinel_port}/primary/0", namespace="sentinel") as scheduler:
        scheduler.start_task_accept()
        scheduler.start_task_execute(recorder.handler)
        scheduler.assign_task(Job("a"))
        await eventually(lambda: recorder.calls)
        with redis.Redis.from_url(own_servers[0].url) as client:
            assert client.exists("{sentinel}:topology")
        scheduler.stop_task_execute()


def test_an_unknown_service_is_unavailable(sentinel_port: int) -> None:
    with (
        Scheduler(f"redis+sentinel://127.0.0.1:{sentinel_port}/other/0") as scheduler,
        pytest.raises(PartitionUnavailable, match="other"),
    ):
        scheduler.start_task_accept()
