"""The ways in which an instance can fail, as the error that callers get."""

from __future__ import annotations

from types import FrameType, TracebackType

from ..model.errors import PartitionUnavailable, UnusableInstance
from .remedies import REPEATED, causes, reason, remedy

_OF_CONNECTIONS = frozenset(
    {
        *("builtins", "socket", "ssl", "select", "redis", "hiredis", "fakeredis", "asyncio", "concurrent"),
        *("gevent", "eventlet", "interval_scheduler"),
    }
)
"""The packages whose errors mean that a connection failed. Builtin ones too: OSError, and what a library gets wrong."""


def raise_interruption(error: BaseException) -> None:
    """Raises what did not come from the connection, but interrupted the call: it belongs to whoever called.

    A signal handler may raise in the middle of a blocking call (a soft time limit, Ctrl-C), and another thread may
    make this one raise. A signal handler may raise a builtin error, and redis-py may wrap it. It is known then by its
    traceback: a signal handler is given the very frame that it interrupts.
    """
    if not isinstance(error, Exception):
        raise error
    *_, origin = causes(error)
    of_connection = type(origin).__module__.partition(".")[0] in _OF_CONNECTIONS
    if not of_connection or _is_from_signal_handler(origin.__traceback__):
        raise origin


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


def connection_failed(
    instance: str, error: BaseException, *, sent: bool, connecting: bool = False, fix: str = ""
) -> PartitionUnavailable:
    """A connection failed, before or after commands were `sent`. `connecting`: it has never worked.

    `fix` is what a closer look says to correct, where the error does not.
    """
    if isinstance(error, PartitionUnavailable):
        return error
    fix = fix or remedy(error, connecting=connecting)
    if fix:
        return _with_cause(UnusableInstance(instance, reason(error), fix, unknown_outcome=sent), error)
    return _with_cause(PartitionUnavailable(instance, reason(error), unknown_outcome=sent), error)


def transport_closed(instance: str, *, sent: bool) -> PartitionUnavailable:
    """The transport was closed, or its event loop ended, while a call was under way or before it began."""
    return PartitionUnavailable(instance, "the scheduler was closed, or its event loop", unknown_outcome=sent)


def command_refused(instance: str, error: Exception) -> PartitionUnavailable:
    """The server answered a command with an error. Scripts check before they write, so nothing was written."""
    fix = remedy(error, connecting=False)
    if fix:
        return _with_cause(UnusableInstance(instance, reason(error), fix, refused=True), error)
    return _with_cause(PartitionUnavailable(instance, reason(error), refused=True), error)


def _with_cause(failure: PartitionUnavailable, error: BaseException) -> PartitionUnavailable:
    # What repeats a command, and with it a password, does not go on to tracebacks.
    if not any(REPEATED in str(one) for one in causes(error)):
        failure.__cause__ = error
    return failure
