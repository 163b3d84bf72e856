"""What handlers ask of the worker that runs them, by `current_execution()`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ..core.preparation import prepare, task_id_of
from ..core.settlement import Successor
from ..model.errors import InvalidTask, SchedulerError
from ..model.task import Task
from .context import Context
from .leases import LeaseKeeper
from .run import Run


class WorkerHost:
    """The `run.Host` of all runs of a worker. Called from whatever thread a handler is in."""

    def __init__(self, context: Context, keepers: Mapping[str, LeaseKeeper], *, confirmed_by_hand: bool) -> None:
        self._runtime = context.runtime
        self._max_payload_bytes = context.options.max_payload_bytes
        self._keepers = keepers
        self._confirmed_by_hand = confirmed_by_hand

    def lease_deadline(self, run: Run) -> datetime:
        return datetime.fromtimestamp(self._runtime.time() + run.deadline - self._runtime.monotonic(), UTC)

    def extend(self, run: Run, seconds: float | timedelta | None) -> bool:
        return self._keepers[run.partition.instance].extend(run, seconds)

    def successor(self, run: Run, task: Task) -> Successor:
        if self._confirmed_by_hand:
            raise SchedulerError(
                'continue_as() needs confirm="auto": a run that is confirmed by hand ends apart from its handler; '
                "assign the task instead."
            )
        if task_id_of(task) != run.raw_id:
            raise InvalidTask(type(task).__name__, "id", f"is not that of the run, {run.task_id!r}", "keep the id")
        now = int(self._runtime.script_now() or math.ceil(self._runtime.time() * 1000))
        _, when, delay, body = prepare(task, self._max_payload_bytes, lambda: now)
        slot = int(when[1:] or now)
        return Successor(slot, slot + int(delay or 0), self._runtime.random_id(), body)
