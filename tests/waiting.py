"""How tests wait for files, sockets, and other threads and processes, which cannot be awaited, only looked at."""

from __future__ import annotations

import inspect
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path


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


def wait_for_signal_handler(pid: int, number: int = signal.SIGTERM) -> None:
    """Waits until a process catches a signal: one that comes sooner would just end it (Linux)."""
    status = Path(f"/proc/{pid}/status")

    def is_caught() -> bool:
        [caught] = re.findall(r"^SigCgt:\s*(\w+)$", status.read_text(), re.MULTILINE)
        return bool(int(caught, 16) & 1 << number - 1)

    wait_until(is_caught, 30)
