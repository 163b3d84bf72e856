"""What is stored of a task besides its times: payload, schedule, options and newest error; the body of its record.

`preparation` makes the body of a `Task`; workers and readers get the `Definition` back from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, get_args

from ..model.errors import CorruptRecord
from ..model.members import MAX_MISFIRES, Delivery, Misfire
from ..model.retry import Retry
from ..model.schedule import Cron, Interval, Schedule
from ..model.times import YEAR_MS
from ..support.text import short_repr, type_with_article
from .codec import join_body, pack, replace_error, unpack
from .schedule import jitter_ms, next_slot


# Not frozen: a worker makes one for every run, and that would take three times as long. Nobody changes one.
@dataclass(slots=True)
class Definition:
    """What the body of a record says. Times in ms; `payload` is decoded; `error` is the newest one of a failing task.

    A body leaves out what equals the defaults here. So they belong to the stored format and must stay, even if the
    defaults of `Task` change.
    """

    payload: Any
    schedule: Schedule | None = None
    retry: Retry = Retry(max_retries=3, backoff=1.0, factor=2.0, max_backoff=3600.0, jitter=0.1)  # noqa: RUF009
    timeout: int | None = None
    misfire: Misfire = "coalesce"
    misfire_limit: int = 100
    delivery: Delivery = "at_least_once"
    jitter: int = 0
    error: str | None = None
    body: bytes = field(default=b"", compare=False, repr=False)
    """What was read. What is written again are these bytes, whatever became of the decoded payload meanwhile."""

    def delay(self, task_id: str, slot: int) -> int:
        """How much later than `slot` this id is due, in ms: stable, and never past the following slot."""
        if not self.jitter:
            return 0
        gap = self.jitter + 1 if self.schedule is None else next_slot(self.schedule, slot) - slot
        return jitter_ms(task_id, self.jitter, gap)


_DEFAULTS = Definition(None)
UNREADABLE = Definition(None)
"""Stands for the definition of a record that this version cannot read. Nothing may be decided or written with it."""
# Name in a body, name in a Definition, value that a body leaves out.
_OPTIONS = tuple(
    (short, name, getattr(_DEFAULTS, name))
    for short, name in (
        ("r", "retry"),
        ("t", "timeout"),
        ("m", "misfire"),
        ("l", "misfire_limit"),
        ("d", "delivery"),
        ("j", "jitter"),
    )
)
_NAMES = {short: name for short, name, _ in _OPTIONS}
_MAY_BE_IGNORED = "_"
"""An option whose name begins so may be left alone by a version that does not know it: it is carried on. Every other
unknown one says that a newer version must handle the task."""


def encode_body(payload: bytes, definition: Definition) -> bytes:
    """The body of a record: an encoded payload, then schedule, options and error of a definition."""
    schedule: object = None
    if isinstance(definition.schedule, Interval):
        schedule = definition.schedule.milliseconds
    elif isinstance(definition.schedule, Cron):
        schedule = [definition.schedule.expression, definition.schedule.tz]
    options: dict[str, object] = {}
    for short, name, default in _OPTIONS:
        value = getattr(definition, name)
        if value != default:
            options[short] = value.to_values() if short == "r" else value
    return join_body(payload, schedule, options or None, definition.error)


def with_error(definition: Definition, error: str | None) -> bytes:
    """The body of a definition, with another newest error. The rest of it are the bytes that were read."""
    if not definition.body:
        return encode_body(pack(definition.payload), replace(definition, error=error))
    return replace_error(definition.body, error)


def decode_body(body: bytes) -> Definition:
    """The definition in the body of a record.

    Raises:
        CorruptRecord: where this version cannot read it.
    """
    fields = unpack(body)
    if not isinstance(fields, list) or not 1 <= len(fields) <= 4:
        raise CorruptRecord("a stored body has a form that this version does not know; nothing was changed")
    if len(fields) == 1:
        return Definition(fields[0], body=body)
    try:
        if len(fields) == 2:
            return Definition(fields[0], _decode_schedule(fields[1]), body=body)
        payload, schedule, options, error = (*fields, None)[:4]
        if error is not None and not isinstance(error, str):
            raise CorruptRecord(f"a stored error is {type_with_article(error)}; nothing was changed")
        return Definition(payload, _decode_schedule(schedule), error=error, body=body, **_decode_options(options))
    except (TypeError, ValueError, LookupError, ArithmeticError) as problem:
        raise CorruptRecord(f"a stored body cannot be read ({problem}); nothing was changed") from problem


def _decode_schedule(schedule: Any) -> Schedule | None:
    if schedule is None:
        return None
    if isinstance(schedule, int):
        return _interval(schedule)
    if not isinstance(schedule, list) or len(schedule) != 2:
        raise CorruptRecord("a stored schedule has a form that this version does not know; nothing was changed")
    return _cron(*schedule)


def _decode_options(options: Any) -> dict[str, Any]:
    """Options by their names in a `Definition`, checked as they were when they were written."""
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise CorruptRecord(f"the stored options are {type_with_article(options)}; nothing was changed")
    given = {}
    for short, value in options.items():
        name = _NAMES.get(short)
        if name is None:
            if isinstance(short, str) and short.startswith(_MAY_BE_IGNORED):
                continue
            raise CorruptRecord(f"a stored body has an option that this version does not know: {short_repr(short)}")
        if name == "retry":
            value = Retry.from_values(value)
        elif not _ALLOWED[name](value):
            raise CorruptRecord(f"the stored {name} is {short_repr(value)}; nothing was changed")
        given[name] = value
    return given


def _is_duration(least: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= YEAR_MS


_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "timeout": _is_duration(1),
    "misfire": lambda value: value in get_args(Misfire),
    "misfire_limit": lambda value: type(value) is int and 1 <= value <= MAX_MISFIRES,
    "delivery": lambda value: value in get_args(Delivery),
    "jitter": _is_duration(0),
}
"""What each option may be, as `preparation` checks it."""


_interval = lru_cache(maxsize=1024, typed=True)(Interval)
_cron = lru_cache(maxsize=1024, typed=True)(Cron.stored)
