"""How the measuring process waits: for a moment, or for what other processes do, which cannot be awaited, only seen."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(moment: float) -> None:
    """Waits for a unix time."""
    time.sleep(max(0.0, moment - time.time()))


def wait_until(condition: Callable[[], object], seconds: float, pause: float = 0.02) -> bool:
    """Looks every `pause` seconds until the condition holds, at most for so long; whether it came to hold."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(pause)
    return True
