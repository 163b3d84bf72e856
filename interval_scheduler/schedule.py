"""Schedules: when a task is due, and when it is due next. All times are whole milliseconds since the epoch, in UTC."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from .errors import InvalidTask

MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, the last one a datetime can tell."""
CENTURY_MS = 100 * 365 * 86_400_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = "use seconds as a number, or a timedelta"


@dataclass(frozen=True, slots=True)
class Interval:
    """A fixed grid: every slot is `milliseconds` after the one before."""

    milliseconds: int


@dataclass(frozen=True)
class Cron:
    """A cron expression of five fields (or six, with seconds first) in a time zone.

    Matches follow the wall clock of the zone as Debian's cron does: a job at a time that day-light saving skips runs
    right after the change; a job at a fixed time that comes twice runs once; wildcard jobs follow real time.

    Raises:
        InvalidTask: for an expression that is wrong or never matches, and for an unknown zone.
    """

    expression: str
    tz: str = "UTC"

    def __post_init__(self) -> None:
        if isinstance(self.tz, ZoneInfo):
            object.__setattr__(self, "tz", self.tz.key)
        if not isinstance(self.expression, str):
            raise InvalidTask("Cron", "expression", "must be a str", 'write it like Cron("*/5 * * * *")')
        try:
            _zone(self.tz)
        except Exception as error:  # zoneinfo raises KeyError, ValueError, OSError and more for bad keys
            fix = 'use an IANA name such as "Europe/Paris" (and install tzdata where the system has none)'
            raise InvalidTask("Cron", "tz", f"{self.tz!r} is not a known time zone", fix) from error
        from cronsim import CronSimError

        try:
            # An expression that matches at all does so within the 28-year cycle of the calendar (40 over 2100).
            next(_matches(self, _EPOCH + timedelta(days=19_000)))
        except CronSimError as error:
            fix = 'use five fields, such as "*/5 * * * *"'
            raise InvalidTask("Cron", "expression", f"{self.expression!r} is wrong: {error}", fix) from error
        except StopIteration as error:
            raise InvalidTask(
                "Cron", "expression", f"{self.expression!r} never matches", "use a date that exists"
            ) from error


Schedule = Interval | Cron


def next_slot(schedule: Schedule, slot: int) -> int:
    """The smallest slot after `slot`."""
    return next_slot_after(schedule, slot, slot)


def next_slot_after(schedule: Schedule, slot: int, now: int) -> int:
    """The smallest slot of the grid through `slot` that is after both `slot` and `now`."""
    if isinstance(schedule, Interval):
        step = schedule.milliseconds
        return slot + step if now < slot else slot + ((now - slot) // step + 1) * step
    return _next_match(schedule, max(slot, now))


def latest_slot(schedule: Schedule, slot: int, now: int) -> int:
    """The largest slot of the grid through `slot` that is not after `now`, at least `slot`."""
    return missed_slots(schedule, slot, now, 1)[-1]


def missed_slots(schedule: Schedule, slot: int, now: int, limit: int) -> list[int]:
    """The newest `limit` slots from `slot` to `now`, oldest first; at least `slot`."""
    if isinstance(schedule, Interval):
        step = schedule.milliseconds
        count = max(0, now - slot) // step
        return [slot + k * step for k in range(max(0, count - limit + 1), count + 1)]
    # Looks back over twice the time until enough matches are found: the cost follows the limit, not the years.
    span = 60_000 * limit
    while True:
        start = max(slot, now - span)
        found = [slot] if start == slot else []
        match = _next_match(schedule, start)
        while match <= now:
            found.append(match)
            match = _next_match(schedule, match)
        if start == slot or len(found) >= limit:
            return found[-limit:]
        span *= 2


def _next_match(cron: Cron, after: int) -> int:
    """The first match strictly after a time.

    cronsim works on wall-clock times. Around a change of the offset its answer may lie at or before the time asked
    about: it is compared in UTC, and asked on until it is later.
    """
    moment = _EPOCH + timedelta(milliseconds=after)
    for match in _matches(cron, moment):
        stamp = (match.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)
        if stamp > after:
            return stamp
    return MAX_MS  # past the end of the calendar


def _matches(cron: Cron, moment: datetime) -> Iterator[datetime]:
    from cronsim import CronSim

    simulator: Iterator[datetime] = CronSim(cron.expression, moment.astimezone(_zone(cron.tz)))
    return simulator


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def jitter_ms(task_id: str, jitter: int, gap: int) -> int:
    """How much later than its slot a task is due: from 0 to `jitter`, less than `gap`, always the same for one id."""
    span = min(jitter, gap - 1)
    if span <= 0:
        return 0
    digest = hashlib.blake2b(task_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (span + 1)


def parse_interval(value: object, owner: str) -> Schedule | None:
    """``Task.reschedule_interval`` as a schedule; None runs once.

    Raises:
        InvalidTask: for anything but seconds (1 ms to a century, rounded to 1 ms), a timedelta or a Cron.
    """
    if value is None or isinstance(value, Cron | Interval):
        return value
    return Interval(parse_duration(value, owner, "reschedule_interval", minimum_ms=1, maximum_ms=CENTURY_MS))


def parse_duration(value: Any, owner: str, field: str, *, minimum_ms: int = 0, maximum_ms: int = CENTURY_MS) -> int:
    """Seconds or a timedelta as ms, rounded to the nearest.

    Raises:
        InvalidTask: for other types, and outside the bounds.
    """
    if isinstance(value, timedelta):
        milliseconds = round(value / timedelta(milliseconds=1))
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTask(owner, field, f"is of type {type(value).__name__}", _DURATION)
    elif not math.isfinite(value):
        raise InvalidTask(owner, field, f"is {value}", f"{_DURATION}, and a finite one")
    else:
        milliseconds = round(value * 1000)
    if not minimum_ms <= milliseconds <= maximum_ms:
        bounds = f"{minimum_ms / 1000:g} to {maximum_ms / 1000:g} seconds"
        raise InvalidTask(owner, field, f"is {value!r}", f"use {bounds}")
    return milliseconds


def parse_execute_on(value: Any, owner: str) -> int | None:
    """``Task.execute_on`` as ms, rounded up so that nothing is early; None stays None.

    Raises:
        InvalidTask: for a naive datetime, other types, and times before 1970 or after 9999.
    """
    fix = "use an aware datetime, unix seconds, or None for as soon as possible"
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidTask(owner, "execute_on", "is a naive datetime", "give it a zone, such as datetime.now(UTC)")
        microseconds = (value.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTask(owner, "execute_on", f"is of type {type(value).__name__}", fix)
    elif not math.isfinite(value):
        raise InvalidTask(owner, "execute_on", f"is {value}", fix)
    else:
        # A float of seconds is good to a fraction of a microsecond: more digits are noise, not a later time.
        microseconds = value * 1_000_000 if isinstance(value, int) else round(value * 1_000_000)
    milliseconds = -(-microseconds // 1000)
    if not 0 <= milliseconds <= MAX_MS:
        raise InvalidTask(owner, "execute_on", f"is {value!r}", "use a time from 1970 to 9999")
    return milliseconds
