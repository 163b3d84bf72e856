"""``interval-scheduler demo``: the promises, shown live with one worker killed midway.

The judgement: every occurrence that was due ran to its end once, never early and on time. A run that the kill met is
repeated by the other worker when its lease has ended; that repeat is expected, once, and counted apart.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..embedded import find_server_binary
from ..errors import EmbeddedServerError
from ..model import Task
from ..scheduler import Scheduler
from .demo_worker import recorder

RUN_SECONDS = 12.0
KILL_AFTER = 5.0
PATIENCE = 8.0
"""How long after the last due time everything must be accounted for."""
LEASE_SECONDS = 2.0
ON_TIME_MS = 500
"""What counts as on time here: a shared laptop may pause for a moment. The summary shows the real figures."""
RECURRING = {"heartbeat": 0.5, "metrics": 1.0, "mail queue": 1.5, "cleanup": 2.0, "report": 3.0}
ONE_OFFS = 120


@dataclass
class DemoTask(Task):
    """A recurring task with its every occurrence made up for, or a one-off."""

    id: str
    execute_on: float
    reschedule_interval: float | None = None
    misfire = "all"

    def serialize(self) -> str:
        return self.id


@dataclass
class Seen:
    """What is known of one run."""

    worker: str
    started: float
    ended: float | None = None


@dataclass
class Ledger:
    """What should run, what did, and the judgement."""

    expected: set[tuple[str, int]]
    runs: dict[tuple[str, int], dict[int, Seen]] = field(default_factory=dict)
    killed: str = ""
    killed_at: float = 0.0

    def note(self, line: str) -> None:
        entry = json.loads(line)
        if (entry["id"], entry["due"]) not in self.expected:
            return  # an occurrence after the end of the demo
        runs = self.runs.setdefault((entry["id"], entry["due"]), {})
        if "started" in entry:
            runs[entry["token"]] = Seen(entry["worker"], entry["started"])
        else:
            runs[entry["token"]].ended = entry["ended"]

    def due_by(self, moment: float) -> int:
        return sum(due <= moment * 1000 for _, due in self.expected)

    def done(self, occurrence: tuple[str, int]) -> bool:
        return any(run.ended is not None for run in self.runs.get(occurrence, {}).values())

    def met_by_kill(self, run: Seen) -> bool:
        """Whether a run was under way, or just ended and not yet reported, when its worker was killed."""
        return run.worker == self.killed and (run.ended is None or run.ended > self.killed_at - 0.1)

    def lost(self) -> list[tuple[str, int]]:
        return [occurrence for occurrence in self.expected if not self.done(occurrence)]

    def interrupted(self) -> list[tuple[str, int]]:
        """Occurrences whose run the kill met, and that were run again."""
        return [
            occurrence
            for occurrence in self.expected
            if len(self.runs.get(occurrence, {})) == 2 and self.met_by_kill(self._first(occurrence))
        ]

    def twice(self) -> list[tuple[str, int]]:
        """Occurrences that ran again for no good reason."""
        excused = set(self.interrupted())
        return [key for key, runs in self.runs.items() if len(runs) > 1 and key not in excused]

    def early(self) -> list[tuple[str, int]]:
        return [key for key, runs in self.runs.items() if any(run.started * 1000 < key[1] for run in runs.values())]

    def lateness(self) -> list[float]:
        """Start minus due in ms of the first run of each occurrence, sorted; without those that wait for a lease."""
        held = {task_id for task_id, _ in self.interrupted()}
        late = []
        for key in self.expected:
            if key not in self.runs or self._waits_for(key, held):
                continue
            late.append(self._first(key).started * 1000 - key[1])
        return sorted(late)

    def _waits_for(self, key: tuple[str, int], held: set[str]) -> bool:
        """Whether the occurrence had to wait for one of the same task that the kill interrupted."""
        moment = key[1] / 1000
        return key[0] in held and self.killed_at - 0.1 <= moment <= self.killed_at + LEASE_SECONDS + 1

    def _first(self, key: tuple[str, int]) -> Seen:
        return self.runs[key][min(self.runs[key])]

    def by_worker(self, worker: str) -> int:
        return sum(run.worker == worker for runs in self.runs.values() for run in runs.values())

    def holds(self) -> bool:
        late = self.lateness()
        return not (self.lost() or self.twice() or self.early()) and bool(late) and late[-1] <= ON_TIME_MS


class Screen(Protocol):
    """Where the demo shows itself."""

    def show(self, ledger: Ledger, begin: float, now: float) -> None: ...


def run(*, plain: bool) -> int:
    """Runs the demo; 0 only if every occurrence ran once and on time."""
    logging.getLogger("interval_scheduler").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="interval-scheduler-") as folder:
        try:
            binary = find_server_binary()
        except EmbeddedServerError as error:
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
    with Scheduler(options, _Silent()) as scheduler, contextlib.ExitStack() as stack:
        scheduler.start_task_accept()
        workers = [_start(stack, options, str(path), name, processes) for name in ("worker 1", "worker 2")]
        for worker in workers:
            worker.wait_ready()
        begin = float(int(time.time()) + 2)
        ledger = Ledger(_assign(scheduler, begin))
        with path.open() as lines, _screen(plain) as screen:
            _watch(ledger, lines, screen, workers[0], begin)
        for name in RECURRING:
            scheduler.remove_task(name)
    _summary(ledger, processes)
    return 0 if ledger.holds() else 1


def _assign(scheduler: Scheduler, begin: float) -> set[tuple[str, int]]:
    """Assigns everything; returns every occurrence that is to run: id and due time in ms."""
    expected = set()
    for number, (name, interval) in enumerate(RECURRING.items()):
        first = begin + number * 0.07
        scheduler.assign_task(DemoTask(name, first, interval))
        count = int((RUN_SECONDS - number * 0.07) / interval) + 1
        expected |= {(name, round(first * 1000) + round(interval * 1000) * k) for k in range(count)}
    one_offs = [DemoTask(f"one-off {k}", round(begin + RUN_SECONDS * k / ONE_OFFS, 3)) for k in range(ONE_OFFS)]
    scheduler.assign_tasks(one_offs)
    return expected | {(task.id, round(task.execute_on * 1000)) for task in one_offs}


def _watch(ledger: Ledger, lines: Any, screen: Screen, victim: _Worker, begin: float) -> None:
    end = begin + RUN_SECONDS
    rest = ""
    while True:
        now = time.time()
        rest += lines.read()
        *complete, rest = rest.split("\n")
        for line in complete:
            ledger.note(line)
        if not ledger.killed and now >= begin + KILL_AFTER:
            ledger.killed, ledger.killed_at = victim.name, time.time()
            victim.kill()
        screen.show(ledger, begin, now)
        if now > end + PATIENCE or (now > end + 0.3 and not ledger.lost()):
            return
        time.sleep(0.1)  # the picture is drawn ten times a second


class _Worker(Protocol):
    name: str

    def wait_ready(self) -> None: ...

    def kill(self) -> None: ...


def _start(stack: contextlib.ExitStack, options: dict[str, Any], path: str, name: str, processes: bool) -> _Worker:
    worker: _ProcessWorker | _ThreadWorker
    worker = _ProcessWorker(options, path, name) if processes else _ThreadWorker(options, path, name)
    stack.callback(worker.stop)
    return worker


class _ProcessWorker:
    """A worker that can really be killed."""

    def __init__(self, options: dict[str, Any], path: str, name: str) -> None:
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

    def __init__(self, options: dict[str, Any], path: str, name: str) -> None:
        self.name = name
        self._scheduler = Scheduler(options, _Silent())
        self._scheduler.start_task_execute(recorder(path, name))

    def wait_ready(self) -> None:
        """It is ready once it was made."""

    def kill(self) -> None:
        self._scheduler.stop_task_execute(grace=1)

    def stop(self) -> None:
        self._scheduler.close()


class _Silent:
    """A logger for a program that shows everything itself."""


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
    """A line each second, for terminals and logs that show nothing else."""

    def __init__(self) -> None:
        self._last = -1

    def show(self, ledger: Ledger, begin: float, now: float) -> None:
        second = int(now - begin)
        if now < begin or second == self._last:
            return
        self._last = second
        late = ledger.lateness()
        worst = f"{late[-1]:.1f} ms" if late else "-"
        ran = sum(ledger.done(key) for key in ledger.expected)
        kill = f"  {ledger.killed} was killed {now - ledger.killed_at:.0f} s ago" if ledger.killed else ""
        print(f"{second:3} s  due {ledger.due_by(now):4}  ran {ran:4}  worst lateness {worst:>9}{kill}", flush=True)


def _summary(ledger: Ledger, processes: bool) -> None:
    late = ledger.lateness() or [float("nan")]
    rows = [
        ("occurrences due", len(ledger.expected)),
        ("ran to their end", len(ledger.expected) - len(ledger.lost())),
        ("lost", len(ledger.lost())),
        ("early", len(ledger.early())),
        ("twice", len(ledger.twice())),
        ("met by the kill, repeated once", len(ledger.interrupted())),
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
