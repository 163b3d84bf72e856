"""Workers on machines with time-zone data of different versions, or with none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from interval_scheduler import AsyncScheduler, Cron
from interval_scheduler.doctor import diagnose
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.support.zones import NONE
from tests.integration.conftest import storage
from tests.servers import RedisServer
from tests.tasks import Job, eventually
from tests.unit.test_zones import NO_DATA


class Machine(Runtime):
    """A machine with time-zone data of another version."""

    def __init__(self, version: str) -> None:
        super().__init__()
        self.version = version

    def zone_data(self) -> str:
        return self.version


class Log:
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, line: str) -> None:
        self.lines.append(line)

    error = warning

    def of_zones(self) -> list[str]:
        return [line for line in self.lines if "time zone" in line or "time-zone" in line]


async def _nothing(_payload: Any) -> None: ...


@pytest.fixture
async def fleet(redis_servers: list[RedisServer], namespace: str) -> AsyncIterator[Any]:
    """Starts a worker on a machine with data of a version, "" for one that says nothing as an older release."""
    made: list[AsyncScheduler] = []

    async def start(version: str) -> Log:
        log = Log()
        options = {"storage": storage(redis_servers[:1]), "namespace": namespace, "partitions": 2}
        scheduler = AsyncScheduler(options, log, runtime=Machine(version))
        made.append(scheduler)
        await scheduler.start_task_accept()
        await scheduler.start_task_execute(_nothing)
        return log

    yield start
    for scheduler in made:
        await scheduler.close()


async def test_a_worker_with_older_data_tells_it(fleet: Any, redis_servers: list[RedisServer], namespace: str) -> None:
    """fault-zones: at its start, or when one with newer data comes; who has the newest is silent."""
    unknown, old = await fleet(""), await fleet("2023c")
    assert old.of_zones() == []
    new = await fleet("2025b")
    await eventually(old.of_zones)
    late = await fleet("2024a")
    assert len(late.of_zones()) == 1, "at its start"
    for log, here in ((old, "2023c"), (late, "2024a")):
        [line] = log.of_zones()
        assert "older time-zone data" in line
        assert f"here='{here}' there='2025b'" in line
    assert new.of_zones() == unknown.of_zones() == []
    findings = diagnose({"storage": storage(redis_servers[:1]), "namespace": namespace, "partitions": 2})
    found = [finding.message for finding in findings if finding.check == "zones" and finding.level == "warning"]
    assert [text for text in found if "@2023c' has time-zone data 2023c" in text]
    assert [text for text in found if "@2024a' has time-zone data 2024a" in text]


async def test_a_worker_without_data_beside_others_tells_it(fleet: Any) -> None:
    await fleet("2025b")
    log = await fleet(NONE)
    [line] = log.of_zones()
    assert "has no time-zone data" in line
    assert "pip install tzdata" in line


PROGRAM = """
import time
from interval_scheduler import Scheduler
class Log:
    def warning(self, line): print(line, flush=True)
    error = warning
scheduler = Scheduler({"storage": {"instances": [sys.argv[1]]}, "namespace": sys.argv[2], "partitions": 2}, Log())
scheduler.start_task_accept()
scheduler.start_task_execute(print)
sys.stdin.read()
scheduler.close()
"""


async def test_a_machine_without_data_says_what_to_install(redis_servers: list[RedisServer], namespace: str) -> None:
    """fault-no-zones: tasks with a zone stay, unchanged, for a machine that has data; those without one run."""
    url = redis_servers[0].url
    async with AsyncScheduler([url], namespace=namespace, partitions=2) as scheduler:
        await scheduler.start_task_accept()
        cron = Cron("* * * * * *", "Europe/Paris")
        await scheduler.assign_task(Job("zoned", 1.0, reschedule_interval=cron))
        await scheduler.assign_task(Job("plain"))
        process = subprocess.Popen(
            [sys.executable, "-c", NO_DATA + PROGRAM, url, namespace],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ},
        )
        try:
            await eventually(lambda: _is_gone(scheduler, "plain"), 20)
            await eventually(lambda: _is_retrying(scheduler, "zoned"), 20)
        finally:
            out, _ = process.communicate("", timeout=20)
        lines = [line for line in out.splitlines() if "tasks with a time zone cannot run here" in line]
        assert len(lines) == 1, out
        assert "pip install tzdata" in lines[0]
        task = await scheduler.peek_task("zoned")
        assert task is not None
        assert task.attempt == 1, "it cost the task no attempt"
        await scheduler.remove_task("zoned")


async def _is_gone(scheduler: AsyncScheduler, task_id: str) -> bool:
    return await scheduler.peek_task(task_id) is None


async def _is_retrying(scheduler: AsyncScheduler, task_id: str) -> bool:
    task = await scheduler.peek_task(task_id)
    return task is not None and task.state == "retrying"
