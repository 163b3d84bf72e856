"""The long form: ``python -m tests.chaos --seconds 300``. Exit code 1 on any violation."""

from __future__ import annotations

import argparse
import random
import sys
import time

from interval_scheduler.testing.judge import KINDS
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.scenario import Result, run_fault
from tests.servers import Binary, binaries

_COLUMNS = (
    "due",
    "run",
    "lost",
    "early",
    "dup",
    "late",
    "other",
    "dead",
    "unserved",
    "repeated",
    "recovery",
    "cmds/s",
    "cpu %",
)


class Table:
    """One row per fault: sums, and the worst of what is a rate or a time."""

    def __init__(self) -> None:
        self._results: dict[str, list[Result]] = {}

    def add(self, result: Result) -> None:
        self._results.setdefault(result.name, []).append(result)

    def __str__(self) -> str:
        lines = [f"{'fault':<24}{'times':>6}" + "".join(f"{column:>9}" for column in _COLUMNS)]
        for name, results in self._results.items():
            verdicts = [result.verdict for result in results]
            sums = [
                sum(verdict.due for verdict in verdicts),
                sum(verdict.run for verdict in verdicts),
                *(sum(len(getattr(v, kind)) for v in verdicts) for kind in KINDS),
                sum(verdict.dead for verdict in verdicts),
                sum(result.unserved for result in results),
                sum(result.repeated for result in results),
            ]
            worst = [
                f"{max(verdict.recovery for verdict in verdicts):.2f}",
                f"{max(result.commands_per_second for result in results):.0f}",
                f"{100 * max(result.cpu for result in results):.0f}",
            ]
            cells = [*map(str, sums), *worst]
            lines.append(f"{name:<24}{len(results):>6}" + "".join(f"{cell:>9}" for cell in cells))
        return "\n".join(lines)


def _rounds(chooser: random.Random, until: float, chosen: list[type[Fault]]) -> list[type[Fault]]:
    return [] if time.monotonic() >= until else chooser.sample(chosen, len(chosen))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="no fault begins after that time")
    parser.add_argument("--seed", type=int, default=None, help="order of faults and choices; random by default")
    parser.add_argument("--fault", default="", help="only faults whose name contains this")
    parser.add_argument("--redis", default="", help="part of a server's name, such as 'redis-6.2'")
    given = parser.parse_args()
    seed = random.randrange(2**32) if given.seed is None else given.seed
    found: list[Binary] = [binary for binary in binaries() if given.redis in str(binary)]
    chosen = [fault for fault in FAULTS if given.fault in fault.name]
    if not found or not chosen:
        parser.error("there is no such server, or no such fault")
    print(f"seed {seed}, {found[0]}", flush=True)
    chooser, table, broken = random.Random(seed), Table(), 0
    until = time.monotonic() + given.seconds
    while faults := _rounds(chooser, until, chosen):
        for kind in faults:
            if time.monotonic() >= until:
                break
            result = run_fault(found[0], kind, seed=chooser.randrange(2**32), target=chooser.randrange(3), instances=3)
            table.add(result)
            broken += len(result.violations)
            print(f"{result.name}: {result.seconds:.1f} s, {'; '.join(result.violations[:5]) or 'fine'}", flush=True)
    print(table)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
