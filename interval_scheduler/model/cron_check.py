"""Checks a cron expression field by field, so that an error names the field, the rule and the fix.

cronsim, which reads it afterwards, says only which field is bad, and takes some of what nobody can mean: a step that
leads out of its field (``*/90`` minutes run every hour), a step on ``L`` (ignored), digits and letters that only look
like those of ASCII. Those are refused here, for what is written from now on: what is stored goes on as it did.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..support.text import short_repr
from .errors import InvalidTask

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""What the nicknames of Debian's cron stand for. All workers can read that, so it is what is stored."""
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_COUNT_FIX = 'use five fields, such as "*/5 * * * *", or six with seconds first'


class _Wrong(Exception):
    """What is wrong with a term, and what to do."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: its numbers, the names for them, and how many seconds one is (0: not always as many)."""

    name: str
    low: int
    high: int
    period: int
    seconds: int = 0
    names: Sequence[str] = ()

    def numbers(self, text: str) -> set[int]:
        """The numbers of a list of terms, without what depends on the month (L, LW, 5L, 5#2)."""
        return {number for term in text.split(",") for number in self._term(term)}

    def _term(self, term: str) -> Sequence[int]:
        base, slash, step = term.partition("/")
        if not base:
            raise _Wrong("there is an empty entry", "leave it out")
        if self._of_the_month(base):
            if slash:
                raise _Wrong(f"{base} has a step", "leave the step out")
            return ()
        numbers = self._base(base, slash)
        if not slash:
            return numbers
        if not re.fullmatch("[0-9]+", step) or int(step) == 0:
            raise _Wrong(f"/{step[:40]} is no step", f"use a number from 1 to {self.period} after the slash")
        if int(step) <= self.period:
            return numbers[:: int(step)]
        fix = f"use a step from 1 to {self.period}"
        if self.seconds and len(step) < 5:
            fix += f", or an interval of {int(step) * self.seconds} seconds instead of a Cron"
        raise _Wrong(f"the step {step[:40]} leads out of the field, which has {self.period} values", fix)

    def _base(self, base: str, slash: str) -> range:
        if base == "*":
            return range(self.low, self.high + 1)
        first, dash, last = base.partition("-")
        if not dash:
            number = self._number(base)
            return range(number, self.high + 1 if slash else number + 1)
        low, high = self._number(first), self._number(last)
        if high < low:
            raise _Wrong(f"the range {base} goes backwards", f'use "{self._around(low, high)}"')
        return range(low, high + 1)

    def _around(self, low: int, high: int) -> str:
        """What a range that goes backwards means: from `low` to the end, and from the beginning to `high`."""
        end = self.low + self.period - 1
        if high == 0 and self.high > end:  # Sunday, which has two numbers
            return f"{low}-{self.high}"
        parts = (low, end), (self.low, high)
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)

    def _number(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.low
        if not re.fullmatch("[0-9]+", text) or not self.low <= int(text) <= self.high:
            raise self._not_allowed(text)
        return int(text)

    def _not_allowed(self, text: str) -> _Wrong:
        allowed = f"use {self.low} to {self.high}"
        if self.names:
            allowed += f", or {self.names[0]} to {self.names[-1]}"
        if text == "?":
            allowed = 'use "*"'
        elif self.name == "hour" and text == "24":
            allowed = "use 0 for midnight"
        elif self.name == "day of the month" and "W" in text:
            allowed = "use a day; of the working days only the last one of the month has a name, LW"
        elif self.name == "day of the week" and text.endswith("L"):
            allowed = "use the number of a day and L, such as 5L for the last Friday of the month"
        elif text[:3] in self.names and text[3:].isalpha():
            allowed = f"use {text[:3]}"
        elif self.name == "day of the week" and "#" in text:
            allowed = "use a day and 1 to 5, such as 5#2 for the second Friday of the month"
        return _Wrong(f"{text[:40]} is not allowed" if text else "a number is missing", allowed)

    def _of_the_month(self, base: str) -> bool:
        """Whether a term stands for a day that depends on the month."""
        if self.name == "day of the month":
            return base in ("L", "LW")
        if self.name != "day of the week":
            return False
        day, hash_sign, nth = base.partition("#")
        if hash_sign and re.fullmatch("[1-5]", nth):
            self._number(day)
            return True
        return bool(re.fullmatch("[0-7]L", base))


_FIELDS = (
    _Field("second", 0, 59, 60, 1),
    _Field("minute", 0, 59, 60, 60),
    _Field("hour", 0, 23, 24, 3600),
    _Field("day of the month", 1, 31, 31, 86_400),
    _Field("month", 1, 12, 12, 0, _MONTHS),
    _Field("day of the week", 0, 7, 7, 0, _DAYS),
)


def check_expression(given: str) -> str:
    """The expression that a given one, or a nickname, stands for.

    Raises:
        InvalidTask: naming the field, the rule and the fix.
    """
    if given.strip().startswith("@"):
        return _nickname(given)
    if not given.isascii():
        raise _invalid(given, "has characters beyond ASCII", "use the digits 0 to 9, and plain letters and spaces")
    parts = given.upper().split()
    if len(parts) not in (5, 6):
        fix = _COUNT_FIX + ("; there is none for years" if len(parts) == 7 else "")
        raise _invalid(given, f"has {len(parts)} fields", fix)
    numbers = []
    for field, part in zip(_FIELDS[-len(parts) :], parts, strict=True):
        try:
            numbers.append(field.numbers(part))
        except _Wrong as wrong:
            rule, fix = wrong.args
            if len(parts) == 6:
                fix += "; of six fields, the first one are the seconds"
            raise _invalid(given, f"is not valid in its field for the {field.name}: {rule}", fix) from None
    _check_dates(given, parts, numbers[-3], numbers[-2])
    return given


def check_zone(given: object) -> str:
    """The name of a time zone that was given by name or as a ZoneInfo. Whether it is known is not checked here.

    Raises:
        InvalidTask: for anything else.
    """
    name = getattr(given, "key", given)  # of a ZoneInfo
    fix = 'use an IANA name such as "UTC" or "Europe/Paris", or a ZoneInfo with a key'
    if not isinstance(name, str):
        raise InvalidTask("Cron", "tz", f"is {short_repr(given)}", fix)
    return str.__str__(name)


def _check_dates(given: str, parts: list[str], days: set[int], months: set[int]) -> None:
    """Refuses what asks for days that its months do not have."""
    # As in Debian's cron: if neither field of days begins with a star, one of them suffices.
    both = parts[-3].startswith("*") or parts[-1].startswith("*")
    if not both or not days or "L" in parts[-3]:
        return
    if all(min(days) > _LONGEST_MONTHS[month - 1] for month in months):
        names = " or ".join(_MONTHS[month - 1].title() for month in sorted(months))
        rule = f"never matches, because there is no day {min(days)} in {names}"
        raise _invalid(given, rule, "use a date that exists, or L for the last day of the month")


def _nickname(given: str) -> str:
    name = given.strip().lower()
    if name in NICKNAMES:
        return NICKNAMES[name]
    fix = f"use one of {', '.join(NICKNAMES)}"
    if name == "@reboot":
        fix = "schedule a task for as soon as possible when your program starts"
        raise _invalid(given, "is of no use here: a task belongs to no machine that could start", fix)
    if name.startswith("@every"):
        fix = "use an interval, in seconds or as a timedelta, instead of a Cron"
    raise _invalid(given, "is not a known nickname", fix)


def _invalid(given: str, rule: str, fix: str) -> InvalidTask:
    return InvalidTask("Cron", "expression", f"{short_repr(given)} {rule}", fix)
