"""Timers on top of the scheduler: what is stored of them, what can be done with them, what is told about them.

A timer is one task, and its id is the timer's. When it is delivered, the task continues as the record of a finished
timer, in the same step that ends the run (`Execution.continue_as`), due when its retention is over; a cancelled timer
is replaced by such a record too. A timer that failed for good is a dead letter of the scheduler. So a timer has one
place at any time, and what is read from it is never wrong.

Requests read, decide, and write only if nothing changed meanwhile (``if_version``).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ..async_scheduler import AsyncScheduler
from ..model.errors import InvalidTask, PayloadTooLarge, TaskChanged
from ..model.results import DeadTask, ScheduledTask
from ..model.retry import Retry
from ..model.schedule import Cron
from ..model.task import Task
from .errors import Conflict, InvalidRequest, UnknownTimer
from .requests import TimerRequest
from .settings import Settings

RETENTION_ID = ":retention"
_USUAL = Retry()
_RETENTION_EVERY_SECONDS = 3600.0
_TRIES = 10
"""How often a decision is made again because the timer changed under it."""
_SCANNED = 5000
"""Most tasks looked at for one page: records of finished timers lie between the upcoming ones."""
_FARTHEST_SECONDS = 30 * 366 * 86_400.0
"""From where on a cursor finds nothing: both horizon and retention end before."""
_CLOCKS_DIFFER_SECONDS = 0.05
_FINISHED = ("completed", "failed", "cancelled")
_FAILURE = re.compile(r"\(attempt (\d+)\)$")

Json = dict[str, Any]


@dataclass
class TimerTask(Task):
    """A timer, or what belongs to one, as the scheduler has it."""

    id: str
    payload: Json
    execute_on: float | None = None
    reschedule_interval: float | Cron | None = None
    retry: Retry = _USUAL

    def serialize(self) -> Json:
        return self.payload


@dataclass(frozen=True, slots=True)
class Page:
    """Upcoming timers; `next` is the cursor of the following page, None at the end."""

    timers: list[Json]
    next: str | None


class Timers:
    """Everything the API does with timers."""

    def __init__(self, scheduler: AsyncScheduler, settings: Settings) -> None:
        self._scheduler = scheduler
        self._settings = settings
        self._retry = settings.retry

    async def start(self) -> None:
        """Sees to it that dead letters are purged when their retention is over; once for all processes."""
        sweep = TimerTask(RETENTION_ID, {"job": "retention"}, None, _RETENTION_EVERY_SECONDS, Retry(max_retries=0))
        try:
            await self._scheduler.assign_task(sweep, if_version="")
        except TaskChanged:
            return  # another process was quicker, or it was there

    # -- writing -----------------------------------------------------------------------------------------------------

    async def create(self, request: TimerRequest, key: str | None = None) -> tuple[Json, bool]:
        """A new timer. With an id or an idempotency key of the caller's, a repeat finds what the first one made.

        Returns the timer, and whether it is new.

        Raises:
            Conflict: the id or key was used for something else.
            InvalidRequest: the message is too large.
        """
        own = request.id or (None if key is None else f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}")
        timer_id = own or secrets.token_hex(16)
        if own is not None and (found := await self._scheduler.peek_task(own)) is not None:
            return self._repeated(request, found), False
        task = self._task(timer_id, request, request.due, _now_ms())
        try:
            await self._write(task, "")
        except TaskChanged:
            found = await self._scheduler.peek_task(timer_id)
            if found is None:
                raise Conflict(f"timer {timer_id!r} was made and forgotten at the same time: try again") from None
            return self._repeated(request, found), False
        if request.due is None:
            return await self.get(timer_id), True
        return self._made(task, request.due), True

    async def update(self, timer_id: str, request: TimerRequest) -> Json:
        """Replaces url and message, and the time where the request gives one: a schedule alone is none.

        Raises:
            UnknownTimer, Conflict: there is none, or it is finished.
        """
        for _ in range(_TRIES):
            found = await self._alive(timer_id, "updated")
            old = found.payload
            task = self._task(timer_id, request, request.due if request.first else old["due"], old["made"])
            task.payload["print"] = old["print"]  # the request that made it may still be repeated
            if not request.timed:
                task.reschedule_interval = _interval(found.interval)
                task.payload |= {"repeat": old["repeat"], "armed": old["armed"]}
            try:
                await self._write(task, found.version)
            except TaskChanged:
                continue
            if request.first:
                # Should this not come to pass, the handler sees to it when the timer comes due at its old time.
                await self._scheduler.reschedule_task(timer_id, execute_on=task.execute_on)
            return await self.get(timer_id)
        raise Conflict(f"timer {timer_id!r} changes too often right now: try again")

    async def delete(self, timer_id: str) -> Json:
        """Deletes a timer and whatever is known of it; says what it was. One that was not finished is cancelled.

        A delivery that is under way is broken off, and not repeated.

        Raises:
            UnknownTimer: there is none.
        """
        view = self.view(await self._peek(timer_id))
        if not await self._scheduler.remove_task(timer_id):
            raise UnknownTimer(timer_id)
        return view if view["status"] in _FINISHED else view | {"status": "cancelled"}

    async def cancel(self, timer_id: str) -> Json:
        """Cancels a timer and keeps it so; a delivery that is under way may still arrive, but is not repeated.

        Raises:
            UnknownTimer, Conflict: there is none, or it is completed or failed.
        """
        for _ in range(_TRIES):
            found = await self._peek(timer_id)
            if status_of(found) == "cancelled":
                return self.view(found)
            self._refuse_finished(found, "cancelled")
            record = finished(found.payload, "cancelled", max(0, found.attempt - 1), found.last_error, self._settings)
            task = record_task(timer_id, record)
            try:
                await self._scheduler.assign_task(task, if_version=found.version)
            except TaskChanged:
                continue
            # Should this not come to pass, the handler does it when the timer would have been due.
            await self._scheduler.reschedule_task(timer_id, execute_on=task.execute_on)
            return await self.get(timer_id)
        raise Conflict(f"timer {timer_id!r} changes too often right now: try again")

    async def run(self, timer_id: str) -> Json:
        """Delivers now: a one-off instead of at its time, a recurring timer besides it, a failed one once more.

        Raises:
            UnknownTimer, Conflict: there is none, or it is being delivered, completed or cancelled.
        """
        for _ in range(_TRIES):
            found = await self._peek(timer_id)
            if status_of(found) == "failed":
                await self._scheduler.retry_dead_tasks([timer_id])
                return await self.get(timer_id)
            self._refuse_finished(found, "run")
            if found.payload["repeat"] is not None:
                extra = TimerTask(f":run:{timer_id}:{secrets.token_hex(8)}", {"run": timer_id}, retry=self._retry)
                await self._scheduler.assign_task(extra)
                return self.view(found)
            if found.state == "running":
                raise Conflict(f"timer {timer_id!r} is being delivered right now")
            now = _now_ms()
            task = TimerTask(timer_id, {**found.payload, "due": now}, now / 1000, None, self._retry)
            try:
                await self._scheduler.assign_task(task, if_version=found.version)
            except TaskChanged:
                continue
            await self._scheduler.reschedule_task(timer_id, delay=0)
            return await self.get(timer_id)
        raise Conflict(f"timer {timer_id!r} changes too often right now: try again")

    # -- reading -----------------------------------------------------------------------------------------------------

    async def get(self, timer_id: str) -> Json:
        """What is known of a timer.

        Raises:
            UnknownTimer: there is none.
        """
        return self.view(await self._peek(timer_id))

    async def upcoming(self, limit: int, cursor: str | None) -> Page:
        """Timers that wait, in the order of their times. A page may be short: go on while there is a cursor.

        Raises:
            InvalidRequest: for a cursor that is none.
        """
        after = _parse_cursor(cursor)
        offset = 0.0
        if after is not None:
            # A second early, because the servers' clocks go on; what was given out before is skipped.
            offset = min(max(0.0, after[0] / 1000 - time.time() - 1), _FARTHEST_SECONDS)
        timers: list[Json] = []
        place = None
        scanned = 0
        async for task in self._scheduler.upcoming(offset=offset):
            position = (_ms(task.due), task.id)
            if after is not None and position <= after:
                continue
            if len(timers) == limit or scanned == _SCANNED:
                assert place is not None
                return Page(timers, f"{place[0]}-{place[1]}")
            scanned += 1
            place = position
            if not task.id.startswith(":") and "end" not in task.payload:
                timers.append(self.view(task))
        return Page(timers, None)

    async def failed(self, limit: int) -> list[Json]:
        """The newest dead letters."""
        letters = [letter for letter in await self._scheduler.dead_tasks() if letter.id != RETENTION_ID]
        return [self._letter(letter) for letter in reversed(letters[-limit:])]

    def view(self, task: ScheduledTask) -> Json:
        """A timer as it is told. ``time_left`` counts whole seconds, rounded up; 0 once the time has come."""
        payload = task.payload
        end = payload.get("end")
        status = status_of(task)
        due: int | None = payload["due"]
        waiting = status == "pending" and task.state == "scheduled"
        if payload["repeat"] is not None and end is None:
            due = _ms(task.due)
        elif due is not None and waiting:
            due = min(due, _ms(task.due))
        view: Json = {
            "id": task.id,
            "status": status,
            "time_left": _whole_seconds(task.time_left) if waiting else 0,
            "due": None if due is None else _iso(due),
            "url": payload["url"],
            "created": _iso(payload["made"]),
            "attempts": max(0, task.attempt - 1),
            "last_error": task.last_error,
            "next_attempt": task.due.isoformat(timespec="milliseconds") if status == "retrying" else None,
            "finished": None,
        }
        if end is not None:
            view |= {"attempts": end["attempts"], "last_error": end["error"], "finished": _iso(end["at"])}
        elif status == "failed":
            said = _FAILURE.search(task.last_error or "")
            view |= {"attempts": int(said[1]) if said else task.attempt, "finished": _iso(_ms(task.due))}
        elif status == "processing":
            view["attempts"] = task.attempt
        if "message" in payload:
            view["message"] = json.loads(payload["message"])
        return view | (payload["repeat"] or {})

    def _letter(self, letter: DeadTask) -> Json:
        said = _FAILURE.search(letter.error)
        return {
            "id": letter.payload.get("run", letter.id),
            "error": letter.error,
            "attempts": int(said[1]) if said else None,
            "count": letter.count,
            "first": letter.first.isoformat(timespec="milliseconds"),
            "last": letter.last.isoformat(timespec="milliseconds"),
        }

    # -- parts -------------------------------------------------------------------------------------------------------

    def _task(self, timer_id: str, request: TimerRequest, due: int | None, made: int) -> TimerTask:
        repeat: Json | None = None
        if request.cron is not None:
            repeat = {"cron": request.cron.expression, "tz": request.cron.tz}
        elif request.interval is not None:
            repeat = {"interval": request.interval}
        payload = {
            "url": request.url,
            "message": request.message,
            "due": due,
            "made": made,
            "armed": secrets.token_hex(6),
            "repeat": repeat,
            "print": request.fingerprint,
        }
        execute_on = None if due is None else due / 1000
        return TimerTask(timer_id, payload, execute_on, request.cron or request.interval, self._retry)

    async def _write(self, task: TimerTask, version: str) -> None:
        try:
            await self._scheduler.assign_task(task, if_version=version)
        except PayloadTooLarge:
            limit = self._scheduler.options.max_payload_bytes
            raise InvalidRequest.of({"message": f"is too large: with the url at most about {limit:,} bytes"}) from None
        except InvalidTask as error:
            raise InvalidRequest.of({"message": f"is refused: {error}"}) from error

    def _repeated(self, request: TimerRequest, found: ScheduledTask) -> Json:
        if found.payload.get("print") != request.fingerprint:
            raise Conflict(
                f"timer {found.id!r} exists and was made by another request: use another id or idempotency key, "
                "update it with PUT, or delete it"
            )
        return self.view(found)

    def _made(self, task: TimerTask, due: int) -> Json:
        """A timer as it was just written, without asking for it."""
        left = max(0.0, due / 1000 - time.time())
        when = datetime.fromtimestamp(due / 1000, UTC)
        return self.view(ScheduledTask(task.id, task.payload, when, left, None, "scheduled", 1))

    async def _peek(self, timer_id: str) -> ScheduledTask:
        found = await self._scheduler.peek_task(timer_id)
        if found is None or found.payload.get("end", {}).get("until", math.inf) <= _now_ms():
            raise UnknownTimer(timer_id)
        return found

    async def _alive(self, timer_id: str, verb: str) -> ScheduledTask:
        found = await self._peek(timer_id)
        self._refuse_finished(found, verb)
        return found

    def _refuse_finished(self, found: ScheduledTask, verb: str) -> None:
        status = status_of(found)
        if status in _FINISHED:
            raise Conflict(f"timer {found.id!r} is {status} and cannot be {verb}")


def _whole_seconds(left: float) -> int:
    """Rounded up, but for a moment by which the clocks of this machine and of Redis may differ."""
    return max(1, math.ceil(left - _CLOCKS_DIFFER_SECONDS)) if left > 0 else 0


def _interval(interval: timedelta | Cron | None) -> float | Cron | None:
    return interval.total_seconds() if isinstance(interval, timedelta) else interval


def status_of(task: ScheduledTask) -> str:
    """pending, processing, retrying, completed, failed or cancelled."""
    end = task.payload.get("end")
    if end is not None:
        return str(end["status"])
    if task.state == "dead":
        return "failed"
    if task.state == "running":
        return "processing"
    # One that was only postponed waits as a retry does, and has not been tried.
    return "retrying" if task.attempt > 1 else "pending"


def finished(payload: Mapping[str, Any], status: str, attempts: int, error: str | None, settings: Settings) -> Json:
    """The record of a finished timer: without its message, and with when it may be forgotten."""
    now = _now_ms()
    end = {
        "status": status,
        "at": now,
        "until": now + round(settings.retention_seconds * 1000),
        "attempts": attempts,
        "error": error,
    }
    return {**{name: value for name, value in payload.items() if name != "message"}, "end": end}


def record_task(timer_id: str, record: Json) -> TimerTask:
    """A record as a task, due when it may be forgotten."""
    return TimerTask(timer_id, record, record["end"]["until"] / 1000)


async def sweep(scheduler: AsyncScheduler, settings: Settings) -> int:
    """Deletes the dead letters whose retention is over; says how many."""
    return await scheduler.purge_dead_tasks(before=datetime.now(UTC) - timedelta(seconds=settings.retention_seconds))


def _parse_cursor(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    match = re.fullmatch(r"(\d{1,15})-(.{1,1000})", cursor, re.DOTALL)
    if match is None:
        raise InvalidRequest.of({"cursor": "is none: pass on `next` of the page before"})
    return int(match[1]), match[2]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
