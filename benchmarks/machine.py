"""The machine and the versions that figures belong to."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.servers import binaries


def machine() -> dict[str, str]:
    """Processor, memory, kernel and versions of this machine."""
    servers = binaries()
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis-py": version("redis"),
        "hiredis": version("hiredis"),
        "server": str(servers[0]) if servers else "none",
    }


@contextmanager
def separate_cores(servers: Sequence[int]) -> Iterator[None]:
    """Servers, given by their process ids, on one core, and this thread, with those it starts, on the others.

    Where there is but one, everything stays as it is.
    """
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        yield
        return
    last = max(cores)
    _place(servers, {last})
    os.sched_setaffinity(0, cores - {last})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        _place(servers, cores)


def _place(processes: Sequence[int], cores: set[int]) -> None:
    for process in processes:
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
