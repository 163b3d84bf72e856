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


MEMBERS = """
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from interval_scheduler import Cron, Retry, Task


class InClass(Task):
    id = 5  # wrong
    execute_on = "2030-01-01"  # wrong
    reschedule_interval = "60"  # wrong
    retry = 3  # wrong
    timeout = "5"  # wrong
    misfire = 5  # wrong
    misfire_limit = "10"  # wrong
    delivery = None  # wrong
    jitter = "1"  # wrong


class InInit(Task):
    def __init__(self) -> None:
        self.id = 5  # wrong
        self.execute_on = "2030-01-01"  # wrong
        self.reschedule_interval = "60"  # wrong
        self.retry = 3  # wrong
        self.timeout = "5"  # wrong
        self.misfire = 5  # wrong
        self.misfire_limit = 1.5  # wrong
        self.delivery = None  # wrong
        self.jitter = None  # wrong


class Properties(Task):
    @property
    def id(self) -> int:  # wrong
        return 5

    @property
    def execute_on(self) -> Cron:  # wrong
        return Cron("@daily")

    @property
    def reschedule_interval(self) -> str:  # wrong
        return "60"

    @property
    def retry(self) -> int | None:  # wrong
        return 3


class Methods(Task):
    def reschedule_interval(self) -> float:  # wrong
        return 60

    async def serialize(self, more: int) -> None:  # wrong
        return None


@dataclass
class Fields(Task):
    id: int  # wrong
    execute_on: str | None = None  # wrong
    reschedule_interval: str = "60"  # wrong
    retry: int = 3  # wrong
    timeout: timedelta | str | None = None  # wrong
    misfire: int = 0  # wrong
"""
METHODS = """
from interval_scheduler import AsyncScheduler, Cron, Postpone, Retry, RetryAfter, Scheduler, current_execution

s = Scheduler("memory://")
s.assign_task("a")  # wrong
s.assign_task(None)  # wrong
s.assign_tasks(5)  # wrong
s.assign_tasks(["a"])  # wrong
s.post({}, "5")  # wrong
s.post({}, 5, id=5)  # wrong
s.post({}, 5, max_retries="3")  # wrong
s.remove_task(5)  # wrong
s.remove_tasks([5])  # wrong
s.reschedule_task("a", delay="5")  # wrong
s.reschedule_task("a", execute_on="2030-01-01")  # wrong
s.reschedule_task("a", execute_on=Cron("@daily"))  # wrong
s.run_task_now(5)  # wrong
s.is_scheduled(5)  # wrong
s.peek_task(5)  # wrong
s.upcoming(offset="5")  # wrong
s.upcoming(duration="5")  # wrong
s.upcoming(limit="5")  # wrong
s.confirm_task("a", "5")  # wrong
s.try_lock(5)  # wrong
s.try_auto_lock("a", "5")  # wrong
s.purge_dead_tasks(before="2030-01-01")  # wrong
s.retry_dead_tasks([5])  # wrong
s.start_task_execute(5)  # wrong
s.start_task_execute(print, confirm="always")  # wrong
s.stop_task_execute(grace="5")  # wrong
s.wait(grace="5")  # wrong
s.on(5, print)  # wrong
s.on("online", 5)  # wrong
Retry(max_retries="3")  # wrong
Retry(backoff="5")  # wrong
Retry(factor=None)  # wrong
Cron(5)  # wrong
Cron("@daily", tz=5)  # wrong
RetryAfter("5")  # wrong
Postpone(None)  # wrong
current_execution().extend("5")  # wrong


async def use(a: AsyncScheduler) -> None:
    await a.assign_task("a")  # wrong
    await a.post({}, "5")  # wrong
    await a.reschedule_task("a", delay="5")  # wrong
    await a.try_auto_lock("a", "5")  # wrong
    await a.stop_task_execute(grace="5")  # wrong
    await a.start_task_execute(5)  # wrong
"""
RIGHT = """
from datetime import UTC, datetime, timedelta

import pendulum
from interval_scheduler import Cron, Retry, Scheduler, Task


class Pendulum(Task):
    id = "a"
    execute_on = pendulum.now()
    reschedule_interval = pendulum.duration(minutes=1)
    timeout = pendulum.duration(minutes=1)
    jitter = pendulum.duration(minutes=1)
    retry = Retry(backoff=pendulum.duration(minutes=1))

    def serialize(self) -> dict[str, int]:
        return {}


class Later(Task):
    id: str
    execute_on: datetime | None = None
    reschedule_interval: Cron | float | None = None

    def __init__(self) -> None:
        self.id = "a"
        self.reschedule_interval = Cron("@daily")
        self.own = 5

    def serialize(self) -> int:
        return self.own


scheduler = Scheduler("memory://")
scheduler.assign_task(Pendulum())
scheduler.post({}, pendulum.duration(minutes=1))
scheduler.post({}, timedelta(minutes=1))
scheduler.reschedule_task(Later(), execute_on=pendulum.now())
scheduler.reschedule_task("a", delay=pendulum.duration(minutes=1))
scheduler.stop_task_execute(grace=timedelta(seconds=5))
scheduler.purge_dead_tasks(before=datetime.now(UTC))
task: Task = Later()
print(task.id, task.reschedule_interval, task.retry.max_retries)
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
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", f"--cache-dir={path.parent}", "user.py"],
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


@pytest.mark.parametrize("text", [MEMBERS, METHODS], ids=["members", "methods"])
def test_what_is_refused_at_run_time_is_refused_by_the_checker(tmp_path: Path, text: str) -> None:
    """fault-D8: each line marked as wrong, and no other one."""
    found = {int(line.split(":")[1]) for line in check(tmp_path, text).stdout.splitlines() if ": error: " in line}
    assert found == {number for number, line in enumerate(text.splitlines(), 1) if "# wrong" in line}


def test_times_and_durations_of_subclasses_pass_a_strict_checker(tmp_path: Path) -> None:
    """fault-D1."""
    result = check(tmp_path, RIGHT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_shape_of_a_task_can_be_prepared(tmp_path: Path) -> None:
    path = tmp_path / "user.py"
    path.write_text(USER)
    tasks = runpy.run_path(str(path), run_name="user")["tasks"]
    assert [prepare(task, 1000, lambda: 0)[0] for task in tasks] == [b"properties", b"a", b"in class", b"a", b"a", b"b"]
