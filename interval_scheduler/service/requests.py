"""Requests for timers: the check of their bodies, which names every wrong field at once."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TypeGuard

from ..model.errors import InvalidTask
from ..model.schedule import Cron
from .destinations import DestinationRefused, Destinations
from .errors import InvalidRequest
from .settings import Settings
from .stored import Repeat

ID_PATTERN = r"^[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,127}$"
KEY_PATTERN = r"^[\x21-\x7e]{1,255}$"
PAST_SECONDS = 3600
"""How long ago ``at`` may be: clocks differ, and a repeated request must find the timer that it created."""

DURATION = {"hours": 3600, "minutes": 60, "seconds": 1}
_TIMING = (*DURATION, "timeout", "at", "interval", "cron")
_FIRST = frozenset(_TIMING) - {"interval", "cron"}
_FIELDS = frozenset({"url", "message", "id", "tz", *_TIMING})
_MOST_UNKNOWN_NAMED = 20
"""Most unknown fields that an answer names: it must not become much longer than the request."""


class _Missing(Enum):
    URL = "there is no url"


@dataclass(frozen=True, slots=True)
class TimerRequest:
    """A checked request. Times are unix ms; `message` is JSON text, which carries every number exactly.

    `due` is None for a cron timer, because the scheduler finds its first match, and for an update that keeps the time.
    `first` says whether the request gives a first time: not only an interval, a cron expression or nothing.
    """

    url: str
    message: str
    due: int | None
    repeat: Repeat | None
    id: str | None
    fingerprint: str
    first: bool

    @property
    def timed(self) -> bool:
        """Whether it gives a time, an interval or a cron expression."""
        return self.due is not None or isinstance(self.repeat, Cron)


class Checker:
    """Checks the bodies of requests against the settings."""

    def __init__(self, settings: Settings, destinations: Destinations) -> None:
        self._settings = settings
        self._destinations = destinations

    def timer(self, raw: object, *, update: bool = False) -> TimerRequest:
        """A checked request to create a timer or, with `update`, to change one.

        Raises:
            InvalidRequest: naming every wrong field.
        """
        if not isinstance(raw, dict):
            raise InvalidRequest("a timer must be a JSON object")
        problems: dict[str, str] = {}
        allowed = _FIELDS - {"id"} if update else _FIELDS
        for name in sorted(raw.keys() - allowed)[:_MOST_UNKNOWN_NAMED]:
            problems[name[:100]] = f"is unknown: use {', '.join(sorted(allowed))}"
        url = self._url(raw.get("url", _Missing.URL), problems)
        message = _message(raw.get("message"), problems)
        timer_id = raw.get("id")
        if "id" in raw and not update and not is_id(timer_id):
            problems["id"] = "must be text of 1 to 128 letters, digits, '_', '~', '-' and '.', not beginning with '.'"
        due, repeat = self._timing(raw, problems, update)
        if problems:
            raise InvalidRequest.of({name: problems[name] for name in sorted(problems)})
        return TimerRequest(url, message, due, repeat, timer_id, fingerprint(raw), not _FIRST.isdisjoint(raw))

    def ids(self, raw: object) -> list[object]:
        """The list in ``{"ids": […]}``. Its items are not checked yet: each has a result of its own."""
        return self._items(raw, "ids")

    def timers(self, raw: object) -> list[object]:
        """The list in ``{"timers": […]}``. Its items are not checked yet: each has a result of its own."""
        return self._items(raw, "timers")

    def _items(self, raw: object, name: str) -> list[object]:
        if not isinstance(raw, dict):
            raise InvalidRequest(f'the body must be a JSON object, {{"{name}": […]}}')
        unknown = sorted(raw.keys() - {name})[:_MOST_UNKNOWN_NAMED]
        problems = {other[:100]: f"is unknown: use {name}" for other in unknown}
        items = raw.get(name)
        if not isinstance(items, list) or not 1 <= len(items) <= self._settings.max_batch:
            problems[name] = f"must be a list of 1 to {self._settings.max_batch:,} items"
        if problems or not isinstance(items, list):
            raise InvalidRequest.of(problems)
        return items

    def _url(self, url: object, problems: dict[str, str]) -> str:
        if not isinstance(url, str):
            problems["url"] = "is missing" if url is _Missing.URL else "must be text"
            return ""
        try:
            return str(self._destinations.url(url))
        except DestinationRefused as error:
            problems["url"] = str(error)
            return ""

    def _timing(
        self, raw: Mapping[str, object], problems: dict[str, str], update: bool
    ) -> tuple[int | None, Repeat | None]:
        """The first time, and how the timer recurs."""
        now = time.time()
        _check_combination(raw, problems, update)
        interval = self._interval(raw["interval"], problems) if "interval" in raw else None
        cron = _cron(raw["cron"], raw.get("tz", "UTC"), problems) if "cron" in raw else None
        due: float | None = None
        if any(name in raw for name in DURATION):
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
        return None if due is None else round(due * 1000), interval if cron is None else cron

    def _duration(self, raw: Mapping[str, object], problems: dict[str, str]) -> int | None:
        total, wrong = 0, False
        for name, factor in DURATION.items():
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
            problems["seconds"] = "is 0, and so are hours and minutes: the sum must be above 0"
        elif total > self._settings.horizon_seconds:
            problems["hours"] = f"with minutes and seconds is too far ahead: {self._horizon}"
        return total

    def _interval(self, value: object, problems: dict[str, str]) -> float | None:
        seconds = _number(value)
        low = self._settings.min_interval_seconds
        if seconds is None or not low <= seconds <= self._settings.horizon_seconds:
            problems["interval"] = f"must be seconds from {low:g}, {self._horizon}"
            return None
        return round(seconds, 3)

    def _at(self, value: object, now: float, problems: dict[str, str]) -> float | None:
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value.upper() else None
        except ValueError:
            moment = None
        if moment is None or moment.utcoffset() is None:
            problems["at"] = 'must be a time with a zone, such as "2030-01-31T12:00:00Z"'
            return None
        # Not timestamp(): it overflows at both ends of the calendar.
        seconds = (moment - datetime.fromisoformat("1970-01-01T00:00:00+00:00")).total_seconds()
        if seconds < now - PAST_SECONDS:
            problems["at"] = "is in the past: use a time in the future"
        elif seconds > now + self._settings.horizon_seconds:
            problems["at"] = f"is too far ahead: {self._horizon}"
        return seconds

    @property
    def _horizon(self) -> str:
        return f"at most {self._settings.horizon_seconds / 86_400:g} days"


def _check_combination(raw: Mapping[str, object], problems: dict[str, str], update: bool) -> None:
    """Checks that the request says in one way when the timer is due."""
    given = [name for name in _TIMING if name in raw]
    firsts = [name for name in given if name in _FIRST]
    kinds = ["hours, minutes and seconds" if name in DURATION else name for name in firsts]
    if len(set(kinds)) > 1 or ("cron" in given and len(given) > 1):
        both = " and ".join(dict.fromkeys([*kinds, *(name for name in ("interval", "cron") if name in given)]))
        problems[given[0]] = f"cannot be combined like this: give only one of {both}"
    if "tz" in raw and "cron" not in raw:
        problems["tz"] = "is only for cron: leave it out, or give cron"
    if not given and not update:
        problems["seconds"] = (
            "is missing: say when with hours, minutes and seconds, or with timeout, at, interval or cron"
        )


def is_id(value: object) -> TypeGuard[str]:
    """Whether a value can be the id of a timer."""
    return isinstance(value, str) and re.fullmatch(ID_PATTERN[1:-1], value) is not None


def fingerprint(raw: Mapping[str, object]) -> str:
    """Equal only for equal requests: shows whether two requests with one id or idempotency key are the same."""
    text = json.dumps({name: value for name, value in raw.items() if name != "id"}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _message(value: object, problems: dict[str, str]) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        problems["message"] = "cannot be written as JSON"
        return ""
    return text


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _cron(expression: object, tz: object, problems: dict[str, str]) -> Cron | None:
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
