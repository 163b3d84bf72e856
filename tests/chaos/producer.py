"""A producer process: ``python -m tests.chaos.producer '{"options": …, "journal": …, "name": …, "seed": …}'``.

It assigns recurring tasks, one-offs spread over the coming seconds, and long runs; then it goes on to assign, update
and remove, one call at a time, until SIGTERM. Every call is noted with its outcome after it returned.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from interval_scheduler import AssignFailed, PartitionUnavailable, Retry, Scheduler, TopologyMismatch
from tests.chaos.journal import Journal
from tests.chaos.worker import announce_ready, listen, plain_log
from tests.tasks import Job

RECURRING = 6
SPREAD = 36
LONG = 3
WORK_SECONDS = 0.02


@dataclass
class Producer:
    """The calls of one process; ids carry its name, so that nobody else touches them."""

    scheduler: Scheduler
    journal: Journal
    name: str
    random: random.Random
    lease: float
    version: int = 0
    made: int = 0
    recent: list[str] = field(default_factory=list)
    recurring: list[Job] = field(default_factory=list)

    def begin(self, spread: float) -> None:
        """Recurring tasks, one-offs over the next `spread` seconds, and a few runs longer than a lease."""
        now = time.time()
        for number in range(RECURRING):
            self.recurring.append(
                Job(
                    f"{self.name}-every-{number}",
                    round(now + 0.5 + number * 0.09, 3),
                    self.random.choice([0.5, 0.7, 1.1]),
                    misfire="all" if number % 2 else "coalesce",
                    retry=Retry(None, 0.05, 1.0),
                )
            )
        self.assign(self.recurring, 0.01)
        self.assign([self._one_off(now + spread * part / SPREAD) for part in range(SPREAD)], WORK_SECONDS)
        long = [self._one_off(now + 0.8 + part, name="long") for part in range(LONG)]
        self.assign(long, self.lease * 1.3)

    def step(self) -> None:
        """One call, chosen at random."""
        chance = self.random.random()
        now = time.time()
        if chance < 0.55 or not self.recent:
            self.assign([self._one_off(now + self.random.uniform(0, 1))], WORK_SECONDS)
        elif chance < 0.65:
            self.assign([self._one_off(None)], WORK_SECONDS)
        elif chance < 0.72:
            self.assign([self._one_off(now + 0.1, name="flaky")], WORK_SECONDS, do="fail")
        elif chance < 0.82:
            self.assign([self._one_off(now + self.random.uniform(0, 1)) for _ in range(5)], WORK_SECONDS)
        elif chance < 0.88:
            again = self._one_off(now + 0.5)
            again.id = self.random.choice(self.recent)
            self.assign([again], WORK_SECONDS)
        elif chance < 0.94:
            self.assign([self.random.choice(self.recurring)], 0.01)
        else:
            self.remove(self.recent.pop())

    def _one_off(self, due: float | None, name: str = "once") -> Job:
        self.made += 1
        job = Job(
            f"{self.name}-{name}-{self.made}", None if due is None else round(due, 3), retry=Retry(None, 0.05, 1.0)
        )
        if name == "once":
            self.recent = [*self.recent[-20:], job.id]
        return job

    def assign(self, jobs: list[Job], work: float, do: str = "work") -> None:
        """Assigns one task by the single call, several by the batch call."""
        self.version += 1
        for job in jobs:
            job.payload = {"version": self.version, "work": work, "do": do}
        fields = {job.id: _timing(job) for job in jobs}
        with self._noting("assign", fields) as outcomes:
            if len(jobs) == 1:
                self.scheduler.assign_task(jobs[0])
                return
            try:
                self.scheduler.assign_tasks(jobs)
            except AssignFailed as error:
                outcomes.update(dict.fromkeys(error.not_written, "failed"))
                outcomes.update(dict.fromkeys(error.unknown, "unknown"))

    def remove(self, task_id: str) -> None:
        with self._noting("remove", {task_id: {}}):
            self.scheduler.remove_task(task_id)

    @contextmanager
    def _noting(self, operation: str, fields: dict[str, dict[str, Any]]) -> Iterator[dict[str, str]]:
        """Notes a call for each of its ids; the body fills in the outcomes that differ from "ok"."""
        outcomes: dict[str, str] = {}
        start = time.time()
        try:
            yield outcomes
        except PartitionUnavailable as error:
            outcomes.update(dict.fromkeys(fields, "unknown" if error.unknown_outcome else "failed"))
        except TopologyMismatch:
            # Of a batch, what belongs to other partitions may have been written.
            outcomes.update(dict.fromkeys(fields, "unknown" if len(fields) > 1 else "failed"))
        end = time.time()
        for task_id, more in fields.items():
            self.journal.write(
                "call",
                operation=operation,
                id=task_id,
                version=self.version,
                start=start,
                end=end,
                outcome=outcomes.get(task_id, "ok"),
                **more,
            )


def _timing(job: Job) -> dict[str, Any]:
    due, interval = job.execute_on, job.reschedule_interval
    assert due is None or isinstance(due, float)
    assert interval is None or isinstance(interval, float)
    return {
        "due": None if due is None else round(due * 1000),
        "interval": None if interval is None else round(interval * 1000),
        "misfire": job.misfire,
    }


def _stopping() -> Callable[[float], bool]:
    """A wait that ends early, with True, on SIGTERM."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    return stopped.wait


def main() -> None:
    settings = json.loads(sys.argv[1])
    wait = _stopping()
    journal = Journal(settings["journal"])
    with Scheduler(settings["options"], plain_log()) as scheduler:
        listen(scheduler, journal)
        scheduler.start_task_accept()
        producer = Producer(
            scheduler,
            journal,
            settings["name"],
            random.Random(settings["seed"]),
            settings["options"]["lease_seconds"],
        )
        producer.begin(settings["spread"])
        announce_ready()
        while not wait(settings["pace"]):
            producer.step()


if __name__ == "__main__":
    main()
