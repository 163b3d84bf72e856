"""Requests for timers: their JSON Schema, and the check that names every wrong field at once."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..model.errors import InvalidTask
from ..model.schedule import Cron
from .destinations import MAX_URL_LENGTH, DestinationRefused, Destinations
from .errors import InvalidRequest
from .settings import Settings

ID_PATTERN = r"^[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,127}$"
KEY_PATTERN = r"^[\x21-\x7e]{1,255}$"
PAST_SECONDS = 3600
"""How long ago ``at`` may be: clocks differ, and a request that is repeated must find what it made."""

_DURATION = {"hours": 3600, "minutes": 60, "seconds": 1}
_TIMING = (*_DURATION, "timeout", "at", "interval", "cron")
_FIRST = frozenset(_TIMING) - {"interval", "cron"}
_FIELDS = frozenset({"url", "message", "id", "tz", *_TIMING})
_UNKNOWN_TOLD = 20
"""Most unknown fields that an answer names: it must not grow to a multiple of the request."""
_ABSENT: Any = object()

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TimerRequest:
    """A checked request. Times are unix ms; `message` is JSON text, which carries every number exactly.

    `due` is None for a cron timer, whose first match the scheduler finds, and for an update that keeps the time.
    `first` says whether the request names the time itself, instead of only an interval or nothing.
    """

    url: str
    message: str
    due: int | None
    interval: float | None
    cron: Cron | None
    id: str | None
    fingerprint: str
    first: bool

    @property
    def timed(self) -> bool:
        """Whether it says anything about time."""
        return self.due is not None or self.cron is not None


class Checker:
    """Checks requests against the settings."""

    def __init__(self, settings: Settings, destinations: Destinations) -> None:
        self._settings = settings
        self._destinations = destinations

    def timer(self, raw: object, *, update: bool = False) -> TimerRequest:
        """A checked request to create a timer or, with `update`, to replace what one does.

        Raises:
            InvalidRequest: naming every wrong field.
        """
        if not isinstance(raw, dict):
            raise InvalidRequest("a timer must be a JSON object")
        problems: dict[str, str] = {}
        allowed = _FIELDS - {"id"} if update else _FIELDS
        for name in sorted(raw.keys() - allowed)[:_UNKNOWN_TOLD]:
            problems[name[:100]] = f"is unknown: use {', '.join(sorted(allowed))}"
        url = self._url(raw.get("url", _ABSENT), problems)
        message = _message(raw.get("message"), problems)
        timer_id = raw.get("id")
        if "id" in raw and not update and not is_id(timer_id):
            problems["id"] = "must be text of 1 to 128 letters, digits, '_', '~', '-' and '.', not beginning with '.'"
        due, interval, cron = self._timing(raw, problems, update)
        if problems:
            raise InvalidRequest.of({name: problems[name] for name in sorted(problems)})
        return TimerRequest(url, message, due, interval, cron, timer_id, fingerprint(raw), not _FIRST.isdisjoint(raw))

    def ids(self, raw: object) -> list[Any]:
        """The list in ``{"ids": […]}``; its items are judged one by one."""
        return self._items(raw, "ids")

    def timers(self, raw: object) -> list[Any]:
        """The list in ``{"timers": […]}``; its items are judged one by one."""
        return self._items(raw, "timers")

    def _items(self, raw: object, name: str) -> list[Any]:
        if not isinstance(raw, dict):
            raise InvalidRequest(f'the body must be a JSON object, {{"{name}": […]}}')
        problems = {other[:100]: f"is unknown: use {name}" for other in sorted(raw.keys() - {name})[:_UNKNOWN_TOLD]}
        items = raw.get(name)
        if not isinstance(items, list) or not 1 <= len(items) <= self._settings.max_batch:
            problems[name] = f"must be a list of 1 to {self._settings.max_batch:,} items"
        if problems:
            raise InvalidRequest.of(problems)
        assert isinstance(items, list)
        return items

    def _url(self, url: Any, problems: dict[str, str]) -> str:
        if not isinstance(url, str):
            problems["url"] = "is missing" if url is _ABSENT else "must be text"
            return ""
        try:
            return str(self._destinations.url(url))
        except DestinationRefused as error:
            problems["url"] = str(error)
            return ""

    def _timing(
        self, raw: Json, problems: dict[str, str], update: bool
    ) -> tuple[int | None, float | None, Cron | None]:
        now = time.time()
        given = [name for name in _TIMING if name in raw]
        firsts = [name for name in given if name in _FIRST]
        kinds = ["hours, minutes and seconds" if name in _DURATION else name for name in firsts]
        if len(set(kinds)) > 1 or ("cron" in given and len(given) > 1):
            both = " and ".join(dict.fromkeys([*kinds, *(name for name in ("interval", "cron") if name in given)]))
            problems[given[0]] = f"excludes the others: give only one of {both}"
        if "tz" in raw and "cron" not in raw:
            problems["tz"] = "goes with cron only"
        if not given and not update:
            problems["seconds"] = (
                "is missing: give hours, minutes and seconds, or timeout, at, interval, or cron to say when"
            )
        interval = self._interval(raw["interval"], problems) if "interval" in raw else None
        cron = _cron(raw["cron"], raw.get("tz", "UTC"), problems) if "cron" in raw else None
        due: float | None = None
        if any(name in raw for name in _DURATION):
            seconds = self._duration(raw, problems)
            due = None if seconds is None else now + seconds
        if "timeout" in raw:
            timeout = _number(raw["timeout"])
            if timeout is None or not 0 < timeout <= self._settings.horizon_seconds:
                problems["timeout"] = f"must be seconds above 0, {self._horizon}"
            else:
                due = now + timeout
        if "at" in raw:
            due = self._at(raw["at"], now, problems)
        if due is None and interval is not None:
            due = now + interval
        return None if due is None else round(due * 1000), interval, cron

    def _duration(self, raw: Json, problems: dict[str, str]) -> int | None:
        total, wrong = 0, False
        for name, factor in _DURATION.items():
            value = raw.get(name, 0)
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # in JSON 60.0 is a whole number too
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                problems[name] = "must be a whole number from 0"
                wrong = True
            elif value * factor > self._settings.horizon_seconds:
                problems[name] = f"is too far ahead: {self._horizon}"
                wrong = True
            else:
                total += value * factor
        if wrong:
            return None
        if not total:
            problems["seconds"] = "and hours and minutes are all zero: the sum must be above 0"
        elif total > self._settings.horizon_seconds:
            problems["hours"] = f"with minutes and seconds is too far ahead: {self._horizon}"
        return total

    def _interval(self, value: Any, problems: dict[str, str]) -> float | None:
        seconds = _number(value)
        low = self._settings.min_interval_seconds
        if seconds is None or not low <= seconds <= self._settings.horizon_seconds:
            problems["interval"] = f"must be seconds from {low:g}, {self._horizon}"
            return None
        return round(seconds, 3)

    def _at(self, value: Any, now: float, problems: dict[str, str]) -> float | None:
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value.upper() else None
        except ValueError:
            moment = None
        if moment is None or moment.utcoffset() is None:
            problems["at"] = 'must be a time with a zone, such as "2030-01-31T12:00:00Z"'
            return None
        # Not timestamp(), which overflows at the ends of the calendar.
        seconds = (moment - datetime.fromisoformat("1970-01-01T00:00:00+00:00")).total_seconds()
        if seconds < now - PAST_SECONDS:
            problems["at"] = "is in the past"
        elif seconds > now + self._settings.horizon_seconds:
            problems["at"] = f"is too far ahead: {self._horizon}"
        return seconds

    @property
    def _horizon(self) -> str:
        return f"at most {self._settings.horizon_seconds / 86_400:g} days"


def is_id(value: object) -> bool:
    """Whether this can be the id of a timer."""
    return isinstance(value, str) and re.fullmatch(ID_PATTERN[1:-1], value) is not None


def fingerprint(raw: Mapping[str, Any]) -> str:
    """Tells requests apart that share an id or an idempotency key."""
    text = json.dumps({name: value for name, value in raw.items() if name != "id"}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _message(value: Any, problems: dict[str, str]) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        problems["message"] = "cannot be written as JSON"
        return ""
    return text


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _cron(expression: Any, tz: Any, problems: dict[str, str]) -> Cron | None:
    if not isinstance(tz, str):
        problems["tz"] = "must be text"
        tz = "UTC"
    if not isinstance(expression, str):
        problems["cron"] = "must be text"
        return None
    try:
        return Cron(expression, tz)
    except InvalidTask as error:
        _, name, rule, fix = error.args
        problems["tz" if name == "tz" else "cron"] = f"{rule}; {fix}"
        return None


# -- JSON Schema -------------------------------------------------------------------------------------------------------

_UPDATE = (
    "Replaces url and message, and the time where one is given; an interval or cron alone keeps the time of the "
    "pending occurrence, and says what follows it."
)


def schemas(settings: Settings) -> Json:
    """The schemas of request bodies, by name, for the OpenAPI document."""
    days = settings.horizon_seconds
    whole = {
        name: {"type": "integer", "minimum": 0, "maximum": int(days // factor)} for name, factor in _DURATION.items()
    }
    interval = {
        "type": "number",
        "minimum": settings.min_interval_seconds,
        "maximum": days,
        "description": "Seconds between occurrences; the first one of a new timer comes after one of them.",
    }
    first_then = interval | {"description": "Seconds between occurrences, from the first one on."}
    durations: Json = {**whole, "interval": first_then}
    ways: dict[str, tuple[Json, Json]] = {
        "Duration": (
            durations,
            {"anyOf": [{"required": [name], "properties": {name: {"minimum": 1}}} for name in _DURATION]},
        ),
        "Timeout": (
            {
                "timeout": {"type": "number", "exclusiveMinimum": 0, "maximum": days, "description": "Seconds."},
                "interval": first_then,
            },
            {"required": ["timeout"]},
        ),
        "At": ({"at": {"type": "string", "format": "date-time"}, "interval": first_then}, {"required": ["at"]}),
        "Interval": ({"interval": interval}, {"required": ["interval"]}),
        "Cron": (
            {
                "cron": {"type": "string", "format": "cron", "description": "Five fields, or six with seconds first."},
                "tz": {"type": "string", "format": "timezone", "description": "IANA name; UTC where there is none."},
            },
            {"required": ["cron"]},
        ),
    }
    common: Json = {
        "url": {
            "type": "string",
            "format": "uri",
            "maxLength": MAX_URL_LENGTH,
            "description": "The webhook is sent to this url with /<id> appended to its path.",
        },
        "message": {"description": "Any JSON; null where there is none. Delivered as it is."},
    }
    own_id: Json = {"id": {"type": "string", "pattern": ID_PATTERN, "description": "Made up where it is left out."}}
    create, update = [], []
    for properties, rule in ways.values():
        create.append(_object(common | own_id | properties, rule))
        update.append(_object(common | properties, rule))
    update.append(_object(common, {}))
    limit = settings.max_batch
    return {
        "TimerCreate": {"oneOf": create, "description": "A timer: what to send where, and one way to say when."},
        "TimerUpdate": {"oneOf": update, "description": _UPDATE},
        "BatchCreate": _list("timers", {"description": "A TimerCreate, judged by itself."}, limit),
        "BatchDelete": _list("ids", {"description": "The id of a timer, judged by itself."}, limit),
    }


def _object(properties: Json, rule: Json) -> Json:
    required = ["url", *rule.get("required", [])]
    closed = {"type": "object", "properties": properties, "additionalProperties": False}
    return closed | {name: value for name, value in rule.items() if name != "required"} | {"required": required}


def _list(name: str, items: Json, limit: int) -> Json:
    array = {"type": "array", "minItems": 1, "maxItems": limit, "items": items}
    return {"type": "object", "properties": {name: array}, "required": [name], "additionalProperties": False}
