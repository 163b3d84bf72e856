"""Processes of what is measured: started, timed, watched, killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.waiting import comes_true

from .adapter import Described, Settings
from .records import Records
from .servers import Server
from .subjects import Subject

_TICKS = os.sysconf("SC_CLK_TCK")
WARM_NUMBER = 500_000_000
"""The number of the job that shows that a worker is ready."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where one measurement happens: its servers, its folder for records and logs, and what it asks of adapters."""

    subject: Subject
    servers: Sequence[Server]
    folder: Path
    job_seconds: float = 0.0
    concurrency: int = 0
    recovery_seconds: float = 0.0
    schedulers: int = 1

    def environment(self) -> dict[str, str]:
        urls = tuple(server.url for server in self.servers)
        asked = Settings(
            urls,
            str(self.folder),
            self.job_seconds,
            self.concurrency,
            self.recovery_seconds,
            self.schedulers,
        )
        return {**self.subject.environment(), **asked.environment()}


@contextmanager
def stage(
    subject: Subject,
    servers: Sequence[Server],
    *,
    job_seconds: float = 0.0,
    concurrency: int = 0,
    recovery_seconds: float = 0.0,
    schedulers: int = 1,
) -> Iterator[Stage]:
    """A stage whose folder is deleted at the end."""
    folder = Path(tempfile.mkdtemp(prefix="interval-scheduler-benchmark-"))
    try:
        yield Stage(subject, servers, folder, job_seconds, concurrency, recovery_seconds, schedulers)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Segment:
    """Jobs to assign: `count` from number `first` on, the first one due `lead` seconds from the call, or at the next
    multiple of `grid` seconds, the others evenly over the `spread` seconds after it."""

    count: int
    first: int = 0
    lead: float = 3600.0
    spread: float = 0.0
    grid: float = 0.0


@dataclass(frozen=True, slots=True)
class Assigned:
    """What a client did: wall and processor seconds of its calls, when the first job is due, and when it ended."""

    count: int
    seconds: float
    cpu: float
    due: float
    ended: float

    @property
    def rate(self) -> float:
        return self.count / self.seconds


class Failed(Exception):
    """A process of a subject did not do what it was asked to."""


class Client:
    """A client process, which assigns one segment after the other."""

    def __init__(self, stage: Stage, segments: Sequence[Segment], mode: str, **more: Any) -> None:
        specification = {"mode": mode, "segments": [asdict(segment) for segment in segments], **more}
        self._log = (stage.folder / "client.log").open("ab+")
        self._process = subprocess.Popen(
            stage.subject.command("assign", json.dumps(specification)),
            env=stage.environment(),
            cwd=stage.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )

    def answer(self, timeout: float = 600.0) -> Assigned:
        """Waits for the end of a segment.

        Raises:
            Failed: the process died, or took too long.
        """
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise Failed(f"assigning took longer than {timeout:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise Failed(f"the client ended: {_tail(Path(self._log.name))}")
        return Assigned(**json.loads(line))

    def go_on(self) -> None:
        """Begins the next segment."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def close(self) -> None:
        _kill(self._process)
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def assign(stage: Stage, segment: Segment, mode: str = "bulk", **more: Any) -> Assigned:
    """Assigns one segment, from a client process of its own.

    Raises:
        Failed: the client died, or took too long.
    """
    client = Client(stage, [segment], mode, **more)
    try:
        return client.answer()
    finally:
        client.close()


class Workers:
    """Worker processes, and what they have recorded."""

    def __init__(self, stage: Stage, processes: int = 1) -> None:
        self._stage = stage
        self._log = (stage.folder / "worker.log").open("ab+")
        self.records = Records(stage.folder)
        self.processes: list[subprocess.Popen[bytes]] = []
        for _ in range(processes):
            self.start()

    def start(self) -> None:
        """Starts one more."""
        process = subprocess.Popen(
            self._stage.subject.command("work"),
            env=self._stage.environment(),
            cwd=self._stage.folder,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self.processes.append(process)

    def warm(self, timeout: float = 40.0) -> None:
        """Waits until a first job ran.

        Raises:
            Failed: none ran in time.
        """
        assign(self._stage, Segment(1, WARM_NUMBER, 0.1), "one")
        # A worker that died will not run it.
        comes_true(lambda: self.records.starts(WARM_NUMBER, 1) or self._any_died(), timeout)
        if not self.records.starts(WARM_NUMBER, 1):
            raise Failed(f"the worker does not run its first job: {_tail(Path(self._log.name))}")

    def _any_died(self) -> bool:
        return any(process.poll() is not None for process in self.processes)

    def wait_for(self, records: int, timeout: float, quiet: float = 30.0) -> None:
        """Waits for that many records: until `timeout` seconds are over, or nothing has come for `quiet` seconds."""
        seen, since = -1, time.monotonic()

        def is_over() -> bool:
            nonlocal seen, since
            count, now = self.records.poll(), time.monotonic()
            if count != seen:
                seen, since = count, now
            return count >= records or now - since > quiet

        comes_true(is_over, timeout, pause=0.05)

    def cpu(self) -> float:
        """Seconds of processor time of all workers so far, with the processes they started."""
        sessions = {str(process.pid) for process in self.processes}
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rsplit(") ", 1)[1].split()
                if fields[3] in sessions:
                    ticks += sum(map(int, fields[11:15]))
        return ticks / _TICKS

    def memory(self) -> int:
        """Bytes of anonymous memory of the workers themselves."""
        total = 0
        for process in self.processes:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) * 1024
        return total

    def kill(self) -> None:
        """SIGKILL to every worker, with the processes it started."""
        for process in self.processes:
            _kill(process)
        self.processes.clear()

    def close(self) -> None:
        self.kill()
        self._log.close()


@contextmanager
def workers(stage: Stage, processes: int = 1) -> Iterator[Workers]:
    """Worker processes, killed at the end."""
    started = Workers(stage, processes)
    try:
        yield started
    finally:
        started.close()


def describe(subject: Subject) -> Described:
    """Versions and configuration of a subject, from its adapter.

    Raises:
        Failed: it does not start.
    """
    command, environment = subject.command("describe"), subject.environment()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    except subprocess.CalledProcessError as error:
        raise Failed(f"{subject.name} does not start: {error.stderr[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{subject.name} does not start: {error}") from error
    described: Described = json.loads(done.stdout)
    return described


def _kill(process: subprocess.Popen[Any]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # a session that was started here, for this
    process.wait()


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-800:].strip()
