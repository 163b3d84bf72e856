"""Every shape that a task may have, and every option by its name, passes a strict type checker; wrong ones do not."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from interval_scheduler.core.preparation import prepare

ROOT = Path(__file__).parents[2]
USER = """
from dataclasses import dataclass
from datetime import datetime, timedelta, UTC
from typing import Any

from interval_scheduler import AsyncScheduler, Cron, Retry, Scheduler, Task


class Properties(Task):
    @property
    def id(self) -> str:
        return "properties"

    @property
    def execute_on(self) -> datetime | None:
        return datetime.now(UTC)

    @property
    def reschedule_interval(self) -> Cron:
        return Cron("*/5 * * * *")

    @property
    def retry(self) -> Retry:
        return Retry(max_retries=None)

    def serialize(self) -> dict[str, int]:
        return {"a": 1}


class InInit(Task):
    def __init__(self, name: str) -> None:
        self.id = name
        self.execute_on = None
        self.reschedule_interval = timedelta(minutes=1)
        self.retry = Retry()
        self.timeout = 5
        self.misfire = "all"
        self.misfire_limit = 10
        self.delivery = "at_most_once"
        self.jitter = 0.5

    def serialize(self) -> Any:
        return self.id


class InClass(Task):
    id = "in class"
    execute_on = 1_790_000_000
    reschedule_interval = 60
    retry = Retry(max_retries=1)
    timeout = timedelta(seconds=5)
    misfire = "skip"
    misfire_limit = 10
    delivery = "at_most_once"
    jitter = 1

    def serialize(self) -> None:
        return None


@dataclass
class Data(Task):
    id: str
    execute_on: float | None = None
    reschedule_interval: float | timedelta | Cron | None = None
    misfire = "skip"

    def serialize(self) -> str:
        return self.id


@dataclass(frozen=True)
class Frozen(Task):
    id: str
    delivery: str = "at_most_once"

    def serialize(self) -> str:
        return self.id


class Derived(InInit):
    @property
    def extra(self) -> int:
        return 1


tasks: list[Task] = [Properties(), InInit("a"), InClass(), Data("a"), Frozen("a"), Derived("b")]


def assign(scheduler: Scheduler) -> bool:
    scheduler.assign_tasks(tasks)
    scheduler.remove_tasks(tasks)
    return scheduler.assign_task(Frozen("b"))


async def assign_async(scheduler: AsyncScheduler) -> bool:
    await scheduler.assign_tasks(tasks)
    return await scheduler.assign_task(InClass())
"""
WRONG = """
from interval_scheduler import Scheduler


def assign(scheduler: Scheduler) -> None:
    scheduler.assign_task("no task")
"""


OPTIONS = """
from datetime import timedelta
from typing import Any

from interval_scheduler import AsyncScheduler, Options, Scheduler, StorageOptions
from interval_scheduler.doctor import diagnose

settings: dict[str, Any] = {"namespace": "shop"}
Scheduler()
Scheduler("redis://a", namespace="shop", concurrency=5, lease_seconds=timedelta(seconds=5), partitions=8)
Scheduler(["redis://a", {"url": "redis://b", "name": "b"}], master_index=1, check_tasks_every_seconds=1)
Scheduler({"namespace": "shop", "storage": {"instances": ["redis://a"]}}, max_payload_bytes=1000)
Scheduler(Options(StorageOptions(["redis://a"])), evicting_servers="refuse", task_interval_seconds=0.5)
Scheduler(instances=["redis://a"], reconnect_interval_seconds=2.5)
Scheduler(storage={"instances": "redis://a"})
Scheduler(**settings)
AsyncScheduler("redis://a", namespace="shop")
diagnose("redis://a", namespace="shop")
"""
MISSPELT = """
from interval_scheduler import AsyncScheduler, Scheduler
from interval_scheduler.doctor import diagnose

Scheduler(name_space="shop")
AsyncScheduler("redis://a", lease=5)
diagnose(name_space="shop")
Scheduler(concurrency="5")
Scheduler(evicting_servers="ignore")
Scheduler(3)
"""


def check(path: Path, text: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("mypy")
    path.joinpath("user.py").write_text(text)
    # An empty configuration: the one of this project is not that of a user.
    path.joinpath("mypy.ini").write_text("[mypy]\n")
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "user.py"],
        cwd=path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_shape_of_a_task_passes_a_strict_checker(tmp_path: Path) -> None:
    result = check(tmp_path, USER)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_checker_sees_the_types_of_the_package(tmp_path: Path) -> None:
    result = check(tmp_path, WRONG)
    assert result.returncode == 1
    assert 'incompatible type "str"; expected "Task"' in result.stdout


def test_every_option_by_its_name_passes_a_strict_checker(tmp_path: Path) -> None:
    result = check(tmp_path, OPTIONS)
    assert result.returncode == 0, result.stdout + result.stderr


def test_misspelt_and_mistyped_options_are_seen_by_the_checker(tmp_path: Path) -> None:
    lines = check(tmp_path, MISSPELT).stdout.splitlines()
    wrong = [number for number, line in enumerate(MISSPELT.splitlines(), 1) if line.endswith(")")]
    assert len(wrong) == 6
    for number in wrong:
        assert any(line.startswith(f"user.py:{number}: error:") for line in lines), lines


def test_every_shape_of_a_task_can_be_prepared(tmp_path: Path) -> None:
    path = tmp_path / "user.py"
    path.write_text(USER)
    tasks = runpy.run_path(str(path), run_name="user")["tasks"]
    assert [prepare(task, 1000, lambda: 0)[0] for task in tasks] == [b"properties", b"a", b"in class", b"a", b"a", b"b"]
