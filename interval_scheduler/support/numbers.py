"""Numbers and durations of applications as plain ones.

Their values are often of subclasses that calculate in ways of their own: durations of pendulum cannot be divided by
plain ones, and subclasses of float and int may do anything. So they are read by the methods of the base classes.
"""

from __future__ import annotations

from datetime import timedelta

_MICROSECOND = timedelta(microseconds=1)


def plain_number(value: object) -> int | float | None:
    """An int or a float of no subclass; None for anything else, also for a bool."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else int.__int__(value)
    return float.__float__(value) if isinstance(value, float) else None


def seconds_of(value: object) -> int | float | None:
    """A number, or a timedelta, in seconds; None for anything else."""
    return timedelta.total_seconds(value) if isinstance(value, timedelta) else plain_number(value)


def microseconds_of(value: timedelta) -> int:
    """A timedelta in microseconds, exactly."""
    return timedelta.__floordiv__(value, _MICROSECOND)
