"""How fast due jobs are run by one worker process: what B4 and B5 share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.waiting import comes_true

from ..bench import Bench
from ..processes import Failed, Segment, assign, stage, workers
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
    calls: float
    """Calls of scripts a run."""


def drain(
    bench: Bench,
    question: str,
    subject: Subject,
    count: int,
    mode: str = "bulk",
    persistence: str = "none",
    afterwards: Callable[[Server], None] | None = None,
) -> Drained:
    """Assigns `count` jobs, lets all of them become due, starts a worker, and watches.

    `afterwards` looks at the server when the last run has been settled.

    Raises:
        Failed: where a job did not run.
    """
    with bench.servers(question, 1, persistence) as servers, stage(subject, servers) as place:
        [server] = servers
        assigned = assign(place, Segment(count, 0, bench.lead(subject, count)), mode)
        Sleeper().until(assigned.due)
        scripts = server.scripts()
        with workers(place) as running:
            before = (0.0, 0.0)

            def has_begun() -> bool:
                # Start-up is not part of it: the last look before the first run counts.
                nonlocal before
                looked = (running.cpu(), server.cpu())
                if running.records.poll():
                    return True
                before = looked
                return False

            comes_true(has_begun, _LONGEST_SECONDS, pause=_WATCH_SECONDS)
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
            scripts.calls / runs,
        )
