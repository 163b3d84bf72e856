"""A timer that fires on time.

Event loops wait with epoll, which takes whole milliseconds and rounds up: their timers are late by half a millisecond
or more. On Linux a timer of the kernel, watched like a socket (timerfd_create(2)), is late by a tenth of that. After a
long sleep it is later, because the processor has to wake up first. So a long sleep ends a little early, and a short one
follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

_CLOCK_MONOTONIC = 1
_TIMER_ABSOLUTE = 1
_LONG_SECONDS = 0.002
_AHEAD_SECONDS = 0.0002


class Timer:
    """Calls back on the running loop after some time. It can be set again at any time.

    Uses a timer of the kernel if `kernel_timers` is set and the platform has one, else a timer of the loop.
    """

    def __init__(self, callback: Callable[[], object], kernel_timers: bool) -> None:
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._handle: asyncio.TimerHandle | None = None
        self._until: float | None = None
        """When a long sleep shall end, while the early part of it lasts."""
        self._timer = _open_timer() if kernel_timers else None
        if self._timer is not None:
            self._loop.add_reader(self._timer, self._fired)

    def set(self, seconds: float) -> None:
        """Fires in `seconds` from now. The time that was set before is forgotten."""
        if self._timer is None:
            self._cancel()
            self._handle = self._loop.call_later(seconds, self._callback)
        else:
            until = time.monotonic() + seconds
            self._until = until if seconds > _LONG_SECONDS else None
            _arm(self._timer, until if self._until is None else until - _AHEAD_SECONDS)

    def close(self) -> None:
        """Ends the timer. It never fires again."""
        self._cancel()
        timer, self._timer = self._timer, None
        if timer is None:
            return
        # A forked process shares the epoll of its parent, which goes on to watch.
        if os.getpid() == self._process:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.remove_reader(timer)
        os.close(timer)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fired(self) -> None:
        if self._timer is not None:
            with contextlib.suppress(BlockingIOError):  # it was set again after it had fired
                os.read(self._timer, 8)
            if self._until is not None:
                until, self._until = self._until, None
                _arm(self._timer, until)
                return
        self._callback()


class _Times(ctypes.Structure):
    """``struct itimerspec``: the interval, then the time until it fires."""

    _fields_ = (("interval", 2 * ctypes.c_long), ("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _system() -> Any:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "timerfd_create") else None


_libc = _system()


def _open_timer() -> int | None:
    """The file descriptor of a new timer of the kernel; None if it cannot be made."""
    if _libc is None:
        return None
    timer = _libc.timerfd_create(_CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
    return None if timer < 0 else int(timer)


def _arm(timer: int, until: float) -> None:
    """Sets a timer to a time of the monotonic clock. A time in the past fires at once."""
    seconds, rest = divmod(round(until * 1e9), 1_000_000_000)
    times = _Times((0, 0), seconds, rest)
    _libc.timerfd_settime(timer, _TIMER_ABSOLUTE, ctypes.byref(times), None)
