"""The short form of ``python -m interval_scheduler.testing``, and that a seed is a run that can be had again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from interval_scheduler.testing.faults import HANDLER_FAULTS, PROCESS_FAULTS, SERVER_FAULTS
from interval_scheduler.testing.network import FATES
from interval_scheduler.testing.scenario import simulate
from interval_scheduler.testing.servers import Backend


@pytest.mark.timeout(300)  # it computes all the time: on a machine in demand it takes its share
def test_no_seed_violates_a_promise(backends: list[Backend]) -> None:
    faults: Counter[str] = Counter()
    for seed in range(30):
        report = simulate(seed, backends)
        assert report.violations == [], f"seed {seed}"
        assert report.runs > 0
        faults += report.faults
    assert {*SERVER_FAULTS, *PROCESS_FAULTS, *HANDLER_FAULTS, *FATES} <= faults.keys(), "no seed injects these"


def test_a_seed_is_the_same_run_every_time(backends: list[Backend]) -> None:
    first, second = simulate(7, backends), simulate(7, backends)
    assert first == second
    assert simulate(8, backends).digest != first.digest


def test_a_seed_is_the_same_run_in_every_process_and_on_every_server(backends: list[Backend]) -> None:
    program = (
        "from interval_scheduler.testing.scenario import simulate;"
        "from interval_scheduler.testing.servers import Backend;"
        "print(simulate(3, [Backend('memory://a'), Backend('memory://b')]).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert digests == {str(simulate(3, backends).digest)}


def test_the_command_prints_what_it_did() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "interval_scheduler.testing", "--seeds", "6", "--first", "20", "--processes", "2"],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    rows = dict(line.rsplit(maxsplit=1) for line in result.stdout.splitlines())
    assert rows["seeds"] == "6"
    assert rows["violations"] == "0"
    assert float(rows["simulated hours"]) > 0
    assert int(rows["operations"].replace(",", "")) > 1000
    assert int(rows["faults injected"].replace(",", "")) > 0
