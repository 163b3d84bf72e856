"""Shows the coverage of each folder of the package, and ends with 1 where a folder misses its goal.

Reads what `pytest --cov` has left in the working directory. A missing branch is written as `line->line`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import coverage

PACKAGE = "interval_scheduler"
GOAL = 95.0
"""Per cent of the lines, and per cent of the branches."""
HELD_TO_THE_GOAL = ("core", "protocol", "transport", "worker")
"""The folders that decide whether a task is lost, early or run twice."""

COUNTS = ("covered_lines", "num_statements", "covered_branches", "num_branches")

Files = dict[str, dict[str, Any]]


def report() -> Files:
    """What coverage.py reports of each file, under the file's path."""
    data = coverage.Coverage()
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "coverage.json")
        data.json_report(outfile=str(target))
        files: Files = json.loads(target.read_text())["files"]
    return files


def folder_of(path: str) -> str:
    """The folder below the package, or the package itself."""
    parts = Path(path).parts
    below = parts[parts.index(PACKAGE) + 1 : -1]
    return below[0] if below else PACKAGE


def totals(files: Files) -> dict[str, dict[str, int]]:
    """The counts of each folder."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    for path, file in files.items():
        for name in COUNTS:
            sums[folder_of(path)][name] += file["summary"][name]
    return dict(sorted(sums.items()))


def percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 100.0


def percents(counts: dict[str, int]) -> tuple[float, float]:
    """Of lines and of branches."""
    lines = percent(counts["covered_lines"], counts["num_statements"])
    return lines, percent(counts["covered_branches"], counts["num_branches"])


def missing(file: dict[str, Any]) -> str:
    """The lines and branches of a file that no test reached."""
    lines = file["missing_lines"]
    # A branch to a line that is missing itself tells nothing new. A negative number is the end of a function.
    branches = [f"{start}->{'exit' if end < 0 else end}" for start, end in file["missing_branches"] if end not in lines]
    return ", ".join(ranges(lines) + branches)


def ranges(lines: list[int]) -> list[str]:
    """Sorted numbers, those that follow one another as `first-last`."""
    found: list[list[int]] = []
    for line in lines:
        if found and line == found[-1][-1] + 1:
            found[-1].append(line)
        else:
            found.append([line])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in found]


def main() -> int:
    files = report()
    sums = totals(files)
    absent = [folder for folder in HELD_TO_THE_GOAL if folder not in sums]
    below = [folder for folder in HELD_TO_THE_GOAL if folder in sums and min(percents(sums[folder])) < GOAL]
    print(f"{'coverage':20}{'lines':>8}{'of':>9}{'branches':>11}{'of':>7}")
    for folder, counts in sums.items():
        lines, branches = percents(counts)
        goal = f"  goal {GOAL:g} %" if folder in HELD_TO_THE_GOAL else ""
        print(
            f"{folder:20}{lines:7.1f} %{counts['num_statements']:8}{branches:9.1f} %{counts['num_branches']:7}"
            f"{goal}{', MISSED' if folder in below else ''}"
        )
    for path, file in sorted(files.items()):
        if folder_of(path) in HELD_TO_THE_GOAL and missing(file):
            print(f"{path} without: {missing(file)}")
    if absent:
        print(f"not measured at all: {', '.join(absent)}", file=sys.stderr)
    return 1 if below or absent else 0


if __name__ == "__main__":
    sys.exit(main())
