"""What is stored of a task besides its times: payload, schedule, options and newest error; the body of its record.

`preparation` makes the body of a `Task`; workers and readers get the `Definition` back from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..model.errors import CorruptRecord
from ..model.retry import Retry
from ..model.schedule import Cron, Interval, Schedule
from ..model.task import Delivery, Misfire
from .codec import join_body, pack, unpack
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
_SHORT = frozenset(short for short, _, _ in _OPTIONS)


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
    """The body of a definition, with another newest error."""
    return encode_body(pack(definition.payload), replace(definition, error=error))


def decode_body(body: bytes) -> Definition:
    """The definition in the body of a record.

    Raises:
        CorruptRecord: where this version cannot read it.
    """
    fields = unpack(body)
    if not isinstance(fields, list) or not 1 <= len(fields) <= 4:
        raise CorruptRecord("a stored body has a form that this version does not know; nothing was changed")
    if len(fields) == 1:
        return Definition(fields[0])
    try:
        if len(fields) == 2:
            return Definition(fields[0], _decode_schedule(fields[1]))
        fields += [None] * (4 - len(fields))
        payload, schedule, options, error = fields
        if options and not _SHORT.issuperset(options):
            # An unknown option would be lost when the body is written again.
            unknown = sorted(map(str, set(options) - _SHORT))
            raise CorruptRecord(f"a stored body has options that this version does not know: {', '.join(unknown)}")
        given = {name: options[short] for short, name, _ in _OPTIONS if short in options} if options else {}
        if "retry" in given:
            given["retry"] = Retry.from_values(given["retry"])
        return Definition(payload, _decode_schedule(schedule), error=error, **given)
    except (TypeError, ValueError, LookupError) as problem:
        raise CorruptRecord(f"a stored body cannot be read ({problem}); nothing was changed") from problem


def _decode_schedule(schedule: Any) -> Schedule | None:
    if schedule is None:
        return None
    return _interval(schedule) if isinstance(schedule, int) else _cron(schedule[0], schedule[1])


_interval = lru_cache(maxsize=1024, typed=True)(Interval)
_cron = lru_cache(maxsize=1024, typed=True)(Cron)
