"""Every error that reaches a caller, in one file and under one base class.

Each message says what happened, whether repeating the call is safe, and what to do.
Exceptions of redis-py and msgpack do not reach the caller: they are the ``__cause__``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ..support.numbers import seconds_of
from ..support.text import short_repr


class SchedulerError(Exception):
    """Base of every error raised by interval_scheduler. All can be pickled and copied, as process pools need it."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Without this an error would be made again by its constructor, which takes other arguments than the message.
        return _remake, (type(self), self.args, self.__dict__)


def _remake(kind: type[SchedulerError], args: tuple[Any, ...], attributes: dict[str, Any]) -> SchedulerError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class InvalidTask(SchedulerError, ValueError):
    """A task or an argument was refused before it was written. Correct it and call again."""

    def __init__(self, owner: str, field: str, rule: str, fix: str) -> None:
        """`owner`: the class or call that is wrong; `field`: its member, or "" for the owner itself.

        `rule` says what is wrong with it, `fix` what to do.
        """
        super().__init__(owner, field, rule, fix)
        self.field = field
        self.position: int | None = None
        """Of the task among those that `assign_tasks` was given, counted from 0."""
        # For assign_tasks, which fills them in: its earlier batches were written.
        self.created = 0
        self.updated = 0
        self.not_written: list[str] = []
        self.unknown: list[str] = []

    def __str__(self) -> str:
        owner, field, rule, fix = self.args
        written = "Nothing was written"
        if self.created or self.updated:
            written = (
                f"Earlier batches were written: {self.created} tasks created, {self.updated} updated. This task and the"
                f" {len(self.not_written)} before it in its batch were not written; assigning all again is safe"
            )
        where = "" if self.position is None else f" It is task {self.position:,} of those given, counted from 0."
        return f"{f'{owner}.{field}' if field else owner} {rule}; {fix}.{where} {written}."


class TaskDefinitionWarning(UserWarning):
    """A subclass of `Task` has an attribute that is an option of other systems, and has no effect here."""


class PayloadTooLarge(InvalidTask):
    """The serialized payload is above ``max_payload_bytes``. Store the data elsewhere and schedule a reference."""


class InvalidOptions(SchedulerError, ValueError):
    """Options were refused. `problems` names every wrong field. Nothing was connected or written."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(f"invalid options: {'; '.join(problems)}")
        self.problems = tuple(problems)


class NotAcceptingTasks(SchedulerError):
    """A task was to be changed while the scheduler does not accept tasks. Call ``start_task_accept()`` first."""

    def __init__(self) -> None:
        super().__init__("not accepting tasks: call start_task_accept() first. Nothing was written.")


class AlreadyExecuting(SchedulerError):
    """``start_task_execute`` was called while a handler is running tasks. Call ``stop_task_execute()`` first."""

    def __init__(self) -> None:
        super().__init__("already executing tasks: call stop_task_execute() first. The present handler goes on.")


class SchedulerClosed(SchedulerError):
    """The scheduler was closed and cannot be used again. Make a new one."""

    def __init__(self) -> None:
        super().__init__("the scheduler is closed: make a new one. Nothing was written.")


class PartitionUnavailable(SchedulerError):
    """A Redis instance cannot be reached or refuses commands. Only its own partitions are affected.

    `unknown_outcome` is true where a command was sent and no reply came: it may have been carried out. Assigning,
    removing and rescheduling are safe to repeat in both cases. `refused` is true where the server answered with an
    error, so that it is this command that fails, and others may not.
    """

    def __init__(self, instance: str, reason: str, *, unknown_outcome: bool = False, refused: bool = False) -> None:
        super().__init__(instance, reason)
        self.instance = instance
        self.reason = reason
        self.unknown_outcome = unknown_outcome
        self.refused = refused

    def __str__(self) -> str:
        return f"Redis instance {self.instance!r} is unavailable: {self.reason}; {self._outcome()}."

    def _outcome(self) -> str:
        if self.unknown_outcome:
            return "the command was sent and may have been carried out; repeating it is safe"
        return "the command was not carried out; repeat the call when the instance is back"


class UnusableInstance(PartitionUnavailable):
    """A Redis instance cannot be used until somebody corrects something: waiting does not help. `remedy` says what.

    A wrong password or user, a missing right, a database that the server does not have, TLS on one side only, a
    certificate that is not trusted, a key of another type, or something that is not Redis. Workers and schedulers go
    on trying, because the server may be what is corrected. A server that is away, loads its data, is busy or has too
    many clients is another `PartitionUnavailable`.
    """

    def __init__(
        self, instance: str, reason: str, remedy: str = "", *, unknown_outcome: bool = False, refused: bool = False
    ) -> None:
        super().__init__(instance, reason, unknown_outcome=unknown_outcome, refused=refused)
        self.remedy = remedy

    def _outcome(self) -> str:
        remedy = f"{self.remedy}. " if self.remedy else ""
        if self.unknown_outcome:
            return f"{remedy}The command was sent and may have been carried out; repeating it is safe once this is done"
        return f"{remedy}The command was not carried out, and waiting does not help"


class UnsuitableServer(UnusableInstance):
    """A Redis instance is not used, because its version is too old or because it may evict tasks.

    A scheduler does not start with it. If it changed later, its partitions are unavailable until it is corrected.
    """


class AssignFailed(SchedulerError):
    """``assign_tasks`` stopped before its end. Assigning all tasks again is safe: those that exist are updated.

    `created` and `updated` count tasks. `not_written` and `unknown` are lists of task ids; a task is unknown where its
    command was sent and no reply came.
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
    """The options do not fit what the namespace has stored. The message says what differs and what to do."""


class CorruptRecord(SchedulerError):
    """A stored record cannot be read: a newer version, or another program, wrote it. It is not changed."""


class LeaseLost(SchedulerError):
    """The run does not own its task any more: its lease ended, or the task was removed. Stop working on it.

    The outcome of the run is ignored. After a lapsed lease another run of the task has started, or will.
    """


class LockNotAcquired(SchedulerError):
    """``lock(name)``: somebody else holds the lock. Try again later, or use ``try_lock``."""

    def __init__(self, name: str) -> None:
        super().__init__(f"somebody else holds the lock {short_repr(name)}: try again later. Nothing was changed.")
        self.name = name


class EmbeddedServerError(SchedulerError):
    """No private Redis server was found, or it did not start. The message says what to do."""


class TaskChanged(SchedulerError):
    """``assign_task(task, if_version=…)``: the task has another version, or exists where it should not.

    Nothing was written. Call ``peek_task`` again and decide by what it returns now.
    """

    def __init__(self, task_id: str, if_version: str) -> None:
        what = f"is no longer at version {short_repr(if_version)}" if if_version else "exists already"
        super().__init__(f"task {short_repr(task_id)} {what}: call peek_task() again and decide. Nothing was written.")
        self.task_id = task_id


class HandlerVerdict(SchedulerError):
    """Base of the exceptions by which a handler decides what follows its run."""


class RetryAfter(HandlerVerdict):
    """Raised by a handler: the run failed and is repeated after `seconds`, instead of the backoff of its `Retry`.

    It counts as an attempt: if none is left, the occurrence becomes a dead letter. `message` is stored as its error.
    """

    def __init__(self, seconds: float | timedelta, message: str = "") -> None:
        self.seconds = _verdict_seconds("RetryAfter", seconds)
        super().__init__(message or f"asked to be retried after {self.seconds:g} s")


class GiveUp(HandlerVerdict):
    """Raised by a handler: the run failed and is not repeated. The occurrence becomes a dead letter."""


class Postpone(HandlerVerdict):
    """Raised by a handler that cannot do the task now: it runs again after `seconds`.

    This is no failure: it does not count as an attempt.
    """

    def __init__(self, seconds: float | timedelta) -> None:
        self.seconds = _verdict_seconds("Postpone", seconds)
        super().__init__(f"postponed for {self.seconds:g} s")


def _verdict_seconds(owner: str, given: object) -> float:
    seconds = seconds_of(given)
    if seconds is None or not 0 <= seconds <= 366 * 86_400:
        raise InvalidTask(owner, "seconds", f"is {short_repr(given)}", "use seconds or a timedelta from 0 to a year")
    return float(seconds)
