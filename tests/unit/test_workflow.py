"""The public CI runs what everybody runs, on every version that is promised."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
SERVERS = ["redis 6.2", "redis 7.2", "redis 7.4", "redis 8", "valkey 8", "valkey 9"]

yaml: Any = importlib.import_module("yaml")  # it has no types


@pytest.fixture
def job() -> Any:
    return yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]


def test_the_matrix_has_every_python_and_every_server(job: Any) -> None:
    matrix = job["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert matrix["server"] == SERVERS
    for entry in matrix["include"]:
        # The tests run on that very version, and it is built from a branch of that version.
        name, version = entry["server"].split()
        assert entry["chosen"] == f"{name}-{version}"
        assert entry["branch"] == version or entry["branch"].startswith(f"{version}.")
    assert [entry["server"] for entry in matrix["include"]] == SERVERS


def test_the_classifiers_name_the_pythons_of_the_matrix() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert [line.rpartition(" ")[2] for line in classifiers if re.search(r":: 3\.\d+$", line)] == PYTHONS


def test_it_runs_the_same_script_as_everybody(job: Any) -> None:
    [step] = [step for step in job["steps"] if step.get("run") == ".ci/run"]
    assert step["env"] == {"INTERVAL_SCHEDULER_REDIS": "${{ matrix.chosen }}"}
    for script in (".ci/run", ".ci/server"):
        assert os.access(ROOT / script, os.X_OK)
        subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)


def test_actions_are_pinned_to_a_version(job: Any) -> None:
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", action) for action in used), used


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_forms_for_issues_can_be_read(form: str) -> None:
    content = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{form}.yml").read_text())
    assert content["name"]
    assert content["description"]
    identifiers = [field["id"] for field in content["body"] if field["type"] != "markdown"]
    assert len(set(identifiers)) == len(identifiers)


@pytest.fixture
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("coverage_table", ROOT / ".ci/coverage_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(lines: int, branches: int) -> dict[str, Any]:
    """A file of 100 lines and 100 branches of which so many were reached."""
    counts = {"covered_lines": lines, "num_statements": 100, "covered_branches": branches, "num_branches": 100}
    return {"summary": counts, "missing_lines": [3, 4, 5, 9], "missing_branches": [[1, 3], [2, 7], [8, -6]]}


@pytest.mark.parametrize(
    ("lines", "branches", "folders", "result"),
    [
        (95, 95, ["core", "protocol", "transport", "worker", "cli"], 0),
        (94, 95, ["core", "protocol", "transport", "worker"], 1),
        (95, 94, ["core", "protocol", "transport", "worker"], 1),
        (95, 95, ["core", "protocol", "transport"], 1),
    ],
    ids=["all reached", "a line", "a branch", "nothing measured in a folder"],
)
def test_coverage_below_the_goal_fails(
    table: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lines: int,
    branches: int,
    folders: list[str],
    result: int,
) -> None:
    files = {f"/x/interval_scheduler/{folder}/module.py": measured(100, 100) for folder in folders}
    files["interval_scheduler/core/module.py"] = measured(lines, branches)
    del files["/x/interval_scheduler/core/module.py"]
    files["interval_scheduler/scheduler.py"] = measured(0, 0)  # which has no goal
    monkeypatch.setattr(table, "report", lambda: files)
    assert table.main() == result
    assert "interval_scheduler/core/module.py without: 3-5, 9, 2->7, 8->exit" in capsys.readouterr().out
