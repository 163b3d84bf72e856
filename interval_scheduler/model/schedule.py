"""Schedules as users write them: an interval, or a cron expression in a time zone. `core.schedule` computes slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..support.text import repr_of, short_repr, type_with_article
from .cron_check import NICKNAMES, check_expression, check_zone
from .cron_plan import plan_of, zone_of
from .errors import InvalidTask
from .times import CENTURY_MS, parse_duration

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_LONGEST_EXPRESSION = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A fixed grid: every slot is `milliseconds` (1 to 100 years of them) after the one before.

    Raises:
        InvalidTask: outside these bounds.
    """

    milliseconds: int

    def __post_init__(self) -> None:
        if type(self.milliseconds) is not int or not 1 <= self.milliseconds <= CENTURY_MS:
            raise InvalidTask(
                "Interval", "milliseconds", f"is {short_repr(self.milliseconds)}", f"use 1 to {CENTURY_MS:,}"
            )


@dataclass(frozen=True, init=False, repr=False)
class Cron:
    """A cron expression of five fields (or six, with seconds first) in a time zone, by name or as a ZoneInfo.

    Ranges, steps, lists, names (``MON``, ``JAN``), ``L``, ``LW`` and ``#`` work as in cronsim; ``@hourly``, ``@daily``
    (``@midnight``), ``@weekly``, ``@monthly`` and ``@yearly`` (``@annually``) stand for five fields. Matches follow the
    wall clock of the zone, as in Debian's cron. If hour, minute and second do not start with ``*``, a job runs once per
    match of the wall clock: where a change to summer time skips its time, it runs right after the change; where its
    time comes twice, it runs the first time. Other jobs follow real time: they do not run at skipped times, and run in
    both passes of a repeated hour.

    Raises:
        InvalidTask: for an expression that is wrong or never matches, naming its field, and for an unknown zone.
    """

    expression: str
    tz: str

    def __init__(self, expression: str, tz: str | ZoneInfo = "UTC") -> None:
        _check_text(expression)
        # By the method of str itself: a member of an enum would not be stored.
        expression = check_expression(str.__str__(expression))
        self._set(expression, check_zone(tz))

    @classmethod
    def stored(cls, expression: str, tz: str) -> Cron:
        """A `Cron` that was stored, perhaps by a version that refused less: it goes on as it did.

        Raises:
            InvalidTask: where it cannot be read, or its zone is not known here.
        """
        _check_text(expression)
        cron = cls.__new__(cls)
        cron._set(expression, tz)
        return cron

    def _set(self, expression: str, tz: str) -> None:
        zone_of(tz)
        plan_of(expression)
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "tz", tz)

    def __repr__(self) -> str:
        return repr_of(self, short_repr(self.expression), "" if self.tz == "UTC" else f"tz={short_repr(self.tz)}")


def _check_text(expression: object) -> None:
    if isinstance(expression, str) and len(expression) <= _LONGEST_EXPRESSION:
        return
    rule = (
        f"is {len(expression):,} characters long"
        if isinstance(expression, str)
        else f"is {type_with_article(expression)}"
    )
    fix = f'use a str of at most {_LONGEST_EXPRESSION:,} characters, as in Cron("*/5 * * * *")'
    raise InvalidTask("Cron", "expression", rule, fix)


Schedule = Interval | Cron


def parse_interval(value: object, owner: str) -> Schedule | None:
    """``Task.reschedule_interval`` as a schedule; None runs once.

    Raises:
        InvalidTask: for anything but seconds (1 ms to a century, rounded to 1 ms), a timedelta or a Cron.
    """
    if value is None or isinstance(value, Cron | Interval):
        return value
    if isinstance(value, str):
        is_cron = len(value.split()) in (5, 6) or value.lower().strip() in NICKNAMES
        cron = short_repr(value) if is_cron else '"*/5 * * * *"'
        fix = f"use Cron({cron}) for a cron expression, or seconds as a number, or a timedelta"
        raise InvalidTask(owner, "reschedule_interval", f"is the str {short_repr(value)}", fix)
    return Interval(parse_duration(value, owner, "reschedule_interval", minimum_ms=1, maximum_ms=CENTURY_MS))
