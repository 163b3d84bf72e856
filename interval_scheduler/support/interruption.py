"""Exceptions that did not come from what was called, but interrupted it: they belong to whoever called.

A signal handler may raise in the middle of a blocking call (a soft time limit, Ctrl-C), and another thread may make
this one raise. Whoever catches all errors of a library has to let them pass.
"""

from __future__ import annotations

from collections.abc import Container
from types import FrameType, TracebackType


def is_interruption(error: BaseException, packages: Container[str]) -> bool:
    """Whether an error did not come from these top-level packages, but interrupted them.

    A signal handler may raise a builtin error too. It is known then by its traceback: a signal handler is given the
    very frame that it interrupts.
    """
    if not isinstance(error, Exception):
        return True
    return type(error).__module__.partition(".")[0] not in packages or _is_from_signal_handler(error.__traceback__)


def _is_from_signal_handler(traceback: TracebackType | None) -> bool:
    while traceback is not None and traceback.tb_next is not None:
        interrupted, traceback = traceback.tb_frame, traceback.tb_next
        if any(value is interrupted for value in _arguments(traceback.tb_frame)):
            return True
    return False


def _arguments(frame: FrameType) -> list[object]:
    """The values of the parameters of a call, each of ``*args`` too."""
    found: list[object] = []
    for value in frame.f_locals.values():
        found += value if type(value) is tuple else (value,)
    return found
