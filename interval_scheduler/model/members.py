"""The members of a task, each with the check of its value: when its class is defined, and when it is assigned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from ..support.text import short_repr
from .errors import InvalidTask
from .retry import Retry
from .schedule import parse_interval
from .times import YEAR_MS, parse_duration, parse_execute_on

Misfire = Literal["coalesce", "skip", "all"]
Delivery = Literal["at_least_once", "at_most_once"]

MAX_ID_BYTES = 1024
MAX_MISFIRES = 1000
"""Most missed occurrences that ``misfire="all"`` can make up for."""
_ID_FIX = f"use text of 1 to {MAX_ID_BYTES} bytes in UTF-8"


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


def check_retry(value: object, owner: str) -> Retry:
    """Whether and when a run that failed is repeated."""
    if isinstance(value, Retry):
        return value
    fix = "use Retry(max_retries=…)"
    if type(value) is int and value >= 0:
        fix = f"use Retry(max_retries={value})"
    raise InvalidTask(owner, "retry", f"must be a Retry, not {type(value).__name__}", fix)


def parse_timeout(value: object, owner: str) -> int | None:
    """How long a run may take, in ms."""
    return None if value is None else parse_duration(value, owner, "timeout", minimum_ms=1, maximum_ms=YEAR_MS)


def check_misfire(value: object, owner: str) -> Misfire:
    """What happens after missed occurrences."""
    word: Misfire = _one_of(owner, "misfire", value, get_args(Misfire))
    return word


def check_misfire_limit(value: object, owner: str) -> int:
    """How many missed occurrences are made up for at most."""
    if type(value) is not int or not 1 <= value <= MAX_MISFIRES:
        raise InvalidTask(owner, "misfire_limit", f"is {short_repr(value)}", f"use an int from 1 to {MAX_MISFIRES:,}")
    return value


def check_delivery(value: object, owner: str) -> Delivery:
    """What happens after a worker died during a run."""
    word: Delivery = _one_of(owner, "delivery", value, get_args(Delivery))
    return word


def parse_jitter(value: object, owner: str) -> int:
    """Over how long tasks are spread, in ms."""
    return parse_duration(value, owner, "jitter", maximum_ms=YEAR_MS)


CHECKS: Mapping[str, Callable[[Any, str], object]] = {
    "id": encode_id,
    "execute_on": parse_execute_on,
    "reschedule_interval": parse_interval,
    "retry": check_retry,
    "timeout": parse_timeout,
    "misfire": check_misfire,
    "misfire_limit": check_misfire_limit,
    "delivery": check_delivery,
    "jitter": parse_jitter,
}
"""The check of each member but ``serialize``. It is given the value and the name of the class.

Each of them raises `InvalidTask`.
"""


def _one_of(owner: str, field: str, value: object, allowed: tuple[str, ...]) -> Any:
    """The allowed word itself, because `value` may be a member of an enum that equals it; msgpack refuses enums."""
    # A member of another class may do anything when it is compared.
    if not isinstance(value, str) or value not in allowed:
        raise InvalidTask(owner, field, f"is {short_repr(value)}", f"use one of {', '.join(map(repr, allowed))}")
    return allowed[allowed.index(value)]
