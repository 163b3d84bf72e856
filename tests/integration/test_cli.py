"""The command line, as programs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from interval_scheduler import Scheduler
from tests.integration.conftest import storage
from tests.servers import RedisServer
from tests.tasks import Job, after

COMMAND = [sys.executable, "-m", "interval_scheduler"]


def run(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # other processes' progress cannot be awaited


def test_version_and_help() -> None:
    assert re.fullmatch(r"interval-scheduler \d+\.\d+\.\d+\n", run("--version").stdout)
    assert "demo" in run("--help").stdout
    assert run().returncode == 2


def test_demo_holds_within_thirty_seconds() -> None:
    begin = time.monotonic()
    result = run("demo", "--plain")
    assert time.monotonic() - begin < 30
    assert result.returncode == 0, result.stdout + result.stderr
    assert "HELD: every occurrence ran once and on time, with SIGKILL midway" in result.stdout
    assert re.search(r"lost +0\n +early +0\n +twice +0\n", result.stdout)


def test_the_demo_can_fail() -> None:
    """A judgement that cannot fail shows nothing: each kind of violation breaks it."""
    from interval_scheduler.cli.demo_ledger import Ledger

    key = ("a", 1000)
    start = '{"worker": "worker 1", "id": "a", "due": 1000, "token": %d, "started": %s}'
    end = '{"worker": "worker 1", "id": "a", "due": 1000, "token": %d, "ended": %s}'
    cases: dict[str, list[str]] = {
        "held": [start % (1, 1.01), end % (1, 1.02)],
        "lost": [start % (1, 1.01)],
        "early": [start % (1, 0.99), end % (1, 1.02)],
        "twice": [start % (1, 1.01), end % (1, 1.02), start % (2, 1.03), end % (2, 1.04)],
        "late": [start % (1, 9.0), end % (1, 9.1)],
    }
    for name, notes in cases.items():
        ledger = Ledger({key})
        for note in notes:
            ledger.note(note)
        assert ledger.holds() == (name == "held"), name


@pytest.fixture
def handler_module(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(
        "import os, time\n"
        "def handler(payload):\n"
        "    with open('runs', 'a') as out: out.write(f'{os.getpid()} {payload}\\n')\n"
        "    time.sleep(0.05)\n"
        "    with open('ends', 'a') as out: out.write(f'{os.getpid()} {payload}\\n')\n"
        "number = 3\n"
    )
    return tmp_path


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("processes", [1, 3])
def test_worker_processes_run_tasks_and_drain_on_sigterm(
    handler_module: Path, redis_servers: list[RedisServer], namespace: str, processes: int
) -> None:
    urls = [f"--url=redis-{number}={server.url}" for number, server in enumerate(redis_servers)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    worker = subprocess.Popen(
        [*COMMAND, "worker", "app:handler", *urls, "--namespace", namespace, "--processes", str(processes)],
        cwd=handler_module,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    with Scheduler({"namespace": namespace, "storage": storage(redis_servers)}) as scheduler:
        assert worker.stderr is not None
        for _ in range(processes):
            assert "is ready" in worker.stderr.readline()
        scheduler.start_task_accept()
        start = after(0.3)
        scheduler.assign_tasks(Job(f"a{n}", start + n / 200) for n in range(200))
        wait_until(lambda: len(lines(handler_module / "runs")) >= 100)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        worker.stderr.close()
        begun, ended = lines(handler_module / "runs"), lines(handler_module / "ends")
        assert sorted(begun) == sorted(ended), "what ran was let finish"
        assert len(begun) + scheduler.task_size() == 200, "nothing lost, nothing twice"
        if processes > 1:
            assert len({pid for pid, _ in begun}) > 1
        scheduler.clear_all_tasks()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("app:missing", "--url", "redis://127.0.0.1:1"), "missing"),
        (("nowhere:handler", "--url", "redis://127.0.0.1:1"), "nowhere"),
        (("app:number", "--url", "redis://127.0.0.1:1"), "cannot be called"),
        (("app", "--url", "redis://127.0.0.1:1"), "module:function"),
        (("app:handler", "--url", "http://x"), "http"),
        (("app:handler", "--url", "redis://127.0.0.1:1"), "unavailable"),
        (("app:handler", "--url", "redis://127.0.0.1:1", "--processes", "0"), "--processes"),
    ],
)
def test_worker_refuses_what_is_wrong(handler_module: Path, arguments: tuple[str, ...], text: str) -> None:
    result = subprocess.run(
        [*COMMAND, "worker", *arguments],
        cwd=handler_module,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert text in result.stderr
    assert "Traceback" not in result.stderr
