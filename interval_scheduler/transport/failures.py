"""The ways in which an instance can fail, as the error that callers get."""

from __future__ import annotations

from ..model.errors import PartitionUnavailable


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
    failure = PartitionUnavailable(instance, str(error))
    failure.__cause__ = error
    return failure
