"""Where the processor time of a task goes, by part of the code: ``python -m benchmarks.account [--tasks 100000]``.

A timer of the kernel interrupts the process after every half a millisecond of processor time (setitimer(2),
ITIMER_PROF). It is then noted in which folder the running function stands; C code counts for the function that called
it. So the account names the folders of the package, and no function that may be renamed.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import interval_scheduler
from interval_scheduler import AsyncScheduler, Task

from .machine import machine
from .servers import Server, running

_INTERVAL_SECONDS = 0.0005
_PACKAGE = Path(interval_scheduler.__file__).parent
_LATER_SECONDS = 86_400.0


class Job(Task):
    """64 characters, due in a day or long ago, once or every day."""

    def __init__(self, number: int, due: float, every: float | None = None) -> None:
        self.id = f"user:{number:010d}"
        self.execute_on = due
        self.reschedule_interval = every

    def serialize(self) -> str:
        return "x" * 64


class Sampler:
    """Counts where the main thread was, per sample of processor time."""

    def __init__(self) -> None:
        self.samples: Counter[str] = Counter()

    def _note(self, _signal: int, frame: FrameType | None) -> None:
        self.samples[_part(frame)] += 1

    @contextmanager
    def sampling(self) -> Iterator[None]:
        previous = signal.signal(signal.SIGPROF, self._note)
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL_SECONDS, _INTERVAL_SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, previous)


def _part(frame: FrameType | None) -> str:
    if frame is None:
        return "interpreter"
    path = Path(frame.f_code.co_filename)
    if _PACKAGE in path.parents:
        inside = path.relative_to(_PACKAGE)
        return inside.parts[0] if len(inside.parts) > 1 else "faces and engine"
    if path == Path(__file__):
        return "application"
    return "asyncio" if "asyncio" in path.parts or "selectors" in path.name else "other libraries"


async def _measure(title: str, count: int, server: Server, act: Callable[[], Awaitable[None]]) -> str:
    """Does something to `count` tasks, and says where the time went."""
    sampler = Sampler()
    scripts, cpu = server.scripts(), time.process_time()
    with sampler.sampling():
        await act()
    spent, cpu = server.scripts() - scripts, time.process_time() - cpu
    total = sum(sampler.samples.values())
    lines = [f"## {title}", "", "| where | µs a task | of the process |", "|---|---:|---:|"]
    for part, samples in sampler.samples.most_common():
        lines.append(f"| {part} | {cpu * 1e6 / count * samples / total:.2f} | {samples / total:.0%} |")
    lines.append(f"| **this process** | {cpu * 1e6 / count:.2f} | 100% |")
    lines.append(f"| **scripts on the server** | {spent.microseconds / count:.2f} | |")
    return "\n".join([*lines, "", f"{spent.calls / count:.3f} calls of scripts a task.", ""])


async def _account(count: int, server: Server) -> list[str]:
    async with AsyncScheduler({"storage": {"instances": [server.url]}}) as scheduler:
        await scheduler.start_task_accept()
        now = time.time()
        await scheduler.assign_tasks(Job(number, now + _LATER_SECONDS) for number in range(1000))

        async def assign() -> None:
            await scheduler.assign_tasks(Job(number, now + _LATER_SECONDS) for number in range(count))

        async def run() -> None:
            left, done = count, asyncio.Event()

            async def handler(_payload: object) -> None:
                nonlocal left
                left -= 1
                if not left:
                    done.set()

            await scheduler.start_task_execute(handler)
            await done.wait()
            await scheduler.stop_task_execute()

        pages = [await _measure("assign_tasks", count, server, assign)]
        for title, every in (("running tasks once", None), ("running recurring tasks", _LATER_SECONDS)):
            await scheduler.clear_all_tasks()
            await scheduler.assign_tasks(Job(number, 1.0, every) for number in range(count))
            pages.append(await _measure(title, count, server, run))
        await scheduler.clear_all_tasks()
        return pages


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.account", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    arguments = parser.parse_args()
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    print(f"# Where the processor time of a task goes\n\n{about}.\n")
    with running() as [server]:
        for page in asyncio.run(_account(arguments.tasks, server)):
            print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
