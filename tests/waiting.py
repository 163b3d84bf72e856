"""How tests wait for files, sockets, and other threads and processes, which cannot be awaited, only looked at."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable


def comes_true(condition: Callable[[], object], seconds: float, pause: float = 0.02) -> bool:
    """Looks every `pause` seconds until the condition holds, at most for so long; whether it came to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)  # nothing tells when to look again
    return True


def wait_until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Waits until the condition holds; fails where it does not in time."""
    assert comes_true(condition, seconds), f"not within {seconds:g} s: {inspect.getsource(condition).strip()}"
