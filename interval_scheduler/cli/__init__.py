"""The command line: ``interval-scheduler demo`` and ``interval-scheduler worker``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .._version import __version__
from ..errors import SchedulerError
from . import doctor, service


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits with its code: 0 well, 1 failed, 2 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        sys.exit(2)
    try:
        sys.exit(options.run(options))
    except SchedulerError as error:
        print(f"interval-scheduler {options.command}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="interval-scheduler", description="Recurring and one-off tasks at their time, on Redis."
    )
    parser.add_argument("--version", action="version", version=f"interval-scheduler {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="see it work: tasks on two private Redis servers, two workers, one of them killed",
        description="Starts two private Redis servers and two worker processes, assigns recurring and one-off tasks, "
        "kills one worker midway with SIGKILL, and checks that every occurrence ran once and on time. "
        "Takes about 20 seconds; exit code 0 only if that held.",
    )
    demo.add_argument("--plain", action="store_true", help="print lines instead of a live picture")
    demo.set_defaults(run=_run_demo)

    worker = commands.add_parser(
        "worker",
        help="run a handler for due tasks",
        description="Runs worker processes that call HANDLER for every task that comes due, until SIGTERM or SIGINT, "
        "which let running handlers finish. What is typed here wins over environment variables.",
    )
    worker.add_argument("handler", metavar="MODULE:HANDLER", help="a function or coroutine function handler(payload)")
    worker.add_argument(
        "--url",
        action="append",
        required=not os.environ.get("INTERVAL_SCHEDULER_INSTANCES"),
        metavar="URL",
        help="a Redis instance; repeat for several; NAME=URL names it (default: INTERVAL_SCHEDULER_INSTANCES)",
    )
    worker.add_argument(
        "--confirm",
        choices=("auto", "manual"),
        default="auto",
        help="manual: a run is done only when confirm_task is called for it (default auto)",
    )
    worker.add_argument("--namespace", help="default: interval-scheduler")
    worker.add_argument("--processes", type=int, default=1, metavar="N", help="worker processes (default 1)")
    worker.add_argument("--concurrency", type=int, metavar="N", help="most handlers at once in a process (default 100)")
    worker.add_argument("--lease-seconds", type=float, metavar="S", help="default 15")
    worker.add_argument("--task-interval-seconds", type=float, metavar="S", help="bucket width (default 60)")
    worker.add_argument(
        "--check-tasks-every-seconds",
        type=float,
        metavar="S",
        help="longest time between two looks at all partitions (default 10)",
    )
    worker.add_argument("--partitions", type=int, metavar="N", help="default 64")
    worker.add_argument(
        "--grace", type=float, metavar="S", help="wait at most this long for running handlers (default: for ever)"
    )
    worker.set_defaults(run=_run_worker)
    doctor.register(commands)
    service.register(commands)
    return parser


def _run_demo(options: argparse.Namespace) -> int:
    from .demo import run

    return run(plain=options.plain)


def _run_worker(options: argparse.Namespace) -> int:
    from .worker import run

    return run(options)
