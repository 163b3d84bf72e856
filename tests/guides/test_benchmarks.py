"""The benchmarks run: tiny, without peers, and without asking how fast anything was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as main
from benchmarks import report
from benchmarks.bench import Bench
from benchmarks.capacity import Costs, Limits, plan
from benchmarks.figures import OURS, Figure, Goal, Row, Table, format_value
from benchmarks.peers import registry
from benchmarks.peers.registry import PEERS, Peer
from benchmarks.processes import Failed
from benchmarks.question import Question
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
    about = report.About(
        date="2026-01-01",
        machine={"processor": "Z80", "cores": "1"},
        how="3 repetitions.",
        quick=False,
        peers={"saq": {"missing": "not installed: no network"}},
    )
    left, about_left = report.from_json(report.as_json(table, [question], about))
    report.write_pages(left, [question], about_left)
    readme, results = ((tmp_path / name).read_text() for name in ("README.md", "RESULTS.md"))
    assert "2026-01-01; processor Z80, cores 1. 3 repetitions." in readme
    assert f"| B4 | {goal.what} | ≥ 50,000 | 60,000 tasks/s | 17% | reached |" in readme
    assert "| arq | - | - | 2,000 (0.033 ×) |" in readme
    assert "| saq | - | - | - |" in readme
    assert "- **saq**: not installed: no network.\n" in results
    assert "| run due tasks | arq | 2,000 tasks/s | 17% |  |" in results
    assert "| 60,000 tasks/s | 17% | ≥ 50,000, beyond: ≥ 100,000: reached |" in results


def test_a_peer_that_cannot_be_installed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "HOME", tmp_path)
    monkeypatch.setitem(PEERS, "arq", Peer("arq", ("./no-such-folder",)))
    monkeypatch.setitem(PEERS, "bullmq", Peer("bullmq", (), node=True))
    monkeypatch.setenv("NODE", "no-such-node")
    peers, notes = main.prepare_peers("arq,bullmq")
    assert peers == []
    assert notes["arq"]["missing"].startswith("not installed: ")
    assert "no-such-folder" in notes["arq"]["missing"]
    assert notes["bullmq"] == {"missing": "not installed: it runs on Node, and there is no no-such-node on the PATH"}


def test_a_peer_that_does_not_start_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "HOME", tmp_path)
    (tmp_path / "arq").mkdir()
    (tmp_path / "arq" / "ready").touch()
    peers, notes = main.prepare_peers("arq")
    assert peers == []
    assert notes["arq"]["missing"].startswith("arq does not start: ")


def test_a_question_that_fails_does_not_end_the_run() -> None:
    def measure(_bench: Bench) -> Iterator[Figure]:
        yield Figure("rate", OURS, 1.0, "tasks/s")
        raise Failed("no task ran")

    table = Table()
    main.measure_question(Bench(True, [], 10), Question("B0", "rates", measure), table)
    assert [(row.values, row.reason) for row in table.of("B0")] == [([1.0], ""), ([], "no task ran")]


def test_peers_are_measured_in_every_repetition_unless_told_otherwise() -> None:
    def asked(peer_repetitions: int) -> list[bool]:
        bench = Bench(True, [], 10, repetitions=3, peer_repetitions=peer_repetitions)
        return [replace(bench, repetition=repetition).asks_peers for repetition in range(3)]

    assert asked(3) == [True, True, True]
    assert asked(1) == [True, False, False]


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
    assert format_value(1234.5, "tasks/s") == "1,234 tasks/s"
    assert [format_value(value) for value in (0, 0.1234, 1.234, 12.34)] == ["0", "0.123", "1.23", "12.3"]
