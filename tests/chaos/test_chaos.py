"""Every fault once, on real servers and processes: nothing lost, early or twice, and prompt recovery.

The long form, all faults in random order, is ``python -m tests.chaos --seconds 300``.
"""

from __future__ import annotations

import zlib

import pytest

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.scenario import run_fault
from tests.servers import Binary


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_is_lost_early_or_twice(server_binary: Binary, fault: type[Fault]) -> None:
    result = run_fault(server_binary, fault, seed=zlib.crc32(fault.name.encode()))
    assert result.violations == []
