"""When the ends of runs are reported: together, and not while there is something to claim."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from interval_scheduler.core.definition import Definition
from interval_scheduler.core.record import parse_header
from interval_scheduler.core.settlement import End, Outcome, Settlement
from interval_scheduler.model.events import Events
from interval_scheduler.model.options import load_options
from interval_scheduler.protocol.commands import Command, Partition
from interval_scheduler.protocol.topology import Layout
from interval_scheduler.support.log import Log
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.worker.context import Context
from interval_scheduler.worker.run import Run
from interval_scheduler.worker.server_clock import ServerClock
from interval_scheduler.worker.settler import Settler
from tests.tasks import eventually

_HEADER = b"r1000,revision,5"
_HOME = Partition(0, "redis", "{ns:0}:meta")
_LIMIT = 250
_NOBODY: Any = None
"""Handlers that do not run ask nothing of their worker."""


class Claimer:
    """Nothing to claim, or much."""

    def __init__(self, is_behind: bool) -> None:
        self.is_behind = is_behind
        self.server = ServerClock()

    def hint(self, _partition: int, _due_ms: float) -> None:
        """Nobody waits for what runs again."""


class Reports:
    """A settler whose reports are all accepted, and the sizes of its calls."""

    def __init__(self, behind: bool) -> None:
        self.claimer = Claimer(behind)
        self.sizes: list[int] = []
        self.settled: list[str] = []
        log, options = Log(), load_options("memory://", {"lease_seconds": 1.0}, {})
        layout = Layout("ns", "redis", (_HOME,))
        claims = cast("Any", self)
        context = Context("me", layout, options, self._execute, Events(log), log, Runtime())
        self.settler = Settler(context, cast("Any", self.claimer), claims)

    def settle(self, run: Run, _settlement: Settlement) -> None:
        self.settled.append(run.task_id)

    def count_settled(self, _count: int) -> None:
        """Nobody claims here."""

    async def _execute(self, commands: Sequence[Command], pipeline: str) -> list[Any]:
        await asyncio.sleep(0)
        sizes = [(len(command.args) - 3) // 3 for command in commands]
        self.sizes += sizes
        return [[b"ok", 1_000_000, b"o" * size] for size in sizes]

    def add(self, count: int) -> None:
        for number in range(count):
            task_id = f"{len(self.settled)}-{number}"
            live = (task_id, parse_header(_HEADER), Definition(None), 1000, 1000, False)
            run = Run(*live, _NOBODY, _HOME, task_id.encode(), _HEADER, 1000, 1e9)
            run.outcome = Outcome(End.DONE)
            self.settler.add(run)


@pytest.fixture
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the machine stands still, no end is reported only because it has waited long enough."""
    monkeypatch.setattr("interval_scheduler.worker.settler._WAIT_SECONDS", 3600.0)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_end_is_reported_at_once_where_there_is_nothing_to_claim() -> None:
    reports = Reports(behind=False)
    reports.add(1)
    await turns()
    assert reports.sizes == [1]
    assert len(reports.settled) == 1


@pytest.mark.usefixtures("no_hurry")
async def test_ends_wait_for_claims_and_are_reported_together_after_them() -> None:
    reports = Reports(behind=True)
    reports.add(2)
    await turns()
    reports.add(1)
    await turns()
    assert reports.sizes == []
    reports.claimer.is_behind = False
    reports.settler.flush()
    await turns()
    assert reports.sizes == [3]
    assert len(reports.settled) == 3


@pytest.mark.usefixtures("no_hurry")
async def test_many_ends_do_not_wait() -> None:
    reports = Reports(behind=True)
    reports.add(_LIMIT - 1)
    await turns()
    assert reports.sizes == []
    reports.add(1)
    await turns()
    assert sum(reports.sizes) == _LIMIT


async def test_ends_that_nobody_flushes_do_not_wait_for_ever() -> None:
    """A claim may take as long as an instance takes to come back."""
    reports = Reports(behind=True)
    reports.add(2)
    await eventually(lambda: reports.sizes == [2], 5)


@pytest.mark.usefixtures("no_hurry")
async def test_whoever_waits_for_the_reports_does_not_wait_for_claims() -> None:
    reports = Reports(behind=True)
    reports.add(2)
    await asyncio.wait_for(reports.settler.drain(), 5)
    assert reports.sizes == [2]
    await asyncio.wait_for(reports.settler.drain(), 5)


async def test_what_was_given_up_is_not_reported() -> None:
    reports = Reports(behind=True)
    reports.add(2)
    reports.settler.cancel()
    reports.claimer.is_behind = False
    await asyncio.sleep(0.05)  # longer than ends wait
    assert reports.sizes == []


async def test_what_other_code_cancels_is_reported_all_the_same() -> None:
    """apscheduler#834: a handler cancels every asyncio task of its loop."""
    reports = Reports(behind=False)
    reports.add(2)
    await asyncio.sleep(0)  # the report is under way
    assert reports.settler._task is not None
    reports.settler._task.cancel()
    await turns()
    assert reports.settled == []
    await asyncio.wait_for(reports.settler.drain(), 5)
    assert len(reports.settled) == 2
