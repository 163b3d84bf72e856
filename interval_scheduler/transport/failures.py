"""The ways in which an instance can fail, as the error that callers get."""

from __future__ import annotations

from types import FrameType, TracebackType

from ..model.errors import PartitionUnavailable

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
    origin = _origin(error)
    of_connection = type(origin).__module__.partition(".")[0] in _OF_CONNECTIONS
    if not of_connection or _is_from_signal_handler(origin.__traceback__):
        raise origin


def _origin(error: BaseException) -> BaseException:
    """What redis-py wrapped, or the error itself."""
    cause = error.__cause__ or error.__context__
    if not _is_of_redis(type(error).__module__) or cause is None or cause.__traceback__ is None:
        return error
    # What was being handled when redis-py was called is its context too, but was never raised within redis-py.
    within = _is_of_redis(cause.__traceback__.tb_frame.f_globals.get("__name__", ""))
    return _origin(cause) if within else error


def _is_of_redis(module: str) -> bool:
    return module.partition(".")[0] == "redis"


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


def connection_failed(instance: str, error: BaseException, *, sent: bool) -> PartitionUnavailable:
    """A connection failed, before or after commands were `sent`."""
    failure = PartitionUnavailable(instance, str(error) or type(error).__name__, unknown_outcome=sent)
    failure.__cause__ = error
    return failure


def transport_closed(instance: str, *, sent: bool) -> PartitionUnavailable:
    """The transport was closed, or its event loop ended, while a call was under way or before it began."""
    return PartitionUnavailable(instance, "the scheduler was closed, or its event loop", unknown_outcome=sent)


def command_refused(instance: str, error: Exception) -> PartitionUnavailable:
    """The server answered a command with an error. Scripts check before they write, so nothing was written."""
    failure = PartitionUnavailable(instance, str(error), refused=True)
    failure.__cause__ = error
    return failure
