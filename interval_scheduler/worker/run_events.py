"""What a worker tells about its runs: events for `on()`, and log lines."""

from __future__ import annotations

from ..core.settlement import End, Outcome, Settlement
from ..model.errors import HandlerVerdict
from ..model.events import Event, Events
from ..model.times import to_datetime
from ..support.log import Log
from ..support.text import error_text, is_of
from .run import Run

_UNTOLD = (End.RELEASED, End.UNREADABLE, End.UNCONFIRMED)
"""Ends that are no news: the task goes on elsewhere, or its run is not over."""


class RunEvents:
    """Tells of the runs of one worker. On the hot path an event is only made where somebody listens."""

    def __init__(self, events: Events, log: Log) -> None:
        self._events = events
        self._log = log

    def start(self, run: Run) -> None:
        """A handler begins. Called in its thread, where it has one."""
        if self._events.wanted("task-started"):
            details = {"id": run.task_id, "due": to_datetime(run.due), "attempt": run.header.attempt + 1}
            self._events.emit("task-started", Event("task-started", details | {"fencing_token": run.header.token}))

    def failure(self, run: Run, outcome: Outcome) -> None:
        """A handler failed."""
        # What a handler said on purpose needs no traceback.
        trace = None if is_of(outcome.exception, HandlerVerdict) else outcome.exception
        attempt, retry = run.header.attempt + 1, run.definition.retry
        following = "retry" if retry.allows(attempt) else "dead letter"
        details = {"id": run.task_id, "attempt": attempt, "error": outcome.error, "next": following}
        self._log.write("warning", "a handler failed", exc_info=trace, **details)

    def overrun(self, run: Run) -> None:
        """A handler goes on after its timeout. Called in the thread of a lease keeper: the loop may be what hangs."""
        if run.in_thread:
            reason = "a thread cannot be stopped"
        elif run.timed_out:
            reason = "it was cancelled, and ignores that"
        else:
            reason = "it blocks the event loop"
        details = {"id": run.task_id, "timeout": (run.definition.timeout or 0) / 1000, "reason": reason}
        self._log.write("warning", "a handler goes on after its timeout, and keeps its slot and lease", **details)

    def settlement(self, run: Run, settlement: Settlement) -> None:
        """The end of a run was reported and accepted."""
        outcome = run.outcome
        assert outcome is not None
        if outcome.end is End.DONE and not self._events.wanted("task-done"):
            return
        if outcome.end in _UNTOLD:
            return
        name = f"task-{settlement.event}"
        if self._events.wanted(name):
            details = {"id": run.task_id, "attempt": run.header.attempt + 1}
            if name != "task-done":
                details |= {"error": outcome.error, "exception": outcome.exception}
            self._events.emit(name, Event(name, details))
        if settlement.dead:
            self._log.write("error", "a task was given up", id=run.task_id, error=outcome.error)

    def refusal(self, run: Run) -> None:
        """The end of a run was refused: the run lost its lease, or its task was removed."""
        reason = "its lease was lost" if run.lost else "its task was removed or claimed again"
        self._log.write(
            "warning", "the outcome of a run was dropped", id=run.task_id, token=run.header.token, reason=reason
        )
        details = {"id": run.task_id, "fencing_token": run.header.token}
        self._events.emit("lease-lost", Event("lease-lost", details))

    def unreadable(self, task_id: bytes, error: Exception) -> None:
        """A record cannot be read by this version. It is put back as it is, for a worker that can read it."""
        name = task_id.decode("utf-8", "backslashreplace")
        self._log.write("error", "a task cannot be read here", id=name, error=error_text(error))
        self._events.emit("error", Event("error", {"error": error, "where": name}))

    def undecided(self, run: Run, error: Exception) -> None:
        """What follows a run could not be decided, because of what is stored of its task."""
        self._log.write("error", "what follows a run cannot be decided", id=run.task_id, error=error_text(error))
        self._events.emit("error", Event("error", {"error": error, "where": run.task_id}))
