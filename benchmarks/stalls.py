"""How long the machine let a process wait that wanted to run: what lateness cannot be blamed on a scheduler for."""

from __future__ import annotations

import time

_NAP_SECONDS = 0.01


class Sleeper:
    """Sleeps in naps, and keeps how much longer than asked the worst of them took, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0

    def nap(self) -> None:
        begin = time.monotonic()
        time.sleep(_NAP_SECONDS)  # how much longer it takes is what is measured
        self.longest = max(self.longest, time.monotonic() - begin - _NAP_SECONDS)

    def until(self, moment: float) -> None:
        """Sleeps until that unix time."""
        while time.time() < moment:
            self.nap()
