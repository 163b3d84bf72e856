"""The clocks of instances, against that of this machine and against each other."""

from __future__ import annotations

from collections.abc import Mapping

from ..servers.requirements import Finding, Level
from ..support.runtime import Runtime
from .connection import Connection

CLOCK_WARNING_SECONDS = 1.0
CLOCK_ERROR_SECONDS = 60.0
_SAMPLES = 3


def measure_clock(connection: Connection, runtime: Runtime) -> tuple[float, float] | None:
    """How many seconds a server's clock is ahead, and the most this may be wrong; None where it does not tell.

    The server's time is taken for that of the middle of the round trip, and of some round trips the shortest counts
    (Cristian, "Probabilistic clock synchronization", 1989).
    """
    best: tuple[float, float] | None = None
    for _ in range(_SAMPLES):
        begun, sent = runtime.time(), runtime.monotonic()
        answer = connection.one("TIME")
        half = (runtime.monotonic() - sent) / 2
        if isinstance(answer, Exception):
            return None
        server = int(answer[0]) + int(answer[1]) / 1e6
        if best is None or half < best[1]:
            best = server - begun - half, half
    return best


def clock_findings(clocks: Mapping[str, tuple[float, float]]) -> list[Finding]:
    """Judges clocks: per instance what `measure_clock` said.

    What may be the error of the measurement is not held against a clock.
    """
    findings = []
    for name, (ahead, error) in clocks.items():
        where = "ahead of" if ahead > 0 else "behind"
        findings.append(
            _finding(
                name,
                abs(ahead) - error,
                f"the clock of the server is {abs(ahead):.3f} s {where} that of this machine",
                "times computed here (execute_on, post, Cron) are due that much off",
            )
        )
    if len(clocks) > 1:
        first = min(clocks, key=lambda name: clocks[name][0])
        last = max(clocks, key=lambda name: clocks[name][0])
        difference = clocks[last][0] - clocks[first][0]
        finding = _finding(
            last,
            difference - clocks[last][1] - clocks[first][1],
            f"its clock is {difference:.3f} s ahead of that of instance {first!r}",
            "tasks of the same time run that far apart, depending on their id",
        )
        if finding.level != "ok":
            findings.append(finding)
    return findings


def _finding(instance: str, apart: float, what: str, why: str) -> Finding:
    if apart <= CLOCK_WARNING_SECONDS:
        return Finding("ok", instance, "clock", what)
    level: Level = "error" if apart > CLOCK_ERROR_SECONDS else "warning"
    return Finding(level, instance, "clock", f"{what}: {why}", "run NTP (chrony, timesyncd) on both machines")
