"""Where time comes from on this side of the wire.

Due times are judged by the clock of the Redis instance that owns a task, inside the scripts. This clock only says
how long something took here, and lets tests and simulations replace both.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What schedulers and workers ask of time."""

    def monotonic(self) -> float:
        """Seconds that never step, for waits and deadlines."""
        ...

    def script_now(self) -> str:
        """The explicit server time a script shall use, in ms, or "" to let the script ask its own server."""
        ...


class SystemClock:
    """Real time: the scripts read their own server's ``TIME``."""

    def monotonic(self) -> float:
        return time.monotonic()

    def script_now(self) -> str:
        return ""


class ManualClock:
    """A server time that moves only when told to, for tests; waits on this side go on in real time.

    `now_ms` is the time, in ms since the epoch, that every script takes for its server's.
    """

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def monotonic(self) -> float:
        return time.monotonic()

    def script_now(self) -> str:
        return str(self.now_ms)

    def advance(self, milliseconds: int) -> None:
        self.now_ms += milliseconds
