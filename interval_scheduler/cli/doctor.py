"""``interval-scheduler doctor``: the start-up checks, printed."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .arguments import add_namespace_arguments, scheduler_options, typed_options_win

if TYPE_CHECKING:
    from ..doctor import Finding


def register(commands: Any) -> None:
    """Adds the command to the subparsers."""
    parser = commands.add_parser(
        "doctor",
        help="check Redis instances before tasks depend on them",
        description="Checks every instance: version, persistence, eviction, memory, role, clock, the rights of the "
        "user, the namespace, and every script in a throw-away namespace. Changes nothing else. "
        "Exit code 0 without errors, 1 with.",
    )
    add_namespace_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON list of findings")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints every finding; the exit code: 1 if any is an error."""
    from ..doctor import diagnose

    fields = scheduler_options(options)
    with typed_options_win(fields):
        findings = diagnose(fields)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print("\n".join(lines(findings)))
    return 1 if any(finding.level == "error" for finding in findings) else 0


def lines(findings: Sequence[Finding]) -> list[str]:
    """Aligned lines, and one that sums up."""
    name = max((len(finding.instance) for finding in findings), default=0)
    check = max((len(finding.check) for finding in findings), default=0)
    printed = [
        f"{finding.level.upper():<7}  {finding.instance:<{name}}  {finding.check:<{check}}  {finding.message}"
        for finding in findings
    ]
    counts = Counter(finding.level for finding in findings)
    return [*printed, "", f"{counts['ok']} ok, {counts['warning']} warnings, {counts['error']} errors"]
