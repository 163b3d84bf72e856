"""The command line. What a command needs is imported when it is known which command runs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from .._version import __version__
from ..support.console import say

if TYPE_CHECKING:
    from .arguments import Commands

_VERSION = f"interval-scheduler {__version__}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 if it succeeded, 1 if it failed, 2 for wrong usage."""
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
        say(f"interval-scheduler {options.command}: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


class _Parser(argparse.ArgumentParser):
    """Shows no URL in an error: one that stands in the wrong place may hold a password."""

    def error(self, message: str) -> NoReturn:
        super().error(re.sub(r"\S*(://|@)\S*", "…", message))


def _parser() -> argparse.ArgumentParser:
    from . import audit, doctor, service, worker

    parser = _Parser(prog="interval-scheduler", description="Recurring and one-off tasks at their time, on Redis.")
    parser.add_argument("--version", action="version", version=_VERSION)
    commands: Commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")  # type: ignore[assignment]

    _register_demo(commands)
    worker.register(commands)
    doctor.register(commands)
    audit.register(commands)
    service.register(commands)
    return parser


def _register_demo(commands: Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="see it work: tasks on two private Redis servers, two workers, one of them killed",
        description="Starts two private Redis servers and two worker processes, assigns recurring and one-off tasks, "
        "kills one worker midway with SIGKILL, and checks that every occurrence ran once and on time. "
        "Takes about 20 seconds; the exit code is 0 only if they did.",
    )
    demo.add_argument("--plain", action="store_true", help="print lines instead of a live picture")
    demo.set_defaults(run=_run_demo)


def _run_demo(options: argparse.Namespace) -> int:
    from .demo import run

    return run(plain=options.plain)
