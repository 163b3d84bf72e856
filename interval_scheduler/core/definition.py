"""What is stored of a task besides its times: payload, schedule and options, checked and encoded.

Producers make a `Definition` of a `Task`; workers and readers get it back from the body of a record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..model.errors import CorruptRecord, InvalidTask
from ..model.retry import Retry
from ..model.schedule import Cron, Interval, Schedule, parse_interval
from ..model.task import Delivery, Misfire, Task
from ..model.times import YEAR_MS, parse_duration, parse_execute_on
from .codec import encode_payload, join_body, pack, unpack
from .schedule import jitter_ms, next_slot

MAX_ID_BYTES = 1024
_ID_FIX = f"use text of 1 to {MAX_ID_BYTES} bytes in UTF-8"


# Not frozen: a worker makes one for every run, and that would take three times as long. Nobody changes one.
@dataclass(slots=True)
class Definition:
    """Times in ms. `payload` is decoded, `error` the newest one of a failing task.

    The defaults are what a body leaves out, and so part of what is stored: they stay, even if those of `Task` change.
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


_PLAIN = Definition(None)
UNREAD = Definition(None)
"""Stands for the definition of a record that this version cannot read. Nothing may be decided on it, nor written."""
# Name in a body, name in a Definition, value that a body leaves out.
_OPTIONS = tuple(
    (short, name, getattr(_PLAIN, name))
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


# Not a class of its own: many are made, and a plain tuple of texts and bytes is made in a fraction of the time, and is
# soon left alone by the garbage collector.
Prepared = tuple[bytes, str, int | str, bytes]
"""A task ready to be written, as the assign script takes it: id, slot, jitter in ms ("" for none), body."""


def encode_id(task_id: object, owner: str) -> bytes:
    """The id as it is stored.

    Raises:
        InvalidTask: for what cannot be an id.
    """
    if not isinstance(task_id, str):
        raise InvalidTask(owner, "id", f"must be a str, not {type(task_id).__name__}", _ID_FIX)
    try:
        raw = task_id.encode()
    except UnicodeEncodeError as error:
        raise InvalidTask(owner, "id", f"is not valid unicode ({error})", _ID_FIX) from error
    if not 0 < len(raw) <= MAX_ID_BYTES:
        raise InvalidTask(owner, "id", f"is {len(raw)} bytes long" if raw else "is empty", _ID_FIX)
    return raw


def task_id_of(task: object, owner: str | None = None) -> bytes:
    """The id of a `Task`, or an id given as it is."""
    if isinstance(task, Task):
        owner = type(task).__name__
        return encode_id(_member(task, "id", owner), owner)
    _no_class(task)
    return encode_id(task, owner or "task")


def prepare(task: object, max_payload_bytes: int, now_ms: Callable[[], int]) -> Prepared:
    """Checks a task whole and encodes it.

    `now_ms()` is the time of the task's instance as far as known; only a Cron without ``execute_on`` asks for it.

    Raises:
        InvalidTask: naming class, member, rule and fix.
    """
    if not isinstance(task, Task):
        _no_class(task)
        raise InvalidTask(
            type(task).__name__, "task", "is not a Task", "subclass interval_scheduler.Task and pass an instance"
        )
    owner = type(task).__name__
    try:
        task_id, execute_on = task.id, task.execute_on  # type: ignore[attr-defined]
        interval, retry, timeout = task.reschedule_interval, task.retry, task.timeout  # type: ignore[attr-defined]
        misfire, limit = task.misfire, task.misfire_limit  # type: ignore[attr-defined]
        delivery, jitter = task.delivery, task.jitter  # type: ignore[attr-defined]
    except AttributeError:
        for name in _MEMBERS:
            _member(task, name, owner)
        raise
    raw_id = encode_id(task_id, owner)
    (an_interval, a_retry, a_timeout, a_misfire, a_limit, a_delivery, a_jitter), recipe = _newest
    if not (
        interval is an_interval
        and retry is a_retry
        and timeout is a_timeout
        and misfire is a_misfire
        and limit is a_limit
        and delivery is a_delivery
        and jitter is a_jitter
    ):
        recipe = _another_recipe(owner, (interval, retry, timeout, misfire, limit, delivery, jitter))
    slot = parse_execute_on(execute_on, owner)
    definition = recipe.definition
    if slot is not None:
        when = f"={slot}"
    elif isinstance(definition.schedule, Cron):
        slot = next_slot(definition.schedule, now_ms())
        when = f"~{slot}"
    else:
        when = "~"
    delay: int | str = ""
    if definition.jitter:
        delay = definition.delay(raw_id.decode(), now_ms() if slot is None else slot) or ""
    payload = encode_payload(task.serialize(), owner, max_payload_bytes)
    return raw_id, when, delay, recipe.head + payload + recipe.tail


@dataclass(slots=True, eq=False)
class _Recipe:
    """What tasks have in common that differ only in id, first due time and payload.

    `head` and `tail` are the body around the payload.
    """

    definition: Definition
    head: bytes
    tail: bytes


_MEMBERS = (
    "id",
    "execute_on",
    "reschedule_interval",
    "retry",
    "timeout",
    "misfire",
    "misfire_limit",
    "delivery",
    "jitter",
)


def _another_recipe(owner: str, kind: tuple[Any, ...]) -> _Recipe:
    """The recipe for tasks whose members from `reschedule_interval` on are `kind`; it is the newest now."""
    global _newest
    try:
        recipe = _recipe(owner, *kind)
    except TypeError:  # what cannot be hashed is no valid value either, which this says by name
        return _recipe.__wrapped__(owner, *kind)
    _newest = kind, recipe
    return recipe


# Mostly the same for all tasks of a class; checking and encoding it once makes assigning in bulk twice as fast. Typed,
# because True and 1.0 equal 1 and are not all allowed.
@lru_cache(maxsize=1024, typed=True)
def _recipe(
    owner: str, interval: Any, retry: Any, timeout: Any, misfire: Any, limit: Any, delivery: Any, jitter: Any
) -> _Recipe:
    schedule = parse_interval(interval, owner)
    if not isinstance(retry, Retry):
        raise InvalidTask(owner, "retry", f"must be a Retry, not {type(retry).__name__}", "use Retry(max_retries=…)")
    misfire = _one_of(owner, "misfire", misfire, ("coalesce", "skip", "all"))
    delivery = _one_of(owner, "delivery", delivery, ("at_least_once", "at_most_once"))
    if type(limit) is not int or not 1 <= limit <= 1000:
        raise InvalidTask(owner, "misfire_limit", f"is {limit!r}", "use an int from 1 to 1,000")
    definition = Definition(
        None,
        schedule,
        retry,
        None if timeout is None else parse_duration(timeout, owner, "timeout", minimum_ms=1, maximum_ms=YEAR_MS),
        misfire,
        limit,
        delivery,
        parse_duration(jitter, owner, "jitter", maximum_ms=YEAR_MS),
    )
    body = encode_body(b"", definition)
    return _Recipe(definition, body[:1], body[1:])


# Members and recipe of the newest task: the very same values need not be looked up, which takes three times as long.
_newest: tuple[tuple[Any, ...], _Recipe] = ((object(),) * 7, _Recipe(_PLAIN, b"", b""))


def encode_body(payload: bytes, definition: Definition) -> bytes:
    """The body of a record, from an encoded payload and the rest of a definition."""
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
    """The body of a record whose newest error changed."""
    return encode_body(pack(definition.payload), replace(definition, error=error))


def decode_body(body: bytes) -> Definition:
    """The definition in the body of a record.

    Raises:
        CorruptRecord: where this version cannot read it.
    """
    fields = unpack(body)
    if not isinstance(fields, list) or not 1 <= len(fields) <= 4:
        raise CorruptRecord("a stored body has a form this version does not know; it is left as it is")
    if len(fields) == 1:
        return Definition(fields[0])
    try:
        if len(fields) == 2:
            return Definition(fields[0], _decode_schedule(fields[1]))
        fields += [None] * (4 - len(fields))
        payload, schedule, options, error = fields
        if options and not _SHORT.issuperset(options):
            # What is not understood would be left out when the body is written again.
            raise CorruptRecord(f"a stored body has options this version does not know: {set(options) - _SHORT}")
        given = {name: options[short] for short, name, _ in _OPTIONS if short in options} if options else {}
        if "retry" in given:
            given["retry"] = Retry.from_values(given["retry"])
        return Definition(payload, _decode_schedule(schedule), error=error, **given)
    except (TypeError, ValueError, LookupError) as problem:
        raise CorruptRecord(f"a stored body cannot be read ({problem}); it is left as it is") from problem


def _decode_schedule(schedule: Any) -> Schedule | None:
    if schedule is None:
        return None
    return _interval(schedule) if isinstance(schedule, int) else _cron(schedule[0], schedule[1])


_interval = lru_cache(maxsize=1024, typed=True)(Interval)
_cron = lru_cache(maxsize=1024, typed=True)(Cron)


def _no_class(task: object) -> None:
    if isinstance(task, type) and issubclass(task, Task):
        raise InvalidTask(task.__name__, "", "is a class", f"pass an instance, {task.__name__}(...)")


def _member(task: Task, name: str, owner: str) -> Any:
    try:
        return getattr(task, name)
    except AttributeError as error:
        raise InvalidTask(owner, name, f"is missing ({error})", f"define it on {owner}") from error


def _one_of(owner: str, field: str, value: object, allowed: tuple[str, ...]) -> Any:
    """The allowed word itself: what equals it may be a member of an enum, which msgpack refuses."""
    if value not in allowed:
        raise InvalidTask(owner, field, f"is {value!r}", f"use one of {', '.join(map(repr, allowed))}")
    return allowed[allowed.index(value)]
