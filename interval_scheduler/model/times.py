"""Times and durations as users give them, in whole milliseconds. All times are since the epoch, in UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from ..support.numbers import microseconds_of, plain_number
from ..support.text import error_text, short_repr, type_with_article
from .errors import InvalidTask

MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, where the calendar of datetime ends."""
YEAR_MS = 365 * 86_400_000
CENTURY_MS = 100 * YEAR_MS
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = "use seconds as a number, or a timedelta"


def parse_duration(value: object, owner: str, field: str, *, minimum_ms: int = 0, maximum_ms: int = CENTURY_MS) -> int:
    """A duration in seconds, or as a timedelta, in whole ms, rounded to the nearest (halves to the even one).

    Raises:
        InvalidTask: for other types, and outside the bounds.
    """
    if isinstance(value, timedelta):
        microseconds = microseconds_of(value)
        milliseconds, rest = divmod(microseconds, 1000)
        milliseconds += rest > 500 or (rest == 500 and milliseconds % 2 == 1)
        negative = microseconds < 0
    else:
        seconds = _finite(value, owner, field, _DURATION)
        milliseconds = round(seconds * 1000)
        negative = seconds < 0
    if negative or not minimum_ms <= milliseconds <= maximum_ms:
        bounds = f"{minimum_ms / 1000:,.15g} to {maximum_ms / 1000:,.15g} seconds"
        raise InvalidTask(owner, field, f"is {short_repr(value)}", f"use {bounds}")
    return milliseconds


def grace_seconds(value: object, owner: str) -> float | None:
    """How long to wait for running handlers; None, without limit, stays None.

    Raises:
        InvalidTask: for anything but None, seconds and a timedelta.
    """
    return None if value is None else parse_duration(value, owner, "grace") / 1000


def parse_execute_on(value: object, owner: str, field: str = "execute_on") -> int | None:
    """``Task.execute_on``, or another time, as ms, rounded up so that nothing is early; None stays None.

    Raises:
        InvalidTask: for a naive datetime, other types, and times before 1970 or after 9999.
    """
    if value is None:
        return None
    if type(value) is float and 1.0 <= value < 4e9:
        # The quick way, for nearly all floats. The product is wrong by less than a thousandth here: if it is further
        # than that from a whole millisecond, rounding up is certain; else the whole one must be exactly the float.
        product = value * 1000.0
        whole = int(product)
        if 0.002 <= product - whole <= 0.998:
            return whole + 1
        nearest = round(product)
        if nearest / 1000.0 == value:
            return nearest
    microseconds, negative = _microseconds(value, owner, field)
    milliseconds = -(-microseconds // 1000)
    if negative or milliseconds > MAX_MS:
        fix = "use a time from 1970 to 9999"
        if MAX_MS < milliseconds <= MAX_MS * 1000:
            fix += " (in seconds, not milliseconds?)"
        raise InvalidTask(owner, field, f"is {short_repr(value)}", fix)
    return milliseconds


_OTHER_TIMES = ", unix seconds, or None for as soon as possible"


def _microseconds(value: object, owner: str, field: str) -> tuple[int, bool]:
    """A time in whole microseconds, and whether it is before 1970, by however little."""
    if isinstance(value, datetime):
        try:
            # By the method of datetime itself: subclasses, as those of pendulum, have others. And by subtraction:
            # astimezone overflows in the first and last hours of the calendar.
            microseconds = microseconds_of(datetime.__sub__(value, EPOCH))
        except Exception as error:
            raise _bad_zone(value, owner, field) from error
        return microseconds, microseconds < 0
    # None means so only where a task is assigned.
    others = " or unix seconds" if field != "execute_on" or owner == "reschedule_task" else _OTHER_TIMES
    seconds = _finite(value, owner, field, f"use an aware datetime{others}")
    exact: Any = seconds
    if isinstance(seconds, float):
        from decimal import Decimal  # imported here: rarely needed, and slow to import

        # A float means the shortest decimal that reads back as it. The rest of its digits is noise, not a later time.
        exact = Decimal(repr(seconds))
    return round(exact * 1_000_000), seconds < 0


def _bad_zone(value: datetime, owner: str, field: str) -> InvalidTask:
    """The error for a datetime that does not say how far after the epoch it is."""
    try:
        datetime.utcoffset(value)
    except Exception as error:  # a zone of the application may do anything
        rule = f"has a zone that does not tell its offset ({error_text(error, 200)})"
        return InvalidTask(owner, field, rule, 'use a zone such as UTC or ZoneInfo("Europe/Paris")')
    return InvalidTask(owner, field, "is a naive datetime", "give it a zone, such as datetime.now(UTC)")


def _finite(value: object, owner: str, field: str, fix: str) -> int | float:
    """Checks that a value is a number, and finite even if multiplied by a million.

    Raises:
        InvalidTask: for anything else.
    """
    number = plain_number(value)
    if number is None:
        raise InvalidTask(owner, field, f"is {type_with_article(value)}", fix)
    if isinstance(number, float) and not math.isfinite(number * 1_000_000):
        raise InvalidTask(owner, field, f"is {number}", f"{fix}; it must be finite")
    return number


def to_datetime(milliseconds: int) -> datetime:
    """An aware datetime in UTC; the nearest one where the calendar of datetime ends."""
    return EPOCH + timedelta(milliseconds=max(0, min(milliseconds, MAX_MS)))
