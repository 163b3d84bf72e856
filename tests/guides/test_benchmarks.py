"""The benchmarks run: tiny, without peers, and without asking how fast anything was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.capacity import Costs, Limits, plan
from benchmarks.figures import OURS, Figure, Goal, Row, Table, shown
from benchmarks.peers.registry import PEERS
from benchmarks.questions.register import QUESTIONS
from tests.servers import Binary

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks read /proc")


def _run(binary: Binary, module: str, *arguments: str) -> str:
    """What a module prints, run on the servers of a binary."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": os.pathsep.join([str(Path(binary.path).parent), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_quick_run_fills_table_and_json(server_binary: Binary, tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    printed = _run(
        server_binary,
        *("benchmarks", "--quick", "--only", "B1,B2,B4", "--peers", "none"),
        *("--repetitions", "1", "--output", str(output)),
    )
    results = json.loads(output.read_text())
    assert results["about"]["machine"]["cores"]
    rows = {(row["question"], row["what"], row["subject"]): row for row in results["rows"]}
    for row in rows.values():
        assert "missing" not in row, row
        assert f"| {row['what']} | " in printed
    for name in ("B1", "B2", "B4"):
        assert f"### {name}: " in printed
        for goal in QUESTIONS[name].goals:
            assert (name, goal.what, "interval_scheduler") in rows
    assert ("B1", "one call at a time, blocking", "bare EVALSHA") in rows
    assert ("B2", "bulk", "HSET + SADD on a raw socket") in rows


def test_the_account_names_the_folders_of_the_package(server_binary: Binary) -> None:
    printed = _run(server_binary, "benchmarks.account", "--tasks", "20000")
    for title in ("assign_tasks", "running tasks once", "running recurring tasks"):
        assert f"## {title}\n" in printed
    for part in ("core", "protocol", "transport", "worker"):
        assert f"\n| {part} | " in printed


def test_pages_are_made_from_what_a_run_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "HERE", tmp_path)
    shutil.copy(ROOT / "benchmarks" / "README.md", tmp_path)
    question = QUESTIONS["B4"]
    [goal, *_] = question.goals
    table = Table()
    for value in (50_000.0, 60_000.0, 70_000.0):
        table.add("B4", Figure(goal.what, OURS, value, "tasks/s"))
        table.add("B4", Figure("run due tasks", "arq", value / 30, "tasks/s"))
    about = {"machine": {"processor": "Z80", "cores": "1"}, "how": "3 repetitions.", "date": "2026-01-01", "peers": {}}
    left, about_left = report.from_json(report.as_json(table, [question], about))
    report.write_pages(left, [question], about_left)
    readme, results = ((tmp_path / name).read_text() for name in ("README.md", "RESULTS.md"))
    assert "2026-01-01; processor Z80, cores 1. 3 repetitions." in readme
    assert f"| B4 | {goal.what} | ≥ 50,000 | 60,000 tasks/s | 17% | reached |" in readme
    assert "| arq | - | - | 2,000 (0.033 ×) |" in readme
    assert "| run due tasks | arq | 2,000 tasks/s | 17% | | | |".replace(" | | | |", " |  |  |  |") in results


def test_every_peer_has_an_adapter() -> None:
    folder = ROOT / "benchmarks" / "peers"
    for peer in PEERS.values():
        assert (folder / f"{peer.name}.{'js' if peer.node else 'py'}").is_file()


def test_goals_say_what_was_reached() -> None:
    least, most = Goal("rate", 10, 20), Goal("lateness", 3, 1, most=True)
    assert [least.verdict(value) for value in (9, 10, 20)] == ["short", "reached", "beyond"]
    assert [Goal("rate", None, 20).verdict(value) for value in (19, 20)] == ["", "beyond"]
    assert [most.verdict(value) for value in (4, 3, 1)] == ["short", "reached", "beyond"]


def test_capacity_is_what_the_unit_costs_say() -> None:
    costs = Costs(pending_bytes=200, server_run=10, worker_run=20, server_assign=5)
    found = plan(costs, Limits(memory=16e9, busy=0.5), tasks=100e6, rate=100_000, assigned=10_000)
    assert found.memory == 20e9
    assert (found.instances_for_memory, found.instances_for_runs, found.instances) == (2, 3, 3)
    assert found.workers == 4


def test_rows_show_the_median_and_half_the_range() -> None:
    row = Row("B1", "rate", "us", "tasks/s", [90.0, 100.0, 130.0])
    assert (row.median, row.spread) == (100.0, 0.2)
    assert shown(1234.5, "tasks/s") == "1,234 tasks/s"
    assert [shown(value) for value in (0, 0.1234, 1.234, 12.34)] == ["0", "0.123", "1.23", "12.3"]
