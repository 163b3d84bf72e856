"""What the service stores in the scheduler: the payloads of its tasks and the texts of failed deliveries.

A payload is the list ``[version, "timer-service", kind, field, …]``, with the fields in the order in which the class of
that kind declares them. `encode` and `decode` are the only places that know this form. `decode` checks every field, so
that the rest of the service works with typed values only. A task of another application in the same namespace has no
such payload and is recognised by that.

The scheduler keeps one text for a failed run. `encode_failure` and `decode_failure` put the number of the attempt into
it, as a field of a JSON object.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from ..model.errors import InvalidTask
from ..model.retry import Retry
from ..model.schedule import Cron
from ..model.task import Task
from .errors import ServiceError

VERSION = 1
MARK = "timer-service"
_END_OF_TIME_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: later times are not times that Python or ISO 8601 can show."""
_DEFAULT_RETRY = Retry()
_TIMES = frozenset({"due", "created", "finished", "forget"})
"""Fields that hold unix milliseconds."""
_LONGEST_REASON = 300
"""Characters. Twice as many and the rest of the JSON stay below what the scheduler keeps of an error."""

Repeat = float | Cron
"""How a timer recurs: every so many seconds, or at the matches of a cron expression."""
EndStatus = Literal["completed", "cancelled"]


class ForeignPayload(Exception):
    """The task does not belong to the timer service: another application uses the same namespace."""


class UnreadablePayload(ServiceError):
    """500: a task of the service has a version or a shape that this process cannot read. The message says which."""


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that is not finished. Times are unix milliseconds."""

    url: str
    message: str
    """JSON text: numbers of any size come through unchanged."""
    due: int | None
    """When the first delivery is due; None for a cron timer, because the scheduler finds its first match."""
    created: int
    nonce: str
    """Random, new with every update that gives a time: a part of the webhook id of a one-off timer."""
    repeat: Repeat | None
    fingerprint: str
    """Of the request that created it: a repeat of that request is recognised by it."""

    def __post_init__(self) -> None:
        _check(self)
        if self.due is None and self.repeat is None:
            raise ValueError("due is missing, and the timer does not recur")

    def end(self, status: EndStatus, attempts: int, error: str | None, now: int, retention_seconds: float) -> Finished:
        """What is kept of the timer once it is finished: everything but the message."""
        forget = now + round(retention_seconds * 1000)
        return Finished(
            self.url, self.due, self.created, self.repeat, self.fingerprint, status, now, forget, attempts, error
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """The record of a completed or cancelled timer. A failed timer stays a `Timer`, as a dead letter."""

    url: str
    due: int | None
    created: int
    repeat: Repeat | None
    fingerprint: str
    status: EndStatus
    finished: int
    forget: int
    """When the record is deleted."""
    attempts: int
    error: str | None
    """The last failure of a cancelled timer, as the API shows it."""

    def __post_init__(self) -> None:
        _check(self)
        if self.status not in get_args(EndStatus):
            raise ValueError(f"status is {self.status!r}")
        if self.attempts < 0:
            raise ValueError(f"attempts is {self.attempts}")


@dataclass(frozen=True, slots=True)
class ExtraRun:
    """One delivery of a recurring timer besides its schedule."""

    timer_id: str

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class RetentionSweep:
    """The recurring task that deletes the dead letters whose retention is over."""

    repeat: float

    def __post_init__(self) -> None:
        _check(self)


Stored = Timer | Finished | ExtraRun | RetentionSweep
_KINDS: dict[str, type[Stored]] = {"timer": Timer, "finished": Finished, "run": ExtraRun, "retention": RetentionSweep}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def encode(value: Stored) -> list[object]:
    """The payload of a stored value."""
    payload: list[object] = [VERSION, MARK, _NAMES[type(value)]]
    for field in fields(value):
        item = getattr(value, field.name)
        payload.append([item.expression, item.tz] if isinstance(item, Cron) else item)
    return payload


def decode(payload: object) -> Stored:
    """The stored value of a payload.

    Raises:
        ForeignPayload: it belongs to another application.
        UnreadablePayload: it belongs to the service, but has another version or a wrong shape.
    """
    if not isinstance(payload, list) or len(payload) < 2 or type(payload[0]) is not int or payload[1] != MARK:
        raise ForeignPayload("this task does not belong to the timer service: give each application its own namespace")
    version, _, *rest = payload
    if version != VERSION:
        raise UnreadablePayload(
            f"what is stored has version {version} of the timer service's format, and this process reads only version "
            f"{VERSION}: run the same release of interval-scheduler everywhere"
        )
    try:
        return _value(rest)
    except ValueError as error:
        raise UnreadablePayload(f"what is stored is damaged: {error}") from error


def _value(rest: list[object]) -> Stored:
    kind = _KINDS.get(rest[0]) if rest and isinstance(rest[0], str) else None
    if kind is None:
        raise ValueError("its kind is missing or unknown")
    names = [field.name for field in fields(kind)]
    items = rest[1:]
    if len(items) != len(names):
        raise ValueError(f"a {_NAMES[kind]} has {len(names)} fields, not {len(items)}")
    values = dict(zip(names, items, strict=True))
    if "repeat" in values:
        values["repeat"] = _repeat(values["repeat"])
    value = kind(**values)  # type: ignore[arg-type]  # the class checks the types itself
    if isinstance(value, Timer):
        _check_json(value.message)
    return value


def _repeat(item: object) -> object:
    if not isinstance(item, list):
        return item
    if len(item) != 2 or not all(isinstance(part, str) for part in item):
        raise ValueError("repeat is neither a number nor a cron expression with its time zone")
    try:
        return Cron.stored(*item)
    except InvalidTask as error:
        _, name, rule, fix = error.args
        raise ValueError(f"{name} of the cron schedule {rule}; {fix}") from error


def _check(value: Stored) -> None:
    """Raises ValueError for a field of another type than declared, or out of range."""
    for name, allowed in _FIELD_TYPES[type(value)].items():
        item = getattr(value, name)
        if type(item) not in allowed:
            raise ValueError(f"{name} is of type {type(item).__name__}")
        if name in _TIMES and item is not None and not 0 <= item <= _END_OF_TIME_MS:
            raise ValueError(f"{name} is not a time: {item}")
        if isinstance(item, float) and not 0 < item < float("inf"):
            raise ValueError(f"{name} is not a number of seconds: {item}")


def _field_types(kind: type[Stored]) -> dict[str, frozenset[type]]:
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):
        hint = hints[field.name]
        found[field.name] = frozenset({str} if hint is EndStatus else get_args(hint) or {hint})
    return found


_FIELD_TYPES = {kind: _field_types(kind) for kind in _NAMES}
"""The exact types that each field may have. A bool is not an int here."""


def _check_json(text: str) -> None:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("message is not JSON") from None


@dataclass
class TimerTask(Task):
    """The task that carries a stored value. It recurs as the timer does."""

    id: str
    stored: Stored
    execute_on: float | None = None
    retry: Retry = _DEFAULT_RETRY

    @property
    def reschedule_interval(self) -> Repeat | None:
        return self.stored.repeat if isinstance(self.stored, Timer | RetentionSweep) else None

    def serialize(self) -> list[object]:
        return encode(self.stored)


def record_task(timer_id: str, record: Finished) -> TimerTask:
    """The task of a finished timer. It is due when the record is deleted."""
    return TimerTask(timer_id, record, record.forget / 1000)


# -- failures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a delivery failed, in printable characters, and which attempt it was.

    `attempt` is None where the scheduler itself ended the delivery, for example because its workers were killed.
    """

    reason: str
    attempt: int | None

    @classmethod
    def of(cls, reason: str, attempt: int) -> Failure:
        """A failure from the words of the receiver or the HTTP client, cut short and made printable."""
        text = "".join(character if character.isprintable() else " " for character in reason[:_LONGEST_REASON]).strip()
        return cls(text, attempt)

    def __str__(self) -> str:
        return self.reason if self.attempt is None else f"{self.reason} (attempt {self.attempt})"


def encode_failure(failure: Failure) -> str:
    """The text that the scheduler keeps and logs for a failed delivery."""
    return json.dumps({MARK: VERSION, "attempt": failure.attempt, "reason": failure.reason}, ensure_ascii=False)


def decode_failure(text: str) -> Failure:
    """The failure that a text stands for. Any other text, such as one of the scheduler, is the reason itself."""
    try:
        value = json.loads(text) if text.startswith("{") else None
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get(MARK) == VERSION:
        reason, attempt = value.get("reason"), value.get("attempt")
        if isinstance(reason, str) and type(attempt) is int:
            return Failure(reason, attempt)
    return Failure(text, None)
