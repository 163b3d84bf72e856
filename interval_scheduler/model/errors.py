"""Every error that reaches a caller, in one file and under one base.

Each message says what happened, whether repeating the call is safe, and what to do.
redis-py's and msgpack's own exceptions never leak out: they are the ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


class SchedulerError(Exception):
    """Base of every error raised by interval_scheduler."""


class InvalidTask(SchedulerError, ValueError):
    """A task was refused before anything was written. Mend the task and assign it again."""

    def __init__(self, owner: str, field: str, rule: str, fix: str) -> None:
        """`owner` is the class or call at fault, `field` the member, `rule` what it broke, `fix` what to do.

        Without a `field` it is the owner itself that broke the rule.
        """
        super().__init__(owner, field, rule, fix)
        self.field = field
        # Filled in by assign_tasks, whose earlier batches were written.
        self.created = 0
        self.updated = 0
        self.not_written: list[str] = []
        self.unknown: list[str] = []

    def __str__(self) -> str:
        owner, field, rule, fix = self.args
        written = "Nothing was written"
        if self.created or self.updated:
            written = (
                f"Before it {self.created} tasks were created and {self.updated} updated; it and the "
                f"{len(self.not_written)} before it in its batch were not written"
            )
        return f"{f'{owner}.{field}' if field else owner} {rule}; {fix}. {written}."


class PayloadTooLarge(InvalidTask):
    """The serialized payload is above ``max_payload_bytes``. Store it elsewhere and schedule a reference to it."""


class InvalidOptions(SchedulerError, ValueError):
    """Options were refused, every wrong field named at once in `problems`. Nothing was connected or written."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("invalid options: " + "; ".join(problems))
        self.problems = tuple(problems)


class NotAcceptingTasks(SchedulerError):
    """Tasks were assigned or removed while the scheduler does not accept them. Call ``start_task_accept()`` first."""

    def __init__(self) -> None:
        super().__init__("not accepting tasks: call start_task_accept() first. Nothing was written.")


class AlreadyExecuting(SchedulerError):
    """``start_task_execute`` was called twice. Call ``stop_task_execute()`` before starting again."""

    def __init__(self) -> None:
        super().__init__("already executing tasks: call stop_task_execute() before starting again.")


class SchedulerClosed(SchedulerError):
    """The scheduler was closed. Make a new one."""

    def __init__(self) -> None:
        super().__init__("the scheduler is closed: make a new one.")


class PartitionUnavailable(SchedulerError):
    """A Redis instance cannot be reached or refuses to work; only its own partitions are affected.

    `unknown_outcome` is true where the command was sent but not answered: it may have been carried out.
    Assigning, removing and rescheduling are safe to repeat in either case.
    """

    def __init__(self, instance: str, reason: str, *, unknown_outcome: bool = False) -> None:
        outcome = (
            "the command was sent and may have been carried out; repeating it is safe"
            if unknown_outcome
            else "nothing was carried out; repeat it when the instance is back"
        )
        super().__init__(f"Redis instance {instance!r} is unavailable: {reason}; {outcome}.")
        self.instance = instance
        self.reason = reason
        self.unknown_outcome = unknown_outcome


class UnsuitableServer(PartitionUnavailable):
    """A Redis instance was refused by what it says of itself: it is too old, or may evict tasks.

    Schedulers do not start with it. Where it became so later, its partitions are unavailable until it is mended.
    """


class AssignFailed(SchedulerError):
    """``assign_tasks`` stopped part of the way. Assigning everything again is safe: what exists is updated.

    `created` and `updated` are counts of tasks; `not_written` and `unknown` are lists of task ids.
    """

    def __init__(self, created: int, updated: int, not_written: Sequence[str], unknown: Sequence[str]) -> None:
        super().__init__(
            f"assign_tasks stopped: {created} created, {updated} updated, {len(not_written)} not written, "
            f"{len(unknown)} with unknown outcome; assigning them again is safe."
        )
        self.created = created
        self.updated = updated
        self.not_written = list(not_written)
        self.unknown = list(unknown)


class TopologyMismatch(SchedulerError):
    """The configured instances do not fit what the namespace recorded. The message says what differs and what to do."""


class CorruptRecord(SchedulerError):
    """A stored record cannot be read: it was written by a newer version, or by something else."""


class LeaseLost(SchedulerError):
    """The run no longer owns its task: its lease lapsed, or the task was removed. Its outcome is dropped."""


class LockNotAcquired(SchedulerError):
    """``lock(name)`` found the lock held by somebody else. Try again later, or use ``try_lock``."""

    def __init__(self, name: str) -> None:
        super().__init__(f"lock {name!r} is held by somebody else; nothing was changed, try again later.")
        self.name = name


class EmbeddedServerError(SchedulerError):
    """A private Redis server could not be found or started. The message says how to get one."""


class TaskChanged(SchedulerError):
    """``assign_task(task, if_version=…)`` found another version, or a task where there should be none.

    Nothing was written: peek again and decide on what is there now.
    """

    def __init__(self, task_id: str, if_version: str) -> None:
        expected = f"to be of version {if_version!r}" if if_version else "not to exist"
        super().__init__(f"task {task_id!r} was expected {expected}, and is not so; nothing was written: peek again.")
        self.task_id = task_id


class HandlerVerdict(SchedulerError):
    """Base of what a handler raises to say itself what becomes of its run."""


class RetryAfter(HandlerVerdict):
    """Raised by a handler: the run failed, and its retry comes after `seconds` instead of the policy's backoff.

    It counts as an attempt: without one left the occurrence becomes a dead letter. `message` is kept as its error.
    """

    def __init__(self, seconds: float | timedelta, message: str = "") -> None:
        self.seconds = _verdict_seconds("RetryAfter", seconds)
        super().__init__(message or f"asked to be retried after {self.seconds:g} s")


class GiveUp(HandlerVerdict):
    """Raised by a handler: the run failed for good. The occurrence becomes a dead letter without further retries."""


class Postpone(HandlerVerdict):
    """Raised by a handler that cannot take the task right now: it runs again after `seconds`.

    Nothing failed: it does not count as an attempt, and says nothing about the task.
    """

    def __init__(self, seconds: float | timedelta) -> None:
        self.seconds = _verdict_seconds("Postpone", seconds)
        super().__init__(f"postponed for {self.seconds:g} s")


def _verdict_seconds(owner: str, given: object) -> float:
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 366 * 86_400:
        raise InvalidTask(owner, "seconds", f"is {given!r}", "use seconds or a timedelta from 0 to a year")
    return float(seconds)
