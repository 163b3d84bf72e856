"""How many instances, workers and how much memory: ``python -m benchmarks.capacity --tasks 100e6 --rate 20000``.

Computed from the unit costs in the results of ``python -m benchmarks``. Without --tasks and
--rate it prints a table for 1 million, 100 million and 1,000 million tasks.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .figures import OURS, Table, format_value
from .report import RESULTS, from_json

TASKS = (1e6, 100e6, 1e9)
RATES = (100.0, 1000.0, 20_000.0, 200_000.0)
GIB = 2.0**30


@dataclass(frozen=True, slots=True)
class Costs:
    """Unit costs of a task: bytes while it is pending, and µs of processor time of server and worker for a run; a
    recurring task that is rescheduled costs about the same."""

    pending_bytes: float
    server_run: float
    worker_run: float
    server_assign: float


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a machine: memory of an instance in bytes, and the share of a core that may be busy."""

    memory: float
    busy: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes."""

    tasks: float
    rate: float
    memory: float
    instances_for_memory: int
    instances_for_runs: int
    workers: int

    @property
    def instances(self) -> int:
        return max(self.instances_for_memory, self.instances_for_runs)


def plan(costs: Costs, limits: Limits, tasks: float, rate: float, assigned: float = 0.0) -> Plan:
    """What it takes to keep `tasks` pending and to run `rate` of them a second, while `assigned` a second are new."""
    memory = tasks * costs.pending_bytes
    server = rate * costs.server_run + assigned * costs.server_assign
    return Plan(
        tasks,
        rate,
        memory,
        max(1, math.ceil(memory / limits.memory)),
        max(1, math.ceil(server / 1e6 / limits.busy)),
        max(1, math.ceil(rate * costs.worker_run / 1e6 / limits.busy)),
    )


def costs_of(table: Table) -> Costs:
    """The unit costs in the results: of memory those of the fullest server.

    Raises:
        SystemExit: a question that is needed was not measured.
    """
    medians = {
        (row.question, row.what): row.median for row in table.rows.values() if row.subject == OURS and row.values
    }
    pending = {
        int(what.split(" ")[0].replace(",", "")): value
        for (question, what), value in medians.items()
        if question == "B8" and what.endswith(" pending")
    }
    try:
        return Costs(
            pending[max(pending)],
            medians["B4", "run due tasks, coroutine: server"],
            medians["B4", "run due tasks, coroutine: worker"],
            medians["B2", "bulk, due over 24 hours: server"],
        )
    except (KeyError, ValueError) as error:
        raise SystemExit(f"the results lack {error}: run python -m benchmarks --only B2,B4,B8 first") from error


def page(costs: Costs, limits: Limits, plans: Iterable[Plan], about: str) -> str:
    """The plans as a table."""
    lines = [
        "# Capacity",
        "",
        f"Measured on {about}: {costs.pending_bytes:.0f} bytes a pending task; a run takes {costs.server_run:.1f} µs "
        f"of a server and {costs.worker_run:.1f} µs of a worker, whose handler does nothing: add yours. Assigning "
        f"takes {costs.server_assign:.1f} µs of a server.",
        "These are costs under load, where calls carry many tasks. At low rates a task costs more, but then servers "
        "and workers are mostly idle.",
        f"Planned with instances of {limits.memory / GIB:.0f} GiB and cores {limits.busy:.0%} busy.",
        "",
        "| tasks pending | runs/s | memory | instances (for memory, for runs) | worker processes |",
        "|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {format_value(each.tasks)} | {format_value(each.rate)} | {each.memory / GIB:,.1f} GiB | {each.instances} "
        f"({each.instances_for_memory}, {each.instances_for_runs}) | {each.workers} |"
        for each in plans
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.capacity", description=__doc__)
    parser.add_argument("--tasks", type=float, nargs="*", default=TASKS, help="tasks pending at the same time")
    parser.add_argument("--rate", type=float, nargs="*", default=RATES, help="runs a second")
    parser.add_argument("--assigned", type=float, default=0.0, help="new tasks a second")
    parser.add_argument("--instance-gib", type=float, default=16.0, help="memory for the data of one instance")
    parser.add_argument("--busy", type=float, default=0.5, help="share of a core to plan with, up to 1")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--output", type=Path, help="also write the page there")
    arguments = parser.parse_args()
    if not arguments.results.exists():
        raise SystemExit(f"{arguments.results} is not there: run python -m benchmarks --only B2,B4,B8 first")
    if not (0 < arguments.busy <= 1 and arguments.instance_gib > 0):
        parser.error("--busy is above 0 and at most 1, --instance-gib above 0")
    table, about = from_json(arguments.results.read_text())
    limits = Limits(arguments.instance_gib * GIB, arguments.busy)
    costs = costs_of(table)
    plans = [
        plan(costs, limits, tasks, rate, arguments.assigned) for tasks in arguments.tasks for rate in arguments.rate
    ]
    machine = about["machine"]
    text = page(costs, limits, plans, f"{machine['processor']}, {machine['server']}, Python {machine['python']}")
    print(text)
    if arguments.output:
        arguments.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
