"""Times and durations as users give them, in whole milliseconds. All times are since the epoch, in UTC."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from ..support.text import short_repr
from .errors import InvalidTask

MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, the last one a datetime can tell."""
YEAR_MS = 365 * 86_400_000
CENTURY_MS = 100 * YEAR_MS
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION = "use seconds as a number, or a timedelta"


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
        raise InvalidTask(owner, field, f"is {short_repr(value)}", f"use {bounds}")
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
        microseconds = (value - EPOCH) // timedelta(microseconds=1)
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
        raise InvalidTask(owner, field, f"is {short_repr(value)}", fix)
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


def to_datetime(milliseconds: int) -> datetime:
    """An aware datetime in UTC; the nearest one where the calendar of datetime ends."""
    return EPOCH + timedelta(milliseconds=max(0, min(milliseconds, MAX_MS)))
