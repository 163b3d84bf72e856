"""The ways in which an instance can fail, as the error that callers get."""

from __future__ import annotations

from ..model.errors import PartitionUnavailable, UnusableInstance
from ..support.interruption import is_interruption
from .remedies import REPEATED, causes, reason, remedy

_OF_CONNECTIONS = frozenset(
    {
        *("builtins", "socket", "ssl", "select", "redis", "hiredis", "fakeredis", "asyncio", "concurrent"),
        *("gevent", "eventlet", "interval_scheduler"),
    }
)
"""The packages whose errors mean that a connection failed. Builtin ones too: OSError, and what a library gets wrong."""


def raise_interruption(error: BaseException) -> None:
    """Raises what did not come from the connection, but interrupted the call; redis-py may have wrapped it."""
    *_, origin = causes(error)
    if is_interruption(origin, _OF_CONNECTIONS):
        raise origin


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
