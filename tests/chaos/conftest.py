"""What all tests of faults need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def unmeasured_processes() -> Iterator[None]:
    """The processes under faults run at their own speed, also where coverage is measured: their times are judged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield
