"""The timer that workers wake by."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import time

import pytest

from interval_scheduler.worker import timer as waker
from interval_scheduler.worker.timer import Timer
from tests.tasks import eventually


@pytest.fixture(params=["kernel", "none here", "not wanted"])
def kernel_timers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With a timer of the kernel, where there is none, and where it must not be used."""
    if request.param == "none here":
        monkeypatch.setattr(waker, "_libc", None)
    elif request.param == "kernel" and waker._libc is None:
        pytest.skip("no timers of the kernel here")
    return bool(request.param != "not wanted")


async def test_fires_at_its_time_and_not_before(kernel_timers: bool) -> None:
    fired: list[float] = []
    timer = Timer(lambda: fired.append(time.monotonic()), kernel_timers)
    for seconds in (0.0, 0.02, 0.000001):
        fired.clear()
        begin = time.monotonic()
        timer.set(seconds)
        await eventually(lambda: fired)
        # The loop takes what is due within the resolution of its clock as due.
        assert fired[0] - begin >= seconds - time.get_clock_info("monotonic").resolution
    assert len(fired) == 1
    timer.close()


async def test_set_anew_forgets_the_time_before(kernel_timers: bool) -> None:
    fired: list[float] = []
    timer = Timer(lambda: fired.append(time.monotonic()), kernel_timers)
    timer.set(3600)
    timer.set(0.01)
    await eventually(lambda: fired)
    timer.set(0.01)
    timer.set(3600)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, later.set)
    await later.wait()
    assert len(fired) == 1
    timer.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
async def test_closed_it_fires_no_more_and_keeps_no_descriptor(kernel_timers: bool) -> None:
    fired: list[float] = []
    before = os.listdir("/proc/self/fd")
    timer = Timer(lambda: fired.append(time.monotonic()), kernel_timers)
    timer.set(0.01)
    timer.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, later.set)
    await later.wait()
    assert fired == []


async def test_a_forked_process_leaves_the_timer_of_its_parent_alone() -> None:
    fired: list[float] = []
    timer = Timer(lambda: fired.append(time.monotonic()), kernel_timers=True)
    timer.set(0.3)

    def child() -> None:
        timer.close()
        gc.collect()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    await eventually(lambda: fired)
    timer.close()
