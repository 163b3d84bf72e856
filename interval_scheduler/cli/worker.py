"""``interval-scheduler worker``: worker processes under a parent that passes signals on and replaces the dead."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import multiprocessing
import os
import queue
import signal
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from ..model.errors import InvalidOptions, SchedulerError
from ..model.options import load_options
from ..scheduler import Scheduler
from ..worker.worker import Confirm
from .arguments import scheduler_options, typed_options_win

_QUICK_DEATH_SECONDS = 1.0
"""A process that dies sooner than this after its start is replaced only after a pause."""


def run(options: argparse.Namespace) -> int:
    """Runs until SIGTERM or SIGINT; the exit code."""
    if options.processes < 1:
        raise InvalidOptions([f"--processes is {options.processes}: use a whole number from 1"])
    fields = scheduler_options(options)
    with typed_options_win(fields):
        load_options(fields)
    load_handler(options.handler)
    if options.processes == 1:
        return _work(options.handler, fields, options.confirm, options.grace)
    return _supervise((options.handler, fields, options.confirm, options.grace), options.processes)


def load_handler(path: str) -> Any:
    """The object that ``module:name`` (or ``module:object.name``) means.

    Raises:
        InvalidOptions: where it cannot be found or called.
    """
    module, _, names = path.partition(":")
    if not module or not names:
        raise InvalidOptions([f"the handler is {path!r}: write it as module:function"])
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise InvalidOptions([f"the handler {path!r} cannot be found: {error}"]) from error
    if not callable(found):
        raise InvalidOptions([f"the handler {path!r} cannot be called: name a function"])
    return found


def _work(handler: str, fields: dict[str, Any], confirm: Confirm, grace: float | None) -> int:
    function = load_handler(handler)
    # Not Scheduler.wait: a signal during start-up, or a second one during the draining, must not kill what was claimed.
    # Of all queues only this one may be used by a signal handler while the same thread waits at it.
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: asked.put(number))
    with typed_options_win(fields):
        scheduler = Scheduler(fields)
    with scheduler:
        scheduler.start_task_execute(function, confirm)
        # What is loaded stays. To look through all of it for garbage would keep due tasks waiting for ten milliseconds
        # and more, now and then.
        gc.collect()
        gc.freeze()
        print(f"worker {os.getpid()} is ready", file=sys.stderr, flush=True)
        while True:
            with contextlib.suppress(queue.Empty):
                asked.get(timeout=1.0)  # Windows sees a signal only between two waits
                break
        scheduler.stop_task_execute(grace)
    return 0


def _child(handler: str, fields: dict[str, Any], confirm: Confirm, grace: float | None) -> None:
    try:
        sys.exit(_work(handler, fields, confirm, grace))
    except SchedulerError as error:
        print(f"interval-scheduler worker: {error}", file=sys.stderr)
        sys.exit(1)


def _supervise(work: tuple[str, dict[str, Any], Confirm, float | None], count: int) -> int:
    # Fresh interpreters: a forked one would share connections, locks and threads that are not there.
    context = multiprocessing.get_context("spawn")
    stopping = False
    # As in _work: the one queue that a signal handler may put into while the same thread waits at it.
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()
    children: dict[int, tuple[BaseProcess, float]] = {}

    def start() -> None:
        if stopping:
            return
        process = context.Process(target=_child, args=work)
        process.start()
        children[process.sentinel] = (process, time.monotonic())
        # A signal that came while it started did not find it among the children.
        if stopping:
            process.terminate()

    def stop(number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
        asked.put(number)
        for process, _ in list(children.values()):
            if process.is_alive():
                process.terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for _ in range(count):
        start()
    failed = 0
    while children:
        for sentinel in wait(list(children), timeout=1.0):
            assert isinstance(sentinel, int)
            process, since = children.pop(sentinel)
            process.join()
            if stopping:
                # A child that the signal kills has not come to its signal handlers yet, and so has claimed nothing.
                failed += process.exitcode not in (0, -signal.SIGTERM)
                continue
            print(f"worker {process.pid} ended with code {process.exitcode}: starting another", file=sys.stderr)
            if time.monotonic() - since < _QUICK_DEATH_SECONDS:
                # A pause on purpose: what fails at once would fail again at once. A signal ends it.
                with contextlib.suppress(queue.Empty):
                    asked.get(timeout=_QUICK_DEATH_SECONDS)
            start()
    return 1 if failed else 0
