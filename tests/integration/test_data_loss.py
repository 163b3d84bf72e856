"""An instance that came back older than it was is noticed, whoever knew of what it lost, and tokens never go back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis

from interval_scheduler import AssignFailed, AsyncScheduler, Event, Scheduler, TopologyMismatch, current_execution
from tests.servers import Binary, RedisServer
from tests.tasks import Job, Uniform, after, eventually


@pytest.fixture
async def server(server_binary: Binary) -> AsyncIterator[RedisServer]:
    made = RedisServer(server_binary, {"appendonly": "yes", "appendfsync": "always", "aof-load-truncated": "yes"})
    yield made
    made.stop()


class Loss:
    """A scheduler on one server, and what it reports."""

    def __init__(self, flavour: str, server: RedisServer) -> None:
        kind = Scheduler if flavour == "blocking" else AsyncScheduler
        self.log: list[str] = []
        self.scheduler = Uniform(
            kind(
                {"storage": {"instances": [{"url": server.url, "name": "redis-0"}], "reconnect_interval_seconds": 0.2}},
                partitions=4,
                logger=self,
            )
        )
        self.events: list[Event] = []
        self.scheduler.real.on("data-loss", self.events.append)

    def warning(self, line: str) -> None:
        """A logger needs this one."""

    def error(self, line: str) -> None:
        self.log.append(line)


@pytest.fixture
async def loss(flavour: str, server: RedisServer) -> AsyncIterator[Loss]:
    made = Loss(flavour, server)
    await made.scheduler.start_task_accept()
    yield made
    await asyncio.wait_for(made.scheduler.close(), 20)


def files(server: RedisServer) -> list[Path]:
    """What the server keeps on disk."""
    return [path for path in Path(server.folder).iterdir() if path.name.startswith("appendonly")]


def backup(server: RedisServer, to: Path) -> None:
    for path in files(server):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, to / path.name)


def append_only_file(server: RedisServer) -> Path:
    """The file it writes to: one of several since 7.0."""
    folder = Path(server.folder)
    return next(iter([*folder.glob("appendonlydir/*.incr.aof"), folder / "appendonly.aof"]))


def restore(server: RedisServer, backup: Path) -> None:
    for path in files(server):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in backup.iterdir():
        (shutil.copytree if path.is_dir() else shutil.copy)(path, Path(server.folder) / path.name)


async def put(loss: Loss, count: int, prefix: str = "task") -> None:
    for number in range(count):
        assert await loss.scheduler.assign_task(Job(f"{prefix} {number}", execute_on=after(3600)))


async def test_a_restart_that_lost_nothing_is_not_reported(loss: Loss, server: RedisServer) -> None:
    await put(loss, 20)
    for _ in range(3):
        server.kill()
        server.restart()
        await eventually(lambda: loss.scheduler.real.online)
        assert await loss.scheduler.task_size() == 20
    await put(loss, 5, "more")
    assert loss.events == []


async def test_a_lost_tail_is_reported(loss: Loss, server: RedisServer) -> None:
    await put(loss, 10)
    log = append_only_file(server)
    size = log.stat().st_size
    await put(loss, 10, "lost")
    server.kill()
    with log.open("r+b") as file:
        file.truncate(size + 7)  # in the middle of a command, as a crash leaves it
    server.restart()
    await eventually(lambda: loss.events)
    [event] = loss.events
    assert event.details["instance"] == "redis-0"
    assert sum(event.details["partitions"].values()) == 10
    assert ["acknowledged" in line for line in loss.log] == [True]
    assert await loss.scheduler.task_size() == 10


async def test_an_old_backup_is_reported_though_new_writes_came_first(
    loss: Loss, flavour: str, server: RedisServer, tmp_path: Path
) -> None:
    await put(loss, 3)
    backup(server, tmp_path)
    await put(loss, 30, "lost")
    assert loss.events == []
    server.kill()
    restore(server, tmp_path)
    other = Loss(flavour, server)
    server.restart()
    # Somebody who never knew writes more than was lost, before who knew is back.
    await other.scheduler.start_task_accept()
    await put(other, 60, "new")
    await other.scheduler.close()
    assert other.events == []
    await eventually(lambda: loss.events)
    assert sum(loss.events[0].details["partitions"].values()) == 30


async def test_an_emptied_server_is_reported(loss: Loss, server: RedisServer, tmp_path: Path) -> None:
    await put(loss, 20)
    server.kill()
    restore(server, tmp_path)
    server.restart()
    await eventually(lambda: loss.events)
    assert sum(loss.events[0].details["partitions"].values()) == 20


async def test_tokens_grow_over_a_loss(loss: Loss, server: RedisServer, tmp_path: Path) -> None:
    tokens: list[int] = []

    def handler(payload: Any) -> None:
        tokens.append(current_execution().fencing_token)

    backup(server, tmp_path)
    await loss.scheduler.start_task_execute(handler)
    await loss.scheduler.assign_tasks(Job(f"first {number}") for number in range(20))
    await eventually(lambda: len(tokens) == 20)
    await loss.scheduler.verify()  # everything is settled
    first = max(tokens)
    server.kill()
    restore(server, tmp_path)
    server.restart()
    await eventually(lambda: loss.events)
    await loss.scheduler.assign_tasks(Job(f"first {number}") for number in range(20))
    await eventually(lambda: len(tokens) == 40)
    assert min(tokens[20:]) > first


async def test_a_server_that_is_emptied_while_it_runs_is_reported(loss: Loss, server: RedisServer) -> None:
    await put(loss, 20)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    for number in range(20):
        with pytest.raises(TopologyMismatch, match="its data was lost"):
            await loss.scheduler.assign_task(Job(f"task {number}"))
    with pytest.raises(AssignFailed) as caught:
        await loss.scheduler.assign_tasks(Job(f"task {number}") for number in range(20))
    assert len(caught.value.not_written) == 20
    assert isinstance(caught.value.__cause__, TopologyMismatch)
    lost = [event.details["partitions"] for event in loss.events]
    assert sum(sum(partitions.values()) for partitions in lost) == 20
    assert len(lost) == len({number for partitions in lost for number in partitions}), "each partition once"
