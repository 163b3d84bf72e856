"""Schedules: when a task is due, and when it is due next. All times are whole milliseconds since the epoch, in UTC.

cronsim reads cron expressions and knows which days match. Times of day and day-light saving are worked out here: its
own search counts real hours, so after a change of 30 minutes (Lord Howe) it starts a matching hour in its middle, at
a midnight that is skipped (São Paulo) it returns a time that does not exist, and with seconds it leaves out the job of
the skipped hour and repeats that of the repeated one. Here an expression is searched on the wall clock alone, where
every day has 24 hours, and each match is then placed on the real time line.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..model.errors import InvalidTask

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, the last one a datetime can tell."""
YEAR_MS = 365 * 86_400_000
CENTURY_MS = 100 * YEAR_MS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_DAY = 86_400
# Every date that exists comes within 40 years on every day of the week (29 February over the year 2100).
_HORIZON_DAYS = 50 * 366
_LONGEST_EXPRESSION = 1000
_DURATION = "use seconds as a number, or a timedelta"


@dataclass(frozen=True, slots=True)
class Interval:
    """A fixed grid: every slot is `milliseconds` (1 to 100 years of them) after the one before.

    Raises:
        InvalidTask: outside these bounds.
    """

    milliseconds: int

    def __post_init__(self) -> None:
        if type(self.milliseconds) is not int or not 1 <= self.milliseconds <= CENTURY_MS:
            raise InvalidTask("Interval", "milliseconds", f"is {shown(self.milliseconds)}", f"use 1 to {CENTURY_MS:,}")


@dataclass(frozen=True, init=False)
class Cron:
    """A cron expression of five fields (or six, with seconds first) in a time zone, by name or as a ZoneInfo.

    Ranges, steps, lists, names, ``L``, ``LW`` and ``#`` as in cronsim. Matches follow the wall clock of the zone as
    Debian's cron does. A job whose hour, minute and second do not begin with ``*`` runs once per match of the wall
    clock: right after the change where day-light saving skips its time, the first time where it comes twice. Other
    jobs follow real time: they do not run at times that are skipped, and run in both passes of a repeated hour.

    Raises:
        InvalidTask: for an expression that is wrong or never matches, and for an unknown zone.
    """

    expression: str
    tz: str

    def __init__(self, expression: str, tz: str | ZoneInfo = "UTC") -> None:
        if not isinstance(expression, str) or len(expression) > _LONGEST_EXPRESSION:
            rule = f"must be a str of at most {_LONGEST_EXPRESSION:,} characters"
            raise InvalidTask("Cron", "expression", rule, 'write it like Cron("*/5 * * * *")')
        # Time zones are loaded with the first Cron, not with the package.
        from zoneinfo import ZoneInfo

        name: Any = tz.key if isinstance(tz, ZoneInfo) else tz
        try:
            _zone(name)
        except Exception as error:  # zoneinfo raises KeyError, ValueError, OSError and more for bad keys
            fix = 'use an IANA name such as "Europe/Paris" (and install tzdata where the system has none)'
            raise InvalidTask("Cron", "tz", f"{shown(tz)} is not a known time zone", fix) from error
        _plan(expression)
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "tz", name)


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
    """The newest `limit` (1 or more) slots from `slot` to `now`, oldest first; at least `slot`.

    The cost follows `limit`, not the time that went by.
    """
    if isinstance(schedule, Interval):
        step = schedule.milliseconds
        count = max(0, now - slot) // step
        return [slot + k * step for k in range(max(0, count - limit + 1), count + 1)]
    newest_first: list[int] = []
    end, span = now, 60_000
    while len(newest_first) < limit:
        match = _latest_match(schedule, slot, end, span)
        if match is None:
            newest_first.append(slot)
            break
        newest_first.append(match)
        # The next gap is mostly as wide as the last one.
        end, span = match - 1, max(1000, end - match + 1)
    return newest_first[::-1]


def _latest_match(cron: Cron, low: int, high: int, span: int) -> int | None:
    """The largest match in (`low`, `high`]: looks back over `span`, then twice that and so on, and bisects."""
    while (found := _next_match(cron, max(low, high - span))) > high:
        if high - span <= low:
            return None
        span *= 2
    # Invariant: `found` is a match, and none lies in (end, high].
    end = high
    while (following := _next_match(cron, found)) <= high:
        middle = (following + end) // 2
        found = _next_match(cron, middle)
        if found > high:
            found, end = following, middle
    return found


def _next_match(cron: Cron, after: int) -> int:
    """The first match strictly after a time; past the year 9999, where there is none, MAX_MS or `after` + 1."""
    plan = _plan(cron.expression)
    search = _once_each if plan.fixed else _in_real_time
    try:
        # Matches are whole seconds: one is after a time where it is after the second which that time is in.
        seconds = plan.after(after // 1000) if cron.tz == "UTC" else search(plan, _zone(cron.tz), after // 1000)
    except (OverflowError, ValueError):  # the calendar of datetime ends
        seconds = None
    return max(MAX_MS, after + 1) if seconds is None else seconds * 1000


def _once_each(plan: _Plan, zone: ZoneInfo, after: int) -> int | None:
    """The next run where each match of the wall clock runs once, as Debian's cron does with fixed times.

    Later matches never run earlier, so that all up to the present reading of the wall clock are past.
    """
    wall = plan.after(after + _offset(zone, after))
    while wall is not None:
        first, second = _offsets(zone, wall)
        run = wall - first if first >= second else _end_of_gap(zone, wall - second, wall - first)
        if run > after:
            return run
        wall = plan.after(wall)
    return None


def _in_real_time(plan: _Plan, zone: ZoneInfo, after: int) -> int | None:
    """The next moment at which the wall clock shows a match."""
    now = after + _offset(zone, after)
    run = None
    wall = plan.after(now)
    while wall is not None and (run := _shows(zone, wall, after)) is None:
        wall = plan.after(wall)
    first, second = _offsets(zone, now)
    if first <= second or after != now - first or (run is not None and _offset(zone, run) == first):
        return run
    # The wall clock is about to be set back and to show times again that lie behind.
    wall = plan.after(now - (first - second))
    while wall is not None and wall <= now:
        again = _shows(zone, wall, after)
        if again is not None:
            return again if run is None else min(run, again)
        wall = plan.after(wall)
    return run


def _shows(zone: ZoneInfo, wall: int, after: int) -> int | None:
    """The first moment after `after` at which the wall clock shows `wall`; None where there is none."""
    first, second = _offsets(zone, wall)
    if first < second:  # skipped
        return None
    return next((run for run in (wall - first, wall - second) if run > after), None)


def _offset(zone: ZoneInfo, moment: int) -> int:
    """What the wall clock is ahead of UTC at a moment, in seconds."""
    return _seconds(datetime.fromtimestamp(moment, zone).utcoffset())


def _offsets(zone: ZoneInfo, wall: int) -> tuple[int, int]:
    """The offsets, in seconds, when the wall clock shows a time for the first and for the second time (PEP 495).

    They are equal but for times that come twice, where the first is larger, and skipped ones, where it is smaller:
    the offsets before and after the change.
    """
    moment = datetime.fromtimestamp(wall, UTC).replace(tzinfo=zone)
    return _seconds(moment.utcoffset()), _seconds(moment.replace(fold=1).utcoffset())


def _end_of_gap(zone: ZoneInfo, low: int, high: int) -> int:
    """The moment in (`low`, `high`] at which the offset changes, by bisection."""
    after = _offset(zone, high)
    return bisect_left(range(low, high), True, key=lambda moment: _offset(zone, moment) == after) + low


def _seconds(offset: timedelta | None) -> int:
    assert offset is not None
    return offset.days * _DAY + offset.seconds


@dataclass(slots=True, eq=False)
class _Plan:
    """An expression taken apart. Times are seconds of the wall clock since 1970, as if there were no time zones."""

    match_day: Callable[[date], bool]
    months: frozenset[int]
    hours: tuple[int, ...]
    minutes: tuple[int, ...]
    seconds: tuple[int, ...]
    fixed: bool

    def after(self, wall: int) -> int | None:
        """The first match after a time; None where there is none in the next fifty years."""
        day, second = divmod(wall + 1, _DAY)
        today = date.fromordinal(_EPOCH_DAY + day)
        if today.month in self.months and self.match_day(today):
            time = self._time(second)
            if time is not None:
                return day * _DAY + time
        found = self._day(day + 1)
        return None if found is None else found * _DAY + self._at(self.hours[0], self.minutes[0])

    def _time(self, second: int) -> int | None:
        """The first time of a day from `second` on."""
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
def _plan(expression: str) -> _Plan:
    """Reads an expression.

    Raises:
        InvalidTask: where it is wrong or never matches.
    """
    from cronsim import CronSim, CronSimError

    try:
        parsed: Any = CronSim(expression, datetime(2022, 1, 1))
    except (CronSimError, ValueError, AssertionError) as error:  # ValueError: numbers of thousands of digits
        fix = 'use five fields, such as "*/5 * * * *", or six with seconds first, and dates that exist'
        raise InvalidTask("Cron", "expression", f"{shown(expression)} is wrong: {error}", fix) from error
    # cronsim 2.6 knows no seconds.
    fields = parsed.hours, parsed.minutes, getattr(parsed, "seconds", {0})
    hours, minutes, seconds = (tuple(sorted(field)) for field in fields)
    fixed = not any(part.startswith("*") for part in parsed.parts[:-3])
    plan = _Plan(parsed.match_day, frozenset(parsed.months), hours, minutes, seconds, fixed)
    if plan.after(19_000 * _DAY) is None:
        raise InvalidTask("Cron", "expression", f"{shown(expression)} never matches", "use a date that exists")
    return plan


@lru_cache(maxsize=1024)
def _zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def jitter_ms(task_id: str, jitter: int, gap: int) -> int:
    """How much later than its slot a task is due: from 0 to `jitter`, less than `gap`, always the same for one id."""
    span = min(jitter, gap - 1)
    if span <= 0:
        return 0
    from hashlib import blake2b  # as in `scripts`: few tasks have a jitter

    digest = blake2b(task_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (span + 1)


def parse_interval(value: object, owner: str) -> Schedule | None:
    """``Task.reschedule_interval`` as a schedule; None runs once.

    Raises:
        InvalidTask: for anything but seconds (1 ms to a century, rounded to 1 ms), a timedelta or a Cron.
    """
    if value is None or isinstance(value, Cron | Interval):
        return value
    if isinstance(value, str):
        cron = shown(value) if len(value.split()) in (5, 6) else '"*/5 * * * *"'
        fix = f"use Cron({cron}) for a cron expression, or seconds as a number, or a timedelta"
        raise InvalidTask(owner, "reschedule_interval", f"is the str {shown(value)}", fix)
    return Interval(parse_duration(value, owner, "reschedule_interval", minimum_ms=1, maximum_ms=CENTURY_MS))


def parse_duration(value: Any, owner: str, field: str, *, minimum_ms: int = 0, maximum_ms: int = CENTURY_MS) -> int:
    """Seconds or a timedelta as ms, rounded to the nearest.

    Raises:
        InvalidTask: for other types, and outside the bounds.
    """
    if isinstance(value, timedelta):
        milliseconds = round(value / timedelta(milliseconds=1))
        negative = value < timedelta(0)
    else:
        milliseconds = round(_finite(value, owner, field, _DURATION) * 1000)
        negative = value < 0
    if negative or not minimum_ms <= milliseconds <= maximum_ms:
        bounds = f"{minimum_ms / 1000:,.15g} to {maximum_ms / 1000:,.15g} seconds"
        raise InvalidTask(owner, field, f"is {shown(value)}", f"use {bounds}")
    return milliseconds


def parse_execute_on(value: Any, owner: str, field: str = "execute_on") -> int | None:
    """``Task.execute_on``, or another time, as ms, rounded up so that nothing is early; None stays None.

    Raises:
        InvalidTask: for a naive datetime, other types, and times before 1970 or after 9999.
    """
    if value is None:
        return None
    if type(value) is float and 1.0 <= value < 4e9:
        # The quick way for nearly all of them. The product, and the noise of the float, are wrong by less than a
        # thousandth here: what is further than that from a whole millisecond is certain, and so is what reads back.
        product = value * 1000.0
        whole = int(product)
        if 0.002 <= product - whole <= 0.998:
            return whole + 1
        nearest = round(product)
        if nearest / 1000.0 == value:
            return nearest
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidTask(owner, field, "is a naive datetime", "give it a zone, such as datetime.now(UTC)")
        # Not by way of astimezone, which overflows in the first and last hours of the calendar.
        microseconds = (value - _EPOCH) // timedelta(microseconds=1)
        negative = microseconds < 0
    else:
        fix = "use an aware datetime, unix seconds, or None for as soon as possible"
        seconds = _finite(value, owner, field, fix)
        # A float stands for the shortest decimal that reads back as it; what differs from that, and what is below a
        # microsecond, is noise and not a later time.
        exact: Any = seconds
        if isinstance(seconds, float):
            from decimal import Decimal  # here, because it is rarely needed, and takes a while to import

            exact = Decimal(float.__repr__(seconds))
        microseconds = round(exact * 1_000_000)
        negative = seconds < 0
    milliseconds = -(-microseconds // 1000)
    if negative or milliseconds > MAX_MS:
        fix = "use a time from 1970 to 9999"
        if MAX_MS < milliseconds <= MAX_MS * 1000:
            fix += " (in seconds, not milliseconds?)"
        raise InvalidTask(owner, field, f"is {shown(value)}", fix)
    return milliseconds


def _finite(value: Any, owner: str, field: str, fix: str) -> int | float:
    """A number whose products with a million are finite.

    Raises:
        InvalidTask: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidTask(owner, field, f"is of type {type(value).__name__}", fix)
    if isinstance(value, float) and not math.isfinite(value * 1_000_000):
        raise InvalidTask(owner, field, f"is {value}", f"{fix}, and a finite one")
    return value


def shown(value: object) -> str:
    """What a value looks like, for a message: short, and also where its repr is enormous or fails."""
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits, among others
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else f"{text[:77]}…"
