"""The virtual event loop under the simulation."""

from __future__ import annotations

import warnings

from interval_scheduler.testing.kernel import Kernel, Process


def test_what_a_process_has_just_begun_ends_with_it() -> None:
    kernel = Kernel(1, 0.0)
    process = Process(kernel, "a", lambda *_: None)
    ran = []

    async def work() -> None:
        ran.append(True)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        process.spawn(work())
        process.crash()
        kernel.run(1.0)
        kernel.close()
    assert ran == []
    assert [str(warning.message) for warning in caught] == []
