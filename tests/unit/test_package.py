"""What installing the core brings, and what importing it costs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import interval_scheduler

ROOT = Path(__file__).parents[2]


def test_the_core_needs_only_what_it_should() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">")[0].split(";")[0].strip() for requirement in project["dependencies"]}
    assert names == {"redis[hiredis]", "msgpack", "structlog", "cronsim", "tzdata"}
    assert [line for line in project["dependencies"] if "tzdata" in line] == ["tzdata; sys_platform == 'win32'"]


def test_every_public_name_exists() -> None:
    for name in interval_scheduler.__all__:
        assert getattr(interval_scheduler, name) is not None


def test_every_script_is_used() -> None:
    used = " ".join(path.read_text() for path in (ROOT / "interval_scheduler").rglob("*.py"))
    for path in (ROOT / "interval_scheduler" / "lua").glob("*.lua"):
        assert f'"{path.stem}"' in used, path.stem
