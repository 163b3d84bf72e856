"""The command line. What a command needs is imported when it is known which one was asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .._version import __version__

_VERSION = f"interval-scheduler {__version__}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits with its code: 0 well, 1 failed, 2 wrong usage."""
    if (sys.argv[1:] if arguments is None else list(arguments)) == ["--version"]:
        print(_VERSION)
        sys.exit(0)
    from ..model.errors import SchedulerError

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
    from . import audit, doctor, service
    from .arguments import DEFAULTS, add_namespace_arguments

    parser = argparse.ArgumentParser(
        prog="interval-scheduler", description="Recurring and one-off tasks at their time, on Redis."
    )
    parser.add_argument("--version", action="version", version=_VERSION)
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
    add_namespace_arguments(worker)
    worker.add_argument(
        "--confirm",
        choices=("auto", "manual"),
        default="auto",
        help="manual: a run is done only when confirm_task is called for it (default auto)",
    )
    worker.add_argument("--processes", type=int, default=1, metavar="N", help="worker processes (default 1)")
    worker.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help=f"most handlers at once in a process (default {DEFAULTS.concurrency})",
    )
    worker.add_argument(
        "--lease-seconds",
        type=float,
        metavar="S",
        help=f"when the work of a worker that died is taken over (default {DEFAULTS.lease_seconds:g})",
    )
    worker.add_argument(
        "--check-tasks-every-seconds",
        type=float,
        metavar="S",
        help=f"longest time between two looks at all partitions (default {DEFAULTS.check_tasks_every_seconds:g})",
    )
    worker.add_argument(
        "--grace", type=float, metavar="S", help="wait at most this long for running handlers (default: for ever)"
    )
    worker.set_defaults(run=_run_worker)
    doctor.register(commands)
    audit.register(commands)
    service.register(commands)
    return parser


def _run_demo(options: argparse.Namespace) -> int:
    from .demo import run

    return run(plain=options.plain)


def _run_worker(options: argparse.Namespace) -> int:
    from .worker import run

    return run(options)
