"""A timer as it was read from the scheduler, and as the API shows it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ..model.results import DeadTask, ScheduledTask
from ..model.schedule import Cron
from ..model.times import to_datetime
from .replies import DeadLetterBody, TimerBody
from .stored import (
    ExtraRun,
    Failure,
    Finished,
    ForeignPayload,
    RetentionSweep,
    Stored,
    Timer,
    UnreadablePayload,
    decode,
    decode_failure,
)

Status = Literal["pending", "processing", "retrying", "completed", "failed", "cancelled"]
FINISHED: tuple[Status, ...] = ("completed", "failed", "cancelled")
_CLOCKS_DIFFER_SECONDS = 0.05
"""How far the clocks of this machine and of Redis may be apart without a timer showing a second too much."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A timer at one moment: the task of the scheduler, and what is stored in it."""

    task: ScheduledTask
    stored: Timer | Finished

    @property
    def status(self) -> Status:
        if isinstance(self.stored, Finished):
            return self.stored.status
        if self.task.state == "dead":
            return "failed"
        if self.task.state == "running":
            return "processing"
        # A delivery that was only postponed waits like a retry does, but there was no attempt yet.
        return "retrying" if self.task.attempt > 1 else "pending"

    @property
    def failure(self) -> Failure | None:
        """The last failure of a timer that is not finished, or that failed for good."""
        return None if self.task.last_error is None else decode_failure(self.task.last_error)

    @property
    def attempts(self) -> int:
        """How many attempts were begun for the pending occurrence, or for the last one."""
        if isinstance(self.stored, Finished):
            return self.stored.attempts
        if self.status == "failed":
            # The scheduler knows only how many attempts were allowed: a receiver may have stopped them earlier.
            counted = self.failure.attempt if self.failure else None
            return self.task.attempt if counted is None else counted
        return self.task.attempt if self.status == "processing" else max(0, self.task.attempt - 1)

    def body(self) -> TimerBody:
        """The timer as the API shows it. ``time_left`` is whole seconds, rounded up; 0 once the timer is due."""
        task, stored, status = self.task, self.stored, self.status
        waiting = status == "pending" and task.state == "scheduled"
        failure = stored.error if isinstance(stored, Finished) else self.failure
        finished = stored.finished if isinstance(stored, Finished) else to_ms(task.due) if status == "failed" else None
        body: TimerBody = {
            "id": task.id,
            "status": status,
            "time_left": _whole_seconds(task.time_left) if waiting else 0,
            "due": _iso_or_none(self._due(waiting)),
            "url": stored.url,
            "created": _iso(to_datetime(stored.created)),
            "attempts": self.attempts,
            "last_error": None if failure is None else str(failure),
            "next_attempt": _iso(task.due) if status == "retrying" else None,
            "finished": _iso_or_none(finished),
        }
        if isinstance(stored, Timer):
            body["message"] = json.loads(stored.message)
        if isinstance(stored.repeat, Cron):
            body["cron"], body["tz"] = stored.repeat.expression, stored.repeat.tz
        elif stored.repeat is not None:
            body["interval"] = stored.repeat
        return body

    def _due(self, waiting: bool) -> int | None:
        if self.stored.repeat is not None and isinstance(self.stored, Timer):
            return to_ms(self.task.due)
        if self.stored.due is not None and waiting:
            return min(self.stored.due, to_ms(self.task.due))
        return self.stored.due


def snapshot_of(task: ScheduledTask) -> Snapshot | None:
    """The timer that a task is; None where it is a task of another application, or of the service itself.

    Raises:
        UnreadablePayload: the task is the service's, but this process cannot read it.
    """
    try:
        stored = decode(task.payload)
    except ForeignPayload:
        return None
    except UnreadablePayload as error:
        raise UnreadablePayload(f"timer {task.id!r} cannot be read: {error}") from error
    return Snapshot(task, stored) if isinstance(stored, Timer | Finished) else None


def dead_letter_body(dead_task: DeadTask) -> DeadLetterBody | None:
    """A dead letter as the API shows it; None where it does not belong to a timer.

    A timer that this process cannot read is shown too: the dead letter itself says why it failed.
    """
    timer_id = dead_task.id
    try:
        stored: Stored | None = decode(dead_task.payload)
    except ForeignPayload:
        return None
    except UnreadablePayload:
        stored = None
    if isinstance(stored, RetentionSweep):
        return None
    if isinstance(stored, ExtraRun):
        timer_id = stored.timer_id
    failure = decode_failure(dead_task.error)
    return {
        "id": timer_id,
        "error": str(failure),
        "attempts": failure.attempt,
        "count": dead_task.count,
        "first": _iso(dead_task.first),
        "last": _iso(dead_task.last),
    }


def to_ms(moment: datetime) -> int:
    """Unix milliseconds."""
    return round(moment.timestamp() * 1000)


def _whole_seconds(left: float) -> int:
    return max(1, math.ceil(left - _CLOCKS_DIFFER_SECONDS)) if left > 0 else 0


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _iso_or_none(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else _iso(to_datetime(milliseconds))
