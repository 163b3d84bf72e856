"""``interval-scheduler worker``: worker processes under a parent that passes signals on and replaces the dead."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from ..errors import InvalidOptions, SchedulerError
from ..options import load_options
from ..scheduler import Scheduler

_QUICK_DEATH_SECONDS = 1.0
"""A process that dies sooner than this after its start is replaced only after a pause."""


def run(options: argparse.Namespace) -> int:
    """Runs until SIGTERM or SIGINT; the exit code."""
    if options.processes < 1:
        raise InvalidOptions([f"--processes is {options.processes}: use a whole number from 1"])
    fields = scheduler_options(options)
    load_options(fields)
    load_handler(options.handler)
    if options.processes == 1:
        return _work(options.handler, fields, options.grace)
    return _supervise(options.handler, fields, options.grace, options.processes)


def scheduler_options(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says, as options of a scheduler."""
    storage: dict[str, Any] = {"instances": [_instance(text) for text in options.url]}
    fields: dict[str, Any] = {"storage": storage}
    for name in ("namespace", "concurrency", "lease_seconds", "partitions"):
        if getattr(options, name) is not None:
            fields[name] = getattr(options, name)
    if options.task_interval_seconds is not None:
        storage["task_interval_seconds"] = options.task_interval_seconds
    return fields


def _instance(text: str) -> Any:
    name, separator, url = text.partition("=")
    return {"name": name, "url": url} if separator and "://" not in name else text


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


def _work(handler: str, fields: dict[str, Any], grace: float | None) -> int:
    with Scheduler(fields) as scheduler:
        scheduler.start_task_execute(load_handler(handler))
        print(f"worker {os.getpid()} is ready", file=sys.stderr, flush=True)
        scheduler.wait(grace)
        if grace is not None and scheduler.executing_tasks:
            scheduler.stop_task_execute(0)
    return 0


def _child(handler: str, fields: dict[str, Any], grace: float | None) -> None:
    try:
        sys.exit(_work(handler, fields, grace))
    except SchedulerError as error:
        print(f"interval-scheduler worker: {error}", file=sys.stderr)
        sys.exit(1)


def _supervise(handler: str, fields: dict[str, Any], grace: float | None, count: int) -> int:
    # Fresh interpreters: a forked one would share connections, locks and threads that are not there.
    context = multiprocessing.get_context("spawn")
    stopping = False
    children: dict[int, tuple[BaseProcess, float]] = {}

    def start() -> None:
        process = context.Process(target=_child, args=(handler, fields, grace))
        process.start()
        children[process.sentinel] = (process, time.monotonic())

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True
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
                failed += process.exitcode != 0
                continue
            print(f"worker {process.pid} ended with code {process.exitcode}: starting another", file=sys.stderr)
            if time.monotonic() - since < _QUICK_DEATH_SECONDS:
                time.sleep(_QUICK_DEATH_SECONDS)  # a pause on purpose: what fails at once would fail again at once
            if not stopping:
                start()
    return 1 if failed else 0
