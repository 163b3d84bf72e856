"""What schedulers and workers use of the machine: clocks, random numbers, threads, and connections to instances.

The scripts decide whether a task is due, by the clock of the Redis instance that owns it. The clocks here only tell how
long something took, and how long to wait. Tests and simulations use a `Runtime` of their own.
"""

from __future__ import annotations

import binascii
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

_CLOCK_OF_SUSPENSION: int | None = getattr(time, "CLOCK_BOOTTIME", None)
"""The clock that goes on while the machine is suspended, where `time.monotonic` does not: on Linux and macOS."""
if sys.platform == "darwin":
    _CLOCK_OF_SUSPENSION = time.CLOCK_MONOTONIC
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Runtime:
    """The real machine."""

    threads = True
    """Whether there are threads. Without them leases are renewed on the event loop, and plain handlers run there."""
    kernel_timers = True
    """Whether to wait by a timer of the kernel, where the platform has them. Virtual time has timers of its own."""
    endpoint: Callable[[Any], Any] | None = None
    """Makes the endpoint of an `Instance`, where it is not a real one; None makes `transport.endpoint.Endpoint`."""

    def __init__(self) -> None:
        self.random = random.Random()
        """The source of random numbers, for jitter."""

    def monotonic(self) -> float:
        """Seconds that never step, for waits and deadlines."""
        return time.monotonic()

    def suspended(self) -> float:
        """For how many seconds this machine was suspended so far, which `monotonic` leaves out on some platforms."""
        clock = _CLOCK_OF_SUSPENSION
        return 0.0 if clock is None else time.clock_gettime(clock) - time.monotonic()

    def zone_data(self) -> str:
        """The version of the time-zone data of this machine (see `support.zones`)."""
        from .zones import zone_data  # it is needed once per worker

        return zone_data()

    def time(self) -> float:
        """Unix seconds by the clock of this machine."""
        return time.time()

    def routine(self, seconds: float) -> float:
        """The period of a look that only faults make necessary, in seconds. A simulation returns another one."""
        return seconds

    def script_now(self) -> str:
        """The time that a script uses, in ms; "" lets it use the clock of its server."""
        return ""

    def random_id(self) -> str:
        """48 random bits as eight letters: the id of one call, or of one worker."""
        # The same as base64.urlsafe_b64encode, in half the time.
        return binascii.b2a_base64(os.urandom(6), newline=False).translate(_URL_SAFE).decode()
