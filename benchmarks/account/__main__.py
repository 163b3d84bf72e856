"""Prints the accounts as one page: ``python -m benchmarks.account [--tasks 50000] [--output FILE]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..machine import machine
from .assigning import assigning
from .executing import executing


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.account", description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--output", type=Path, help="also write the page there")
    arguments = parser.parse_args()
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    lines = [
        "# Where each microsecond of a task goes",
        "",
        f"{about}. Parts are measured alone, at their quickest.",
        "",
    ]
    for account in (assigning(arguments.tasks), *executing(arguments.tasks)):
        lines += account.lines()
    page = "\n".join(lines)
    print(page)
    if arguments.output:
        arguments.output.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
