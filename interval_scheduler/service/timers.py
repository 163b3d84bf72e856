"""Everything that the API does with timers.

A timer is one task of the scheduler, with the same id. When it was delivered, the task continues as the record of the
finished timer: `Execution.continue_as` writes the record in the same step that ends the run. The record is due when its
retention is over. A cancelled timer is replaced by such a record too. A timer that failed for good is a dead letter of
the scheduler. So a timer is in one place at any time, and what is read of it is always right.

A request reads the timer, decides, and writes only if the timer has not changed since (``if_version``).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from ..async_scheduler import AsyncScheduler
from ..model.errors import InvalidTask, PayloadTooLarge, TaskChanged
from ..model.results import ScheduledTask
from ..model.retry import Retry
from ..model.times import to_datetime
from .errors import Conflict, InvalidRequest, UnknownTimer
from .replies import DeadLetterBody, PageBody, TimerBody
from .requests import TimerRequest
from .settings import Settings
from .snapshot import FINISHED, Snapshot, dead_letter_body, snapshot_of, to_ms
from .stored import ExtraRun, Finished, RetentionSweep, Timer, TimerTask, UnreadablePayload, record_task

RETENTION_ID = ":retention"
_RETENTION_EVERY_SECONDS = 3600.0
_TRIES = 10
"""How often a request decides again because the timer changed between reading and writing."""
_MOST_SCANNED = 5000
"""Most tasks that are read for one page: records of finished timers lie between the upcoming timers."""
_FARTHEST_SECONDS = 30 * 366 * 86_400.0
"""A cursor so far ahead finds nothing: both the horizon and the retention end earlier."""

log = structlog.get_logger("interval_scheduler")


class Timers:
    """Creates, reads and changes timers."""

    def __init__(self, scheduler: AsyncScheduler, settings: Settings) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._retry = settings.retry

    def __repr__(self) -> str:
        return f"Timers({self._scheduler!r})"

    async def start(self) -> None:
        """Schedules the sweep that deletes dead letters after their retention: one task for all processes."""
        sweep = TimerTask(RETENTION_ID, RetentionSweep(_RETENTION_EVERY_SECONDS), retry=Retry(max_retries=0))
        try:
            await self._scheduler.assign_task(sweep, if_version="")
        except TaskChanged:
            return  # it is scheduled already

    # -- writing -----------------------------------------------------------------------------------------------------

    async def create(self, request: TimerRequest, key: str | None = None) -> tuple[TimerBody, bool]:
        """Creates a timer. With an id or an idempotency key, a repeated request finds the timer of the first one.

        Returns the timer, and whether it is new.

        Raises:
            Conflict: the id or key was used for another request.
            InvalidRequest: the message is too large.
        """
        own = request.id or (None if key is None else f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}")
        timer_id = own or secrets.token_hex(16)
        if own is not None and (found := await self._scheduler.peek_task(own)) is not None:
            return _existing(request, found).body(), False
        timer = Timer(
            request.url, request.message, request.due, now_ms(), _nonce(), request.repeat, request.fingerprint
        )
        task = TimerTask(timer_id, timer, _seconds(timer.due), self._retry)
        try:
            await self._write(task, "")
        except TaskChanged:
            found = await self._scheduler.peek_task(timer_id)
            if found is None:
                raise Conflict(f"timer {timer_id!r} was created and deleted at the same moment: try again") from None
            return _existing(request, found).body(), False
        if request.due is None:
            return await self.get(timer_id), True
        return _written(task, timer, request.due).body(), True

    async def update(self, timer_id: str, request: TimerRequest) -> TimerBody:
        """Replaces url and message, and the time where the request gives a first time.

        A schedule without a first time keeps the time of the pending occurrence.

        Raises:
            UnknownTimer: there is no such timer.
            Conflict: it is finished.
        """
        for _ in range(_TRIES):
            found, old = await self._unfinished(timer_id, "updated")
            # The fingerprint stays: the request that created the timer may still be repeated.
            timer = replace(old, url=request.url, message=request.message)
            if request.timed:
                due = request.due if request.first else old.due
                timer = replace(timer, due=due, repeat=request.repeat, nonce=_nonce())
            task = TimerTask(timer_id, timer, _seconds(timer.due), self._retry)
            try:
                await self._write(task, found.task.version)
            except TaskChanged:
                continue
            if request.first:
                # If this process dies before this write, the handler does it when the timer is due at its old time.
                await self._scheduler.reschedule_task(timer_id, execute_on=task.execute_on)
            return await self.get(timer_id)
        raise _busy(timer_id)

    async def delete(self, timer_id: str) -> TimerBody:
        """Deletes a timer and its record, and returns what it was. A timer that was not finished counts as cancelled.

        A delivery that is under way is broken off and not repeated.

        Raises:
            UnknownTimer: there is no such timer.
        """
        found = await self._find(timer_id)
        if not await self._scheduler.remove_task(timer_id):
            raise UnknownTimer(timer_id)
        body = found.body()
        if found.status not in FINISHED:
            body["status"] = "cancelled"
        return body

    async def cancel(self, timer_id: str) -> TimerBody:
        """Cancels a timer and keeps its record. A delivery that is under way may still arrive; it is not repeated.

        Raises:
            UnknownTimer: there is no such timer.
            Conflict: it is completed or failed.
        """
        for _ in range(_TRIES):
            found = await self._find(timer_id)
            if found.status == "cancelled":
                return found.body()
            timer = _not_finished(found, "cancelled")
            error = None if found.failure is None else str(found.failure)
            attempts = max(0, found.task.attempt - 1)
            record = timer.end("cancelled", attempts, error, now_ms(), self._settings.retention_seconds)
            task = record_task(timer_id, record)
            try:
                await self._scheduler.assign_task(task, if_version=found.task.version)
            except TaskChanged:
                continue
            # If this process dies before this write, the handler does it when the timer would have been due.
            await self._scheduler.reschedule_task(timer_id, execute_on=task.execute_on)
            return await self.get(timer_id)
        raise _busy(timer_id)

    async def run(self, timer_id: str) -> TimerBody:
        """Delivers now: a one-off instead of at its time, a recurring timer besides its schedule, a failed one again.

        Raises:
            UnknownTimer: there is no such timer.
            Conflict: it is being delivered, completed or cancelled.
        """
        for _ in range(_TRIES):
            found = await self._find(timer_id)
            if found.status == "failed":
                await self._scheduler.retry_dead_tasks([timer_id])
                return await self.get(timer_id)
            timer = _not_finished(found, "run")
            if timer.repeat is not None:
                extra = TimerTask(f":run:{timer_id}:{secrets.token_hex(8)}", ExtraRun(timer_id), retry=self._retry)
                await self._scheduler.assign_task(extra)
                return found.body()
            if found.task.state == "running":
                raise Conflict(f"timer {timer_id!r} is being delivered right now: it cannot be run")
            now = now_ms()
            task = TimerTask(timer_id, replace(timer, due=now), now / 1000, self._retry)
            try:
                await self._scheduler.assign_task(task, if_version=found.task.version)
            except TaskChanged:
                continue
            await self._scheduler.reschedule_task(timer_id, delay=0)
            return await self.get(timer_id)
        raise _busy(timer_id)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def get(self, timer_id: str) -> TimerBody:
        """One timer.

        Raises:
            UnknownTimer: there is no such timer.
            UnreadablePayload: this process cannot read it.
        """
        return (await self._find(timer_id)).body()

    async def upcoming(self, limit: int, cursor: str | None) -> PageBody:
        """Timers that wait, in the order of their times. A page may be short: go on while there is a cursor.

        Raises:
            InvalidRequest: the cursor is not valid.
        """
        after = _parse_cursor(cursor)
        offset = 0.0
        if after is not None:
            # A second early, because the servers' clocks go on. What earlier pages held is skipped below.
            offset = min(max(0.0, after[0] / 1000 - time.time() - 1), _FARTHEST_SECONDS)
        timers: list[TimerBody] = []
        place = None
        scanned = 0
        async for task in self._scheduler.upcoming(offset=offset):
            position = (to_ms(task.due), task.id)
            if after is not None and position <= after:
                continue
            if place is not None and (len(timers) == limit or scanned == _MOST_SCANNED):
                return {"timers": timers, "next": f"{place[0]}-{place[1]}"}
            scanned += 1
            place = position
            try:
                found = snapshot_of(task)
            except UnreadablePayload as error:
                log.warning("a timer is missing in a list", id=task.id, error=str(error))
                continue
            if found is not None and isinstance(found.stored, Timer):
                timers.append(found.body())
        return {"timers": timers, "next": None}

    async def failed(self, limit: int) -> list[DeadLetterBody]:
        """The newest dead letters of timers."""
        found: list[DeadLetterBody] = []
        for dead_task in reversed(await self._scheduler.dead_tasks()):
            if len(found) == limit:
                break
            body = dead_letter_body(dead_task)
            if body is not None:
                found.append(body)
        return found

    # -- parts -------------------------------------------------------------------------------------------------------

    async def _write(self, task: TimerTask, version: str) -> None:
        try:
            await self._scheduler.assign_task(task, if_version=version)
        except PayloadTooLarge:
            limit = self._scheduler.options.max_payload_bytes
            problem = f"is too large: url and message together may have about {limit:,} bytes"
            raise InvalidRequest.of({"message": problem}) from None
        except InvalidTask as error:
            raise InvalidRequest.of({"message": f"is refused: {error}"}) from error

    async def _find(self, timer_id: str) -> Snapshot:
        task = await self._scheduler.peek_task(timer_id)
        found = None if task is None else snapshot_of(task)
        if found is None or (isinstance(found.stored, Finished) and found.stored.forget <= now_ms()):
            raise UnknownTimer(timer_id)
        return found

    async def _unfinished(self, timer_id: str, verb: str) -> tuple[Snapshot, Timer]:
        found = await self._find(timer_id)
        return found, _not_finished(found, verb)


async def sweep(scheduler: AsyncScheduler, settings: Settings) -> int:
    """Deletes the dead letters whose retention is over; returns how many."""
    return await scheduler.purge_dead_tasks(before=datetime.now(UTC) - timedelta(seconds=settings.retention_seconds))


def _nonce() -> str:
    return secrets.token_hex(6)


def _existing(request: TimerRequest, task: ScheduledTask) -> Snapshot:
    """The timer that an earlier request created, if it was the same request."""
    found = snapshot_of(task)
    if found is None:
        raise Conflict(f"the id {task.id!r} is taken by a task that is not a timer: use another id")
    if found.stored.fingerprint != request.fingerprint:
        raise Conflict(
            f"timer {task.id!r} exists and was created by another request: use another id or idempotency key, "
            "update it with PUT, or delete it"
        )
    return found


def _written(task: TimerTask, timer: Timer, due: int) -> Snapshot:
    """A timer right after it was created, without a further question to Redis."""
    left = max(0.0, due / 1000 - time.time())
    return Snapshot(ScheduledTask(task.id, None, to_datetime(due), left, None, "scheduled", 1), timer)


def _not_finished(found: Snapshot, verb: str) -> Timer:
    if isinstance(found.stored, Finished) or found.status in FINISHED:
        raise Conflict(f"timer {found.task.id!r} is {found.status} and cannot be {verb}")
    return found.stored


def _busy(timer_id: str) -> Conflict:
    return Conflict(f"timer {timer_id!r} is being changed by too many requests right now: try again")


def _parse_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    match = re.fullmatch(r"(\d{1,15})-(.{1,1000})", cursor, re.DOTALL)
    if match is None:
        raise InvalidRequest.of({"cursor": "is not valid: use the `next` value of the previous page"})
    return int(match[1]), match[2]


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def now_ms() -> int:
    return time.time_ns() // 1_000_000
