"""Locks on the master instance. Redis releases them at the latest when their time ends; only the holder may earlier."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ..support.text import repr_of, short_repr
from .errors import InvalidTask

MANUAL_LOCK_SECONDS = 24 * 3600
"""How long a lock is held at most, unless it is extended."""


@dataclass(frozen=True, slots=True, repr=False)
class HeldLock:
    """A lock that is held. `fencing_token` grows each time the lock is taken: give it to whatever the lock protects."""

    name: str
    fencing_token: int
    holder: str
    _extend: Callable[[Any, float | timedelta], Any] = field(compare=False)

    def __repr__(self) -> str:  # without the holder, whose knowledge is the right to release
        return repr_of(self, short_repr(self.name), f"fencing_token={self.fencing_token}")


class Lock(HeldLock):
    """A lock that a `Scheduler` took."""

    def extend(self, seconds: float | timedelta = MANUAL_LOCK_SECONDS) -> bool:
        """Makes the lock last `seconds` from now. False where it is not held any more."""
        return bool(self._extend(self, seconds))


class AsyncLock(HeldLock):
    """A lock that an `AsyncScheduler` took."""

    async def extend(self, seconds: float | timedelta = MANUAL_LOCK_SECONDS) -> bool:
        """Makes the lock last `seconds` from now. False where it is not held any more."""
        return bool(await self._extend(self, seconds))


def new_holder() -> str:
    """A random name for one holder, which nobody can guess."""
    return os.urandom(16).hex()


def check_lock(lock: object) -> HeldLock:
    """What was given as a lock.

    Raises:
        InvalidTask: for anything that no scheduler gave.
    """
    if isinstance(lock, HeldLock):
        return lock
    raise InvalidTask("unlock", "lock", f"is {short_repr(lock)}", "pass what try_lock() or lock() gave")


def check_name(name: object) -> str:
    """The name of a lock, as it is.

    Raises:
        InvalidTask: for what cannot be a name.
    """
    if not isinstance(name, str) or not name or len(name.encode("utf-8", "surrogatepass")) > 1024:
        raise InvalidTask("lock", "name", f"is {short_repr(name)}", "use text of 1 to 1,024 bytes")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidTask("lock", "name", f"is not valid unicode ({error})", "use valid text") from error
    return name
