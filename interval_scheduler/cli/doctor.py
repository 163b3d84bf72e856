"""``interval-scheduler doctor``: the start-up checks, printed."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

from .arguments import add_namespace_arguments, arguments_win, scheduler_options

if TYPE_CHECKING:
    from ..doctor import Finding
    from .arguments import Commands

_DESCRIPTION = """\
Checks every Redis instance before tasks depend on it:

  reachable    address, login, TLS
  version      Redis 6.2 or newer, or Valkey
  role         a primary, which takes writes
  eviction     maxmemory-policy noeviction, so that no task is deleted
  persistence  data is kept on disk
  memory       there is room for more tasks
  clock        against this machine and the other instances
  zones        time-zone data here and of the workers
  rights       each one that the user needs (see docs/acl.md)
  name         it is the server that the namespace knows by this name
  topology     the options fit the namespace
  scripts      every one run for real, in a throw-away namespace
  hints        workers hear of new tasks at once

The namespace itself is not changed, nor created. Each finding that is not OK
says what is wrong, why it matters, and how to fix it."""
_EPILOG = """\
exit code: 0 without errors (there may be warnings), 1 with errors or wrong
options, 2 for wrong usage"""
_CHECK = len("persistence")
"""Width of the column of checks: the longest name."""


def register(commands: Commands) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "doctor",
        help="check Redis instances before tasks depend on them",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_namespace_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON list of findings")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints every finding. Returns the exit code: 1 if one is an error."""
    from ..doctor import diagnose

    fields = scheduler_options(options)
    with arguments_win(fields):
        findings = diagnose(fields)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print("\n".join(lines(findings, width)))
    return 1 if any(finding.level == "error" for finding in findings) else 0


def lines(findings: Sequence[Finding], width: int | None = None) -> Iterator[str]:
    """The findings by instance, in aligned columns, and a summary.

    `width` is the width of the terminal; without it, lines are not wrapped.
    """
    for instance, found in groupby(findings, key=lambda finding: finding.instance):
        yield instance
        for finding in found:
            start = f"  {finding.level.upper():<7}  {finding.check:<{_CHECK}}  "
            yield from _wrapped(start, finding.message, width)
            if finding.fix:
                yield from _wrapped(" " * len(start) + "fix: ", finding.fix, width)
        yield ""
    counts = Counter(finding.level for finding in findings)
    yield ", ".join((f"{counts['ok']} ok", _count(counts["warning"], "warning"), _count(counts["error"], "error")))


def _wrapped(start: str, text: str, width: int | None) -> list[str]:
    # A narrow terminal has no room for columns.
    if width is None or width < len(start) + 30:
        return [start + text]
    return textwrap.wrap(
        text,
        width,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
