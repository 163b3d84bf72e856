"""Schedules as users write them: an interval, or a cron expression in a time zone. `core.schedule` computes slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..support.text import repr_of, short_repr
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

    Ranges, steps, lists, names, ``L``, ``LW`` and ``#`` work as in cronsim. Matches follow the wall clock of the zone,
    as in Debian's cron. If hour, minute and second do not start with ``*``, a job runs once per match of the wall
    clock: where a change to summer time skips its time, it runs right after the change; where its time comes twice, it
    runs the first time. Other jobs follow real time: they do not run at skipped times, and run in both passes of a
    repeated hour.

    Raises:
        InvalidTask: for an expression that is wrong or never matches, and for an unknown zone.
    """

    expression: str
    tz: str

    def __init__(self, expression: str, tz: str | ZoneInfo = "UTC") -> None:
        if not isinstance(expression, str) or len(expression) > _LONGEST_EXPRESSION:
            rule = f"must be a str of at most {_LONGEST_EXPRESSION:,} characters"
            raise InvalidTask("Cron", "expression", rule, 'write it like Cron("*/5 * * * *")')
        # Imported here, so that importing the package stays quick.
        from zoneinfo import ZoneInfo

        name: Any = tz.key if isinstance(tz, ZoneInfo) else tz
        try:
            zone_of(name)
        except Exception as error:  # zoneinfo raises KeyError, ValueError, OSError and more for bad keys
            fix = 'use an IANA name such as "Europe/Paris" (and install tzdata where the system has none)'
            raise InvalidTask("Cron", "tz", f"{short_repr(tz)} is not a known time zone", fix) from error
        plan_of(expression)
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "tz", name)

    def __repr__(self) -> str:
        return repr_of(self, short_repr(self.expression), "" if self.tz == "UTC" else f"tz={short_repr(self.tz)}")


Schedule = Interval | Cron


def parse_interval(value: object, owner: str) -> Schedule | None:
    """``Task.reschedule_interval`` as a schedule; None runs once.

    Raises:
        InvalidTask: for anything but seconds (1 ms to a century, rounded to 1 ms), a timedelta or a Cron.
    """
    if value is None or isinstance(value, Cron | Interval):
        return value
    if isinstance(value, str):
        cron = short_repr(value) if len(value.split()) in (5, 6) else '"*/5 * * * *"'
        fix = f"use Cron({cron}) for a cron expression, or seconds as a number, or a timedelta"
        raise InvalidTask(owner, "reschedule_interval", f"is the str {short_repr(value)}", fix)
    return Interval(parse_duration(value, owner, "reschedule_interval", minimum_ms=1, maximum_ms=CENTURY_MS))
