"""The signals that end a wait, SIGTERM and SIGINT, in this process only: not in what a handler forks."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .text import is_of

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_previous: dict[signal.Signals, Any] = {}
"""How each signal was handled before a wait, while there is one."""


def is_interrupt(error: BaseException) -> bool:
    """Whether an error may be the Ctrl-C of a user, which comes in the main thread only."""
    return is_of(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


@contextmanager
def stop_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Calls `stop` when one of the signals comes, in the main thread; elsewhere signals do not come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOPPING}
    for number in _STOPPING:
        signal.signal(number, lambda _number, _frame: stop())
    _previous.update(before)
    try:
        yield
    finally:
        # From here on a second signal does what it did before.
        for number, handler in before.items():
            _previous.pop(number, None)
            _restore(number, handler)


def keep_previous() -> None:
    """An event loop is about to handle the signals: in a forked child they shall do what they do now."""
    _previous.update({number: signal.getsignal(number) for number in _STOPPING})


def forget_previous() -> None:
    """The event loop handles the signals no more."""
    _previous.clear()


def _restore(number: signal.Signals, handler: Any) -> None:
    # None: a handler that was not set by Python, as where the interpreter is part of another program. It cannot be set
    # again from here.
    signal.signal(number, signal.SIG_DFL if handler is None else handler)


_mask = threading.local()
"""What the thread that forks had blocked before."""


def _before_fork() -> None:
    """Holds the signals back in this thread, and so in the child, until the child handles them by itself."""
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)


def _in_parent() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _in_child() -> None:
    """A forked child shares the pipe by which its parent's event loop learns of signals, and must not write to it."""
    if _previous:
        signal.set_wakeup_fd(-1)
        for number, handler in _previous.items():
            _restore(number, handler)
        _previous.clear()
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
