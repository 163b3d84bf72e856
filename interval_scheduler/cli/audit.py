"""``interval-scheduler verify`` and ``repair``: the audit of what is stored, printed."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from .arguments import add_namespace_arguments, arguments_win, scheduler_options

if TYPE_CHECKING:
    from ..protocol.audit import Audit, ProblemKind
    from .arguments import Commands

_WHAT: Mapping[ProblemKind, str] = {
    "header": "its record cannot be read",
    "body": "its payload or schedule cannot be read",
    "home": "it is in a partition that its id does not belong to",
    "place": "it is not where its state says, so nobody would run it",
    "entry": "an entry that should not be there",
    "index": "a bucket that would not be found",
    "token": "its fencing token is above the sequence",
    "dead": "dead letters and their list differ",
    "key": "a key of the partition is damaged",
}
_ADVICE: Mapping[ProblemKind, str] = {
    "key": "restore it, or rename it and repair again: then what it held is lost",
    "body": "if a newer version wrote it, use that version; else remove the task and assign it again",
    "home": "it runs, but is not found by its id: assign it again, which makes a second task",
}


def register(commands: Commands) -> None:
    """Adds both commands to the subparsers."""
    for name, help in (
        ("verify", "check everything that is stored"),
        ("repair", "check everything that is stored, and repair it"),
    ):
        parser = commands.add_parser(
            name,
            help=help,
            description="Audits every invariant between records, buckets, index, retries, leases and dead letters, in "
            "short steps, while producers and workers go on. "
            + ("Changes nothing." if name == "verify" else "Repairs what it finds without losing a task.")
            + " Exit code 0 if nothing is wrong (any more), 1 otherwise.",
        )
        add_namespace_arguments(parser)
        parser.add_argument("--json", action="store_true", help="print what was found as JSON")
        parser.set_defaults(run=run, repair=name == "repair")


def run(options: argparse.Namespace) -> int:
    """Prints what was found. Returns the exit code: 1 if something is wrong and was not repaired."""
    from ..scheduler import Scheduler

    fields = scheduler_options(options)
    # Log lines go to stderr, because a program may read stdout.
    with arguments_win(fields), Scheduler(fields, logging.getLogger("interval_scheduler")) as scheduler:
        audit = (scheduler.repair if options.repair else scheduler.verify)(_progress if sys.stderr.isatty() else None)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    print(json.dumps(asdict(audit), indent=2) if options.json else "\n".join(lines(audit, options.repair)))
    return 0 if audit.sound else 1


def _progress(checked: int) -> None:
    print(f"\r{checked:,} entries checked", end="", file=sys.stderr, flush=True)


def lines(audit: Audit, repair: bool) -> Iterator[str]:
    """A line for each problem, and a summary."""
    for problem in audit.problems:
        state = "REPAIRED" if problem.repaired else "WRONG   "
        yield (
            f"{state}  {problem.kind:<6}  {problem.id!r} (partition {problem.partition}, {problem.instance}): "
            f"{_WHAT[problem.kind]}: {problem.found}"
        )
        if repair and not problem.repaired and problem.kind in _ADVICE:
            yield f"{'':<18}fix: {_ADVICE[problem.kind]}"
    wrong = sum(not problem.repaired for problem in audit.problems)
    repaired = len(audit.problems) - wrong
    found = f"{wrong} wrong{f', {repaired} repaired' if repaired else ''}" if audit.problems else "nothing is wrong"
    yield f"{audit.tasks:,} tasks and {audit.dead:,} dead letters checked: {found}"
    if wrong and not repair:
        yield "run `interval-scheduler repair` with the same arguments"
