"""Many simulated seeds, spread over processes: what ``python -m interval_scheduler.testing`` runs.

A module of its own because spawned processes import it by name.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..model.errors import EmbeddedServerError
from ..transport.embedded import find_server_binary
from .scenario import Report, simulate
from .servers import Backend

_DESCRIPTION = (
    "The promises against faults drawn from seeds, in virtual time. Every seed is a run of its own: producers, workers "
    "and two instances, with the real scripts and the real code, and faults of all kinds, judged by a checker. A seed "
    "always gives the same run. Exit code 1 on any violation."
)
_INSTANCES = 2
_CHUNK = 5
"""Seeds that a process takes at once."""


def main() -> int:
    """Runs the seeds, and prints what was injected and what was violated."""
    parser = argparse.ArgumentParser(prog="python -m interval_scheduler.testing", description=_DESCRIPTION)
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="how many (default 1000)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first one (default 0)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, metavar="N", help="default: one per processor"
    )
    parser.add_argument("--memory", action="store_true", help="execute the scripts in fakeredis, not in a Redis server")
    given = parser.parse_args()
    if given.seeds < 1 or given.processes < 1:
        parser.error("--seeds and --processes are 1 or more")
    with _backends(given.processes, given.memory) as urls:
        return _run(range(given.first, given.first + given.seeds), urls)


def _run(seeds: range, urls: list[list[str]]) -> int:
    began, totals = time.monotonic(), _Totals()
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    for each in urls:
        queue.put(each)
    with context.Pool(len(urls), _open, (queue,)) as pool:
        for report in pool.imap(_simulate, seeds, _CHUNK):
            totals.add(report)
            if sys.stderr.isatty() and totals.seeds % 10 == 0:
                print(f"\r{totals.seeds} seeds, {len(totals.violated)} with violations", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    print(totals.text(time.monotonic() - began))
    return 1 if totals.violated else 0


class _Totals:
    def __init__(self) -> None:
        self.seeds = 0
        self.violated: list[Report] = []
        self._hours = 0.0
        self._operations = 0
        self._runs = 0
        self._faults: Counter[str] = Counter()

    def add(self, report: Report) -> None:
        self.seeds += 1
        self._hours += report.hours
        self._operations += report.operations
        self._runs += report.runs
        self._faults += report.faults
        if report.violations:
            self.violated.append(report)
            print(f"seed {report.seed}:", *report.violations[:5], sep="\n  ", flush=True)

    def text(self, seconds: float) -> str:
        rows = [
            ("seeds", f"{self.seeds:,}"),
            ("simulated hours", f"{self._hours:,.1f}"),
            ("operations", f"{self._operations:,}"),
            ("handler runs", f"{self._runs:,}"),
            ("faults injected", f"{self._faults.total():,}"),
            *((f"  {kind}", f"{count:,}") for kind, count in sorted(self._faults.items())),
            ("seeds with violations", f"{len(self.violated):,}"),
            ("violations", f"{sum(len(report.violations) for report in self.violated):,}"),
            ("seconds", f"{seconds:,.0f}"),
        ]
        return "\n".join(f"{name:<24}{value:>14}" for name, value in rows)


_opened: list[Backend] = []


def _open(queue: multiprocessing.SimpleQueue[list[str]]) -> None:
    # Ctrl-C is for the parent, which ends its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _opened.extend(Backend(url) for url in queue.get())


def _simulate(seed: int) -> Report:
    return simulate(seed, _opened)


@contextlib.contextmanager
def _backends(processes: int, memory: bool) -> Iterator[list[list[str]]]:
    """The URLs of the instances of each process: servers that are gone afterwards, or memory."""
    binary = None
    if not memory:
        try:
            binary = find_server_binary()
        except EmbeddedServerError as error:
            print(f"{error}\nExecuting the scripts in fakeredis instead.", file=sys.stderr)
    if binary is None:
        yield [[f"memory://{process}-{number}" for number in range(_INSTANCES)] for process in range(processes)]
        return
    with tempfile.TemporaryDirectory(prefix="interval-scheduler-") as folder, contextlib.ExitStack() as stack:
        yield [
            [stack.enter_context(_server(binary, Path(folder, f"{process}-{number}"))) for number in range(_INSTANCES)]
            for process in range(processes)
        ]


@contextlib.contextmanager
def _server(binary: str, socket: Path) -> Iterator[str]:
    arguments = [
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--save",
        "",
        "--appendonly",
        "no",
        "--loglevel",
        "warning",
    ]
    server = subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not socket.exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise EmbeddedServerError(f"{binary} does not start: try --memory")
            time.sleep(0.01)  # a file of another process cannot be awaited
        yield f"unix://{socket}"
    finally:
        server.kill()
        server.wait()
