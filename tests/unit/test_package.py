"""What installing the core brings, and what importing it costs."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import interval_scheduler
from interval_scheduler import AsyncScheduler, Scheduler

ROOT = Path(__file__).parents[2]


def test_the_core_needs_only_what_it_should() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0].split(";")[0].strip() for requirement in project["dependencies"]}
    assert names == {"redis[hiredis]", "msgpack", "structlog", "cronsim", "tzdata"}
    assert [line for line in project["dependencies"] if "tzdata" in line] == ["tzdata; sys_platform == 'win32'"]


def test_every_public_name_exists() -> None:
    for name in interval_scheduler.__all__:
        assert getattr(interval_scheduler, name) is not None


def test_importing_the_schedulers_loads_neither_an_event_loop_nor_tls() -> None:
    code = "import sys; from interval_scheduler import AsyncScheduler, Scheduler, Task; print(*sys.modules)"
    # A measurement of coverage would be started with the process, and loads more than the package does.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    assert not set(result.stdout.split()) & {"asyncio", "ssl", "logging", "socket", "urllib.parse", "zoneinfo"}


def test_every_script_is_used() -> None:
    used = " ".join(path.read_text() for path in (ROOT / "interval_scheduler").rglob("*.py"))
    for path in (ROOT / "interval_scheduler" / "lua").glob("*.lua"):
        assert f'"{path.stem}"' in used, path.stem


def public(kind: type) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


def test_both_schedulers_have_the_same_methods_with_the_same_arguments() -> None:
    blocking, coroutines = public(Scheduler), public(AsyncScheduler)
    assert blocking.keys() == coroutines.keys()
    for name, method in blocking.items():
        if callable(method):
            ours = str(list(inspect.signature(method).parameters.values()))
            theirs = str(list(inspect.signature(coroutines[name]).parameters.values()))
            assert ours == theirs.replace("AsyncLock", "Lock"), name


@pytest.mark.parametrize("name", interval_scheduler.__all__)
def test_everything_public_is_documented(name: str) -> None:
    thing = getattr(interval_scheduler, name)
    if not callable(thing):
        return
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}("), "a dataclass made it up"
    if isinstance(thing, type):
        for member, value in public(thing).items():
            if callable(value) or isinstance(value, property):
                assert inspect.getdoc(value), f"{name}.{member}"
