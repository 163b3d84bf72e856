"""``interval-scheduler demo``: the promises, shown live with one worker killed midway."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from ..model.errors import EmbeddedServerError
from ..model.options import ENVIRONMENT
from ..model.task import Task
from ..scheduler import Scheduler
from ..transport.embedded import find_server_binary
from .demo_ledger import KILL_AFTER, LEASE_SECONDS, ONE_OFFS, PATIENCE, RECURRING, RUN_SECONDS, Ledger
from .demo_worker import recorder

_LOGGER = logging.getLogger("interval_scheduler")  # silent: the demo prints everything itself


@dataclass
class DemoTask(Task):
    """A recurring task of which every occurrence runs, or a one-off task."""

    id: str
    execute_on: float
    reschedule_interval: float | None = None
    misfire = "all"

    def serialize(self) -> str:
        return self.id


class Screen(Protocol):
    """Where the demo prints or draws its state."""

    def show(self, ledger: Ledger, start: float, now: float) -> None: ...


def run(*, plain: bool) -> int:
    """Runs the demo. Returns the exit code: 0 only if every occurrence ran once and on time."""
    _LOGGER.setLevel(logging.CRITICAL + 1)
    for variable in ENVIRONMENT:
        # The demo and its workers, which inherit this, use servers of their own, whatever this shell is set up for.
        os.environ.pop(variable, None)
    with tempfile.TemporaryDirectory(prefix="interval-scheduler-") as folder:
        try:
            binary = find_server_binary()
        except EmbeddedServerError as error:
            if not all(map(importlib.util.find_spec, ("fakeredis", "lupa"))):
                raise
            print(f"WARNING: {error}\nWARNING: running in memory instead; the worker is stopped, not killed.\n")
            urls, processes = ["memory://demo-a", "memory://demo-b"], False
        else:
            print(f"Two private Redis servers ({binary}), two workers; one of them is killed midway.\n")
            urls, processes = [f"embedded://{folder}/a", f"embedded://{folder}/b"], True
        return _run(Path(folder), urls, processes, plain)


def _run(folder: Path, urls: list[str], processes: bool, plain: bool) -> int:
    options = {
        "namespace": "demo",
        "lease_seconds": LEASE_SECONDS,
        "storage": {"instances": [{"url": url, "name": f"redis-{n}"} for n, url in enumerate(urls, 1)]},
    }
    path = folder / "runs"
    path.touch()
    with Scheduler(options, _LOGGER) as scheduler, contextlib.ExitStack() as stack:
        scheduler.start_task_accept()
        workers = [_start(stack, options, str(path), name, processes) for name in ("worker 1", "worker 2")]
        for worker in workers:
            worker.wait_ready()
        start = float(int(time.time()) + 2)
        ledger = Ledger(_assign(scheduler, start))
        with path.open() as lines, _screen(plain) as screen:
            _watch(ledger, lines, screen, workers[0], start)
        for name in RECURRING:
            scheduler.remove_task(name)
    _summary(ledger, processes)
    return 0 if ledger.holds() else 1


def _assign(scheduler: Scheduler, start: float) -> set[tuple[str, int]]:
    """Assigns all tasks. Returns every occurrence that must run: id and due time in ms."""
    expected = set()
    for number, (name, interval) in enumerate(RECURRING.items()):
        first = start + number * 0.07
        scheduler.assign_task(DemoTask(name, first, interval))
        count = int((RUN_SECONDS - number * 0.07) / interval) + 1
        expected |= {(name, round(first * 1000) + round(interval * 1000) * k) for k in range(count)}
    one_offs = [DemoTask(f"one-off {k}", round(start + RUN_SECONDS * k / ONE_OFFS, 3)) for k in range(ONE_OFFS)]
    scheduler.assign_tasks(one_offs)
    return expected | {(task.id, round(task.execute_on * 1000)) for task in one_offs}


def _watch(ledger: Ledger, lines: TextIO, screen: Screen, victim: _Worker, start: float) -> None:
    end = start + RUN_SECONDS
    rest = ""
    while True:
        now = time.time()
        rest += lines.read()
        *complete, rest = rest.split("\n")
        for line in complete:
            ledger.note(line)
        if not ledger.killed and now >= start + KILL_AFTER:
            ledger.killed, ledger.killed_at = victim.name, time.time()
            victim.kill()
        screen.show(ledger, start, now)
        if now > end + PATIENCE or (now > end + 0.3 and not ledger.lost()):
            return
        time.sleep(0.1)  # the picture is drawn ten times a second


class _Worker(Protocol):
    name: str

    def wait_ready(self) -> None: ...

    def kill(self) -> None: ...


def _start(stack: contextlib.ExitStack, options: dict[str, object], path: str, name: str, processes: bool) -> _Worker:
    worker: _ProcessWorker | _ThreadWorker
    worker = _ProcessWorker(options, path, name) if processes else _ThreadWorker(options, path, name)
    stack.callback(worker.stop)
    return worker


class _ProcessWorker:
    """A worker that can really be killed."""

    def __init__(self, options: dict[str, object], path: str, name: str) -> None:
        self.name = name
        settings = json.dumps({"options": options, "path": path, "name": name})
        package = str(Path(__file__).resolve().parents[2])
        python_path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "interval_scheduler.cli.demo_worker", settings],
            env={**os.environ, "PYTHONPATH": python_path},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def wait_ready(self) -> None:
        """Blocks until the process has said that it looks for due tasks, or has ended."""
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class _ThreadWorker:
    """A worker in this process, for a machine without a Redis server."""

    def __init__(self, options: dict[str, object], path: str, name: str) -> None:
        self.name = name
        self._scheduler = Scheduler(options, _LOGGER)
        self._scheduler.start_task_execute(recorder(path, name))

    def wait_ready(self) -> None:
        """Returns at once: it is ready when it was made."""

    def kill(self) -> None:
        self._scheduler.stop_task_execute(grace=1)

    def stop(self) -> None:
        self._scheduler.close()


@contextlib.contextmanager
def _screen(plain: bool) -> Iterator[Screen]:
    if not plain and sys.stdout.isatty():
        try:
            from .demo_screen import LiveScreen
        except ImportError:
            print("(pip install rich, or the demo extra, for a live picture)\n")
        else:
            with LiveScreen() as screen:
                yield screen
            return
    yield PlainScreen()


class PlainScreen:
    """Prints a line each second, for logs and plain terminals."""

    def __init__(self) -> None:
        self._last = -1

    def show(self, ledger: Ledger, start: float, now: float) -> None:
        second = int(now - start)
        if now < start or second == self._last:
            return
        self._last = second
        late = ledger.lateness()
        worst = f"{late[-1]:.1f} ms" if late else "-"
        ran = sum(ledger.done(key) for key in ledger.expected)
        kill = f"  {ledger.killed} was killed {max(0, int(now - ledger.killed_at))} s ago" if ledger.killed else ""
        print(f"{second:3} s  due {ledger.due_by(now):4}  ran {ran:4}  worst lateness {worst:>9}{kill}", flush=True)


def _summary(ledger: Ledger, processes: bool) -> None:
    late = ledger.lateness() or [float("nan")]
    rows = [
        ("occurrences due", len(ledger.expected)),
        ("ran to their end", len(ledger.expected) - len(ledger.lost())),
        ("lost", len(ledger.lost())),
        ("early", len(ledger.early())),
        ("twice", len(ledger.twice())),
        ("interrupted, then repeated", len(ledger.interrupted())),
        ("lateness p50 / p99 / worst", f"{_at(late, 0.5):.1f} / {_at(late, 0.99):.1f} / {late[-1]:.1f} ms"),
        ("runs of worker 1 / worker 2", f"{ledger.by_worker('worker 1')} / {ledger.by_worker('worker 2')}"),
    ]
    print()
    for name, value in rows:
        print(f"  {name:32} {value}")
    verdict = "HELD: every occurrence ran once and on time" if ledger.holds() else "BROKEN: see above"
    how = "SIGKILL midway" if processes else "one worker stopped midway"
    print(f"\n  {verdict}, with {how}.")


def _at(values: list[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]
