"""How long the machine delayed a process that was ready to run: no scheduler is to blame for that lateness."""

from __future__ import annotations

import time

_NAP_SECONDS = 0.01


class Sleeper:
    """Sleeps in short naps, and keeps by how many seconds the worst of them was too long."""

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
