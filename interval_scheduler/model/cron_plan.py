"""Cron expressions, parsed, on a wall clock without time zones. cronsim parses them and knows which days match."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..support.text import short_repr
from .errors import InvalidTask
from .times import EPOCH

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_EPOCH_DAY = EPOCH.toordinal()
DAY_SECONDS = 86_400
# Every date that exists falls on every day of the week within 40 years (29 February around the year 2100).
_HORIZON_DAYS = 50 * 366


@dataclass(slots=True, eq=False)
class Plan:
    """A parsed expression. Times are seconds of the wall clock since 1970, as if there were no time zones."""

    match_day: Callable[[date], bool]
    months: frozenset[int]
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    fixed: bool

    def after(self, wall: int) -> int | None:
        """The first match after a time; None where the next fifty years have none."""
        day, second = divmod(wall + 1, DAY_SECONDS)
        today = date.fromordinal(_EPOCH_DAY + day)
        if today.month in self.months and self.match_day(today):
            time = self._time(second)
            if time is not None:
                return day * DAY_SECONDS + time
        found = self._day(day + 1)
        return None if found is None else found * DAY_SECONDS + self._at(self.hours[0], self.minutes[0])

    def _time(self, second: int) -> int | None:
        """The first match of a day from `second` on, in seconds of the day; None where the day has no more."""
        hour, rest = divmod(second, 3600)
        minute, rest = divmod(rest, 60)
        if hour in self.hours:
            place = bisect_left(self.seconds, rest)
            if minute in self.minutes and place < len(self.seconds):
                return hour * 3600 + minute * 60 + self.seconds[place]
            place = bisect_right(self.minutes, minute)
            if place < len(self.minutes):
                return self._at(hour, self.minutes[place])
        place = bisect_right(self.hours, hour)
        return self._at(self.hours[place], self.minutes[0]) if place < len(self.hours) else None

    def _at(self, hour: int, minute: int) -> int:
        return hour * 3600 + minute * 60 + self.seconds[0]

    def _day(self, day: int) -> int | None:
        """The first matching day from a day on, in days since 1970."""
        end = day + _HORIZON_DAYS
        while day < end:
            today = date.fromordinal(_EPOCH_DAY + day)
            if today.month not in self.months:
                day = (today.replace(day=1) + timedelta(days=32)).replace(day=1).toordinal() - _EPOCH_DAY
            elif self.match_day(today):
                return day
            else:
                day += 1
        return None


@lru_cache(maxsize=1024)
def plan_of(expression: str) -> Plan:
    """Parses an expression.

    Raises:
        InvalidTask: where it is wrong or never matches.
    """
    from cronsim import CronSim, CronSimError

    try:
        parsed: Any = CronSim(expression, datetime(2022, 1, 1))
    except (CronSimError, ValueError, AssertionError) as error:  # ValueError: numbers of thousands of digits
        rule = f"{short_repr(expression)} is not valid ({error})"
        raise InvalidTask("Cron", "expression", rule, "use an expression that cronsim can read") from error
    # cronsim 2.6 knows no seconds.
    fields = parsed.hours, parsed.minutes, getattr(parsed, "seconds", {0})
    hours, minutes, seconds = (tuple(sorted(field)) for field in fields)
    fixed = not any(part.startswith("*") for part in parsed.parts[:-3])
    plan = Plan(parsed.match_day, frozenset(parsed.months), hours, minutes, seconds, fixed)
    if plan.after(19_000 * DAY_SECONDS) is None:
        raise InvalidTask("Cron", "expression", f"{short_repr(expression)} never matches", "use a date that exists")
    return plan


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """A time zone by its IANA name.

    Raises:
        InvalidTask: for one that is not known here.
    """
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except Exception as error:  # zoneinfo raises KeyError, ValueError, OSError and more for bad keys
        fix = 'use an IANA name such as "Europe/Paris" (and install tzdata where the system has none)'
        raise InvalidTask("Cron", "tz", f"{short_repr(name)} is not a known time zone", fix) from error
