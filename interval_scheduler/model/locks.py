"""Locks on the master instance, released by Redis if nobody does; every change compares the holder in one step."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from .errors import InvalidTask

MANUAL_LOCK_SECONDS = 24 * 3600
"""A lock that nobody gives back is released after this long."""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock that was taken. `fencing_token` grows with every taking: pass it on to what the lock protects."""

    name: str
    fencing_token: int
    holder: str = field(repr=False)
    _extend: Callable[[Any, float | timedelta], Any] = field(repr=False, compare=False)


class Lock(HeldLock):
    """A lock taken by a `Scheduler`."""

    def extend(self, seconds: float | timedelta = MANUAL_LOCK_SECONDS) -> bool:
        """Makes the lock last `seconds` from now. False where it is not held any more."""
        return bool(self._extend(self, seconds))


class AsyncLock(HeldLock):
    """A lock taken by an `AsyncScheduler`."""

    async def extend(self, seconds: float | timedelta = MANUAL_LOCK_SECONDS) -> bool:
        """Makes the lock last `seconds` from now. False where it is not held any more."""
        return bool(await self._extend(self, seconds))


def new_holder() -> str:
    """A name that nobody else can know."""
    return os.urandom(16).hex()


def check_name(name: object) -> str:
    """A lock's name, or `InvalidTask`."""
    if not isinstance(name, str) or not name or len(name.encode("utf-8", "surrogatepass")) > 1024:
        raise InvalidTask("lock", "name", f"is {name!r:.60}", "use text of 1 to 1,024 bytes")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidTask("lock", "name", f"is not valid unicode ({error})", "use valid text") from error
    return name
