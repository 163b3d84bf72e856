"""Every fault once, on real servers and processes: nothing lost, early or twice, and prompt recovery.

The long form, all faults in random order, is ``python -m tests.chaos --seconds 300``.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.chaos.faults import FAULTS, Fault, ServerKilled
from tests.chaos.scenario import Result, run_fault
from tests.chaos.stage import cpu_seconds
from tests.servers import Binary, _die_with_parent

AT_ONCE = 3
"""Faults that run at the same time, each with servers and processes of its own: all of them mostly wait."""

Results = dict[tuple[Binary, type[Fault]], Future[Result]]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[Results]:
    """What the faults that were asked for will have done."""
    pool = ThreadPoolExecutor(AT_ONCE)
    found: Results = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.function is test_nothing_is_lost_early_or_twice:
            binary: Any = item.callspec.params["server_binary"]
            fault: Any = item.callspec.params["fault"]
            if binary is not None:
                seed = zlib.crc32(fault.name.encode())
                found[binary, fault] = pool.submit(run_fault, binary, fault, seed=seed)
    yield found
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_is_lost_early_or_twice(server_binary: Binary, fault: type[Fault], results: Results) -> None:
    result = results[server_binary, fault].result()
    assert result.violations == [], f"{result}"


def test_a_worker_that_spins_is_noticed(server_binary: Binary) -> None:
    """The limits of the run above can be broken: without the pauses between attempts they are."""
    # On a machine in demand nobody gets a whole processor; this is what one that always wants it gets.
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=_die_with_parent)
    try:
        begin = time.monotonic()
        result = run_fault(server_binary, ServerKilled, worker="spinning_worker")
        most = cpu_seconds(spinning.pid) / (time.monotonic() - begin)
    finally:
        spinning.kill()
        spinning.wait()
    alone = dataclasses.replace(result, cpu=result.cpu / most)
    assert any(text.startswith("busy: workers take") for text in alone.violations), f"{alone}"
