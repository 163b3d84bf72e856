"""One fault from beginning to end: warm up, inject, heal, wait for everything that is due, judge."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from math import inf

from interval_scheduler import PartitionUnavailable, Scheduler
from interval_scheduler.testing.history import LossWindow, Remaining
from interval_scheduler.testing.judge import Judge, Terms, Verdict
from tests.chaos.faults import Fault
from tests.chaos.journal import Observed
from tests.chaos.producer import RECURRING
from tests.chaos.stage import Stage
from tests.servers import Binary
from tests.waiting import comes_true, wait_until

BUSY_COMMANDS = 300.0
"""Commands per second and worker beyond what the work explains, from which on a worker spins."""
BUSY_CPU = 0.3
"""Share of a processor that no worker with so little work may need: twice what the worst fault takes."""
UNDER_WAY = 0.1
"""Seconds that an acknowledged write may need to a replica that is healthy."""
SETTLED_SECONDS = 1.0
"""How long the undisturbed work goes on between `prepare` and `inject`. What a prepared server takes in then has to be
more than nothing, where losing it is the fault."""
AFTER_SECONDS = 0.6
"""How long producers go on after the healing: their calls are served then, and what they assign falls due."""
LOAD_SECONDS = 1.9
"""How long before and after a fault the first one-off tasks of producers fall due, together."""
PATIENCE = 15.0
"""Seconds after healing by which everything due has run."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one fault did."""

    name: str
    verdict: Verdict
    commands_per_second: float
    """Per worker, all of them."""
    unexplained_per_second: float
    """Per worker, without what the work explains."""
    cpu: float
    """Mean share of a processor per worker."""
    left: int
    """One-off tasks that nobody got rid of."""
    unserved: int
    """Calls of producers that failed, or whose outcome is unknown."""
    repeated: int
    """Runs that did not come to their end, and runs beyond the first of an occurrence."""
    seconds: float
    more: list[str]
    """What only this fault asks for, and was not so."""

    @property
    def violations(self) -> list[str]:
        """Every promise that was broken."""
        found = [*self.verdict.violations, *self.more]
        if self.unexplained_per_second > BUSY_COMMANDS:
            found.append(f"busy: {self.unexplained_per_second:.0f} commands/s per worker without work")
        if self.cpu > BUSY_CPU:
            found.append(f"busy: workers take {self.cpu:.0%} of a processor each")
        if self.left:
            found.append(f"left: {self.left} one-off tasks are still there")
        if self.verdict.dead:
            found.append(f"dead: {self.verdict.dead} occurrences were given up, though no task here kills its worker")
        if not self.verdict.due:
            found.append("nothing: no occurrence came due, so nothing was tested")
        return found


def run_fault(
    binary: Binary,
    kind: type[Fault],
    *,
    seed: int = 0,
    target: int = 0,
    instances: int = 2,
    worker: str = "worker",
) -> Result:
    """Runs one fault on servers and processes of its own, which are gone afterwards. `worker` is a module here."""
    began = time.monotonic()
    fault = kind()
    with closing(_stage(fault, binary, seed, target, instances)) as stage:
        _warm_up(fault, stage, worker)
        measure, terms, healed = _strike(fault, stage)
        with stage.scheduler() as scheduler:
            left = _finish(stage, scheduler, terms, healed)
            stage.expect_workers()
            observed = stage.read()
            dead = {letter.id for letter in scheduler.dead_tasks()}
            observed.remaining = {task_id: Remaining(inf, dead=True) for task_id in dead}
        explained = _explained(observed, terms.disturbed, terms.cutoff or 0)
        return Result(
            fault.name,
            Judge(observed, terms).verdict(),
            measure.commands / measure.seconds / 2,
            max(0.0, measure.commands - explained) / measure.seconds / 2,
            measure.cpu,
            left,
            sum(call.outcome != "ok" for call in observed.calls),
            len(observed.runs) - len({(run.id, run.due) for run in observed.runs if run.how == "done"}),
            time.monotonic() - began,
            fault.violations(observed, dead),
        )


def _stage(fault: Fault, binary: Binary, seed: int, target: int, instances: int) -> Stage:
    """The servers and processes that a fault needs."""
    return Stage(
        binary,
        seed=seed,
        proxied=fault.proxied,
        replicated=fault.replicated,
        server_options=fault.server_options,
        target=target,
        instances=instances,
    )


def _warm_up(fault: Fault, stage: Stage, worker: str) -> None:
    """Starts workers and producers, and waits until what is to be disturbed is under way: every worker has runs."""
    for handlers in ("plain", "coroutine"):
        stage.start_worker(handlers, worker)
    for _ in range(2):
        stage.start_producer(spread=LOAD_SECONDS + fault.seconds, pace=0.08)
    for child in [*stage.workers, *stage.producers]:
        child.await_ready()
    pids = {str(child.pid) for child in stage.workers}
    wait_until(lambda: {run.process for run in stage.read().runs} >= pids)


def _strike(fault: Fault, stage: Stage) -> tuple[_Measure, Terms, float]:
    """Brings the fault about and heals it: what was measured, what the judge has to know, and when it was healed."""
    prepared = time.time()
    fault.prepare(stage)
    time.sleep(SETTLED_SECONDS)  # the length of a phase: there is nothing to wait for
    measure = _Measure(stage)
    injected = time.time()
    fault.inject(stage)
    _repeat(fault, stage)
    healing = time.time()
    fault.heal(stage)
    healed = time.time()
    time.sleep(AFTER_SECONDS)  # the length of a phase
    stage.stop_producers()
    cutoff = time.time()
    measure.stop()
    if fault.loses:
        stage.read().losses.append(LossWindow("", prepared - UNDER_WAY, healed))
    terms = Terms(
        stage.lease,
        clock=0.001,  # due times are whole milliseconds
        cutoff=cutoff,
        lapses=(injected, healed + 1) if fault.lapses else None,
        late_starts=True,
        disturbed=injected,
        served=injected if fault.serves else healed,
        recovery=fault.limit(stage.lease),
        notice=fault.loses or fault.reports,
        concurrency=stage.options["concurrency"],
        filled=healing if fault.fills else inf,
        crew=tuple(str(child.pid) for child in stage.workers) if fault.fills else (),
    )
    return measure, terms, healed


def _repeat(fault: Fault, stage: Stage) -> None:
    until = time.monotonic() + fault.seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))  # the fault lasts
        fault.again(stage)


def _explained(observed: Observed, since: float, until: float) -> int:
    """Commands for the work: of every run a claim, a settle, and perhaps a renewal and a hint; three for each call."""
    runs = sum(since <= run.start <= until for run in observed.runs)
    calls = sum(since <= call.end <= until for call in observed.calls)
    return 4 * runs + 3 * calls


def _finish(stage: Stage, scheduler: Scheduler, terms: Terms, healed: float) -> int:
    """Waits until everything due has run and is settled; the number of one-off tasks that are left."""

    def left() -> int:
        try:
            return scheduler.task_size() - RECURRING * 2
        except PartitionUnavailable:
            return 1

    def is_done() -> bool:
        return not Judge(stage.read(), terms).pending() and left() <= 0

    comes_true(is_done, healed + PATIENCE - time.time(), pause=0.1)
    return max(0, left())


class _Measure:
    """Commands at the servers and processor time of the workers that live from beginning to end."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        stage.commands.sample(stage.servers)
        self._before = stage.commands.total
        self._spent = {child.pid: child.cpu_seconds() for child in stage.workers}
        self._since = time.monotonic()
        self.seconds = 0.0
        self.commands = 0
        self.cpu = 0.0

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._since
        self._stage.commands.sample(self._stage.servers)
        self.commands = self._stage.commands.total - self._before
        spent = [
            child.cpu_seconds() - self._spent[child.pid] for child in self._stage.workers if child.pid in self._spent
        ]
        self.cpu = sum(spent) / len(spent) / self.seconds if spent else 0.0
