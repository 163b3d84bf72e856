"""What schedulers and workers ask of the machine they run on: time, chance, threads, and a way to their instances.

Due times are judged by the clock of the Redis instance that owns a task, inside the scripts. The clocks here only say
how long something took, and how long to wait. Tests and simulations put another `Runtime` in the place of the real one.
"""

from __future__ import annotations

import binascii
import os
import random
import time
from collections.abc import Callable
from typing import Any

_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Runtime:
    """The real runtime."""

    threads = True
    """Whether there are threads. Without them leases are renewed, and plain handlers run, on the event loop."""
    kernel_timers = True
    """Whether to wait by a timer of the kernel, where the platform has them. Virtual time has its own."""
    endpoint: Callable[[Any], Any] | None = None
    """Makes the way to an instance from its options, where it is not a real connection."""

    def __init__(self) -> None:
        self.random = random.Random()
        """Where jitter comes from."""

    def monotonic(self) -> float:
        """Seconds that never step, for waits and deadlines."""
        return time.monotonic()

    def time(self) -> float:
        """Unix seconds by the clock of this machine."""
        return time.time()

    def routine(self, seconds: float) -> float:
        """How often to look for what a fault may have hidden, where real life needs it every so many seconds."""
        return seconds

    def script_now(self) -> str:
        """The server time a script shall use, in ms, or "" to let it ask its own server."""
        return ""

    def random_id(self) -> str:
        """48 random bits as eight letters: an id for one call, or one worker."""
        # As base64.urlsafe_b64encode does it, in half the time.
        return binascii.b2a_base64(os.urandom(6), newline=False).translate(_URL_SAFE).decode()
