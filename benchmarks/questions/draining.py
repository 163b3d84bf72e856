"""How fast due jobs are run by one worker process: what B4 and B5 share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.waiting import comes_true

from ..bench import Bench
from ..processes import Failed, Segment, Workers, assign, stage, workers
from ..servers import Server
from ..stalls import Sleeper
from ..subjects import Subject

_WATCH_SECONDS = 0.02
_LONGEST_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Drained:
    """Runs a second between the first and the last start; processor time a run of worker and server, in µs."""

    rate: float
    worker_cpu: float
    server_cpu: float
    scripts: float
    """µs a run in scripts, of claim and settle above all."""


def drain(
    bench: Bench,
    question: str,
    subject: Subject,
    count: int,
    mode: str = "bulk",
    persistence: str = "none",
    afterwards: Callable[[Server], None] | None = None,
) -> Drained:
    """Assigns `count` jobs, waits until all are due, starts a worker, and measures it.

    `afterwards` looks at the server when the last run has been settled.

    Raises:
        Failed: a job did not run.
    """
    with bench.servers(question, 1, persistence) as [server], stage(subject, [server]) as place:
        assigned = assign(place, Segment(count, 0, bench.lead(subject, count)), mode)
        Sleeper().until(assigned.due)
        scripts = server.scripts()
        with workers(place) as running:
            before = _at_first_run(running, server)
            running.wait_for(count, _LONGEST_SECONDS, quiet=15.0)
            after = (running.cpu(), server.cpu())
            scripts = server.scripts() - scripts
            starts = running.records.starts(0, count)
            if len(starts) < count:
                raise Failed(f"{count - len(starts)} of {count} jobs did not run")
            if afterwards is not None:
                afterwards(server)
    times = [moment for moments in starts.values() for moment in moments]
    runs = len(times)
    return Drained(
        (runs - 1) / (max(times) - min(times)),
        (after[0] - before[0]) / runs * 1e6,
        (after[1] - before[1]) / runs * 1e6,
        scripts.microseconds / runs,
    )


def _at_first_run(running: Workers, server: Server) -> tuple[float, float]:
    """Processor seconds of workers and server when the first job runs: start-up does not count."""
    before = (0.0, 0.0)

    def has_begun() -> bool:
        nonlocal before
        looked = (running.cpu(), server.cpu())
        if running.records.poll():
            return True
        before = looked
        return False

    comes_true(has_begun, _LONGEST_SECONDS, pause=_WATCH_SECONDS)
    return before
