"""``interval-scheduler worker``: worker processes. With several, a parent passes signals on and replaces dead ones."""

from __future__ import annotations

import argparse
import contextlib
import gc
import multiprocessing
import os
import queue
import signal
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING

from ..model.errors import InvalidOptions, InvalidTask, SchedulerError
from ..model.options import load_options
from ..model.times import grace_seconds
from ..scheduler import Scheduler
from ..support.console import say
from ..worker.worker import Confirm
from .arguments import DEFAULTS, add_namespace_arguments, arguments_win, scheduler_options
from .handler import load_handler

if TYPE_CHECKING:
    from .arguments import Commands

_QUICK_DEATH_SECONDS = 1.0
"""A process that ended sooner than this after its start is replaced after a pause."""


def register(commands: Commands) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "worker",
        help="run a handler for due tasks",
        description="Runs worker processes that call HANDLER for every task that comes due, until SIGTERM or SIGINT, "
        "which let running handlers finish. These arguments win over environment variables.",
    )
    parser.add_argument("handler", metavar="MODULE:HANDLER", help="a function or coroutine function handler(payload)")
    add_namespace_arguments(parser)
    parser.add_argument(
        "--confirm",
        choices=("auto", "manual"),
        default="auto",
        help="manual: a run is done only when confirm_task is called for it (default auto)",
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="worker processes (default 1)")
    parser.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help=f"most handlers at once in a process (default {DEFAULTS.concurrency})",
    )
    parser.add_argument(
        "--lease-seconds",
        type=float,
        metavar="S",
        help=f"when the work of a worker that died is taken over (default {DEFAULTS.lease_seconds:g})",
    )
    parser.add_argument(
        "--check-tasks-every-seconds",
        type=float,
        metavar="S",
        help=f"longest time between two looks at all partitions (default {DEFAULTS.check_tasks_every_seconds:g})",
    )
    parser.add_argument(
        "--grace", type=float, metavar="S", help="wait at most so long for running handlers (default: without limit)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs until SIGTERM or SIGINT. Returns the exit code."""
    if options.processes < 1:
        raise InvalidOptions([f"--processes is {options.processes}: use a whole number from 1"])
    try:
        grace_seconds(options.grace, "worker")
    except InvalidTask as error:
        raise InvalidOptions([f"--grace is {options.grace:g}: use 0 seconds or more"]) from error
    fields = scheduler_options(options)
    with arguments_win(fields):
        load_options(fields)
    load_handler(options.handler)
    if options.processes == 1:
        return _work(options.handler, fields, options.confirm, options.grace)
    return _supervise((options.handler, fields, options.confirm, options.grace), options.processes)


def _work(handler: str, fields: dict[str, object], confirm: Confirm, grace: float | None) -> int:
    function = load_handler(handler)
    # Scheduler.wait does not do here: neither a signal during start-up nor a second one while handlers finish may kill
    # claimed runs. SimpleQueue is the one queue that a signal handler may use while the same thread waits at it.
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: asked.put(number))
    with arguments_win(fields):
        scheduler = Scheduler(fields)
    with scheduler:
        scheduler.start_task_execute(function, confirm)
        # Everything that is loaded stays. Otherwise a garbage collection looks through it now and then, for ten
        # milliseconds and more, while due tasks wait.
        gc.collect()
        gc.freeze()
        say(f"worker {os.getpid()} is ready")
        while not _is_orphan():
            with contextlib.suppress(queue.Empty):
                asked.get(timeout=1.0)  # on Windows a signal is handled only between two waits
                break
        scheduler.stop_task_execute(grace)
    return 0


def _is_orphan() -> bool:
    """Whether the process that started this one has died: whoever starts it again starts workers of its own."""
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _child(handler: str, fields: dict[str, object], confirm: Confirm, grace: float | None) -> None:
    try:
        sys.exit(_work(handler, fields, confirm, grace))
    except SchedulerError as error:
        say(f"interval-scheduler worker: {error}")
        sys.exit(1)


def _supervise(work: tuple[str, dict[str, object], Confirm, float | None], count: int) -> int:
    supervisor = _Supervisor(work)
    signal.signal(signal.SIGTERM, supervisor.stop)
    signal.signal(signal.SIGINT, supervisor.stop)
    return 1 if supervisor.run(count) else 0


class _Supervisor:
    """Runs worker processes, replaces those that die, and passes a signal on to all."""

    def __init__(self, work: tuple[str, dict[str, object], Confirm, float | None]) -> None:
        # Fresh interpreters: a forked process would get copies of connections and locks, without their threads.
        self._context = multiprocessing.get_context("spawn")
        self._work = work
        self._stopping = False
        # As in `_work`: the one queue that a signal handler may use while the same thread waits at it.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._children: dict[int, tuple[BaseProcess, float]] = {}

    def stop(self, number: int, _frame: object) -> None:
        """The signal handler: ends all processes, and starts no others."""
        self._stopping = True
        self._signals.put(number)
        for process, _ in list(self._children.values()):
            if process.is_alive():
                process.terminate()

    def run(self, count: int) -> int:
        """Returns when all have ended after a signal: how many of them failed."""
        for _ in range(count):
            self._start()
        failed = 0
        while self._children:
            for sentinel in wait(list(self._children), timeout=1.0):
                assert isinstance(sentinel, int)
                process, since = self._children.pop(sentinel)
                process.join()
                if self._stopping:
                    # A process that the signal killed had not set its signal handlers up, and so had claimed nothing.
                    failed += process.exitcode not in (0, -signal.SIGTERM)
                else:
                    self._replace(process, since)
        return failed

    def _start(self) -> None:
        if self._stopping:
            return
        process = self._context.Process(target=_child, args=self._work)
        process.start()
        self._children[process.sentinel] = (process, time.monotonic())
        if self._stopping:  # the signal came meanwhile and did not find this process among the children
            process.terminate()

    def _replace(self, process: BaseProcess, since: float) -> None:
        say(f"worker {process.pid} ended with code {process.exitcode}: starting another")
        if time.monotonic() - since < _QUICK_DEATH_SECONDS:
            # What failed at once would fail at once again: a pause, which a signal ends.
            with contextlib.suppress(queue.Empty):
                self._signals.get(timeout=_QUICK_DEATH_SECONDS)
        self._start()
