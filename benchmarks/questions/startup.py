"""B13: how long it takes to import, to say the version, and to run a first task."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from ..bench import Bench
from ..figures import OURS, Figure, Goal, Missing
from ..question import Question
from ..subjects import ROOT

_FIRST_TASK = """
import sys, threading
from interval_scheduler import Scheduler
ran = threading.Event()
with Scheduler(sys.argv[1]) as scheduler:
    scheduler.start_task_accept()
    scheduler.start_task_execute(lambda payload: ran.set())
    scheduler.post("now", delay=0)
    ran.wait(30)
    print("ran", flush=True)
"""


def measure(bench: Bench) -> Iterator[Figure | Missing]:
    rounds = bench.size(9, 2)
    programs = {
        "python": ["-c", "pass"],
        "redis": ["-c", "import redis"],
        "package": ["-c", "import interval_scheduler"],
        "core": ["-c", "from interval_scheduler import AsyncScheduler, Scheduler, Task"],
        "version": ["-m", "interval_scheduler", "--version"],
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    with tempfile.TemporaryDirectory(prefix="interval-scheduler-benchmark-") as folder:
        environment = _environment(folder)
        for arguments in programs.values():
            _seconds(arguments, environment)  # compiles, as installing a package does
        for _ in range(rounds):
            for name, arguments in programs.items():
                times[name].append(_seconds(arguments, environment))
        with bench.servers("") as servers:
            firsts = [_until_first_line([servers[0].url], environment) for _ in range(rounds + 1)]
    least = {name: min(values) * 1000 for name, values in times.items()}
    yield Figure("import redis", "import redis", least["redis"] - least["python"], "ms")
    yield Figure("import interval_scheduler", OURS, least["package"] - least["python"], "ms")
    yield Figure("import Scheduler, AsyncScheduler, Task", OURS, least["core"] - least["python"], "ms")
    yield Figure("interval-scheduler --version, whole process", OURS, least["version"], "ms")
    yield Figure("python -c pass, whole process", "python", least["python"], "ms")
    yield Figure("process start to first task", OURS, min(firsts) * 1000, "ms")


def _environment(bytecode: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": bytecode,
    }


def _seconds(arguments: list[str], environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def _until_first_line(arguments: list[str], environment: dict[str, str]) -> float:
    """Seconds from the start of a process to the line that tells that its first task ran."""
    begin = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", _FIRST_TASK, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == b"ran":
                return time.perf_counter() - begin
    raise RuntimeError("the first task did not run")


QUESTION = Question(
    "B13",
    "start-up",
    measure,
    [Goal("import Scheduler, AsyncScheduler, Task", 80.0, most=True)],
    notes="The least of several rounds, with compiled bytecode; imports without the start of the interpreter.",
)
