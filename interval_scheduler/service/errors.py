"""The errors that the service answers: a status, a sentence, and the wrong fields."""

from __future__ import annotations

from collections.abc import Mapping

from ..model.errors import InvalidTask, SchedulerError
from .replies import ErrorBody


class ServiceError(Exception):
    """Base. Answered as ``{"error": …, "fields": {name: problem}}``; `fields` only where a field is wrong."""

    status = 500

    def __init__(self, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields = dict(fields or {})

    def body(self) -> ErrorBody:
        return {"error": self.message, "fields": self.fields} if self.fields else {"error": self.message}


class InvalidRequest(ServiceError):
    """400: the message names every wrong field at once."""

    status = 400

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> InvalidRequest:
        return cls("; ".join(f"{name} {problem}" for name, problem in fields.items()), fields)


class Unauthorized(ServiceError):
    """401: the API key is missing or unknown."""

    status = 401


class UnknownTimer(ServiceError):
    """404: there is no timer with this id."""

    status = 404

    def __init__(self, timer_id: str) -> None:
        super().__init__(
            f"timer {timer_id!r} is unknown: it was never created, it was deleted, or its retention is over"
        )


class Conflict(ServiceError):
    """409: the state of the timer does not allow the request."""

    status = 409


class BodyRefused(ServiceError):
    """408, 413 or 415: the body of the request takes too long, is too long, or is not JSON."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TooManyRequests(ServiceError):
    """429: the client is above its rate limit."""

    status = 429


class Unavailable(ServiceError):
    """503: Redis cannot be used right now."""

    status = 503


def from_scheduler(error: SchedulerError) -> ServiceError:
    """The answer to a request that failed with an error of the scheduler. Nearly all mean that Redis is unavailable."""
    if isinstance(error, InvalidTask):
        return InvalidRequest(str(error))
    return Unavailable(
        f"timers cannot be reached right now; repeating the request with the same Idempotency-Key is safe: {error}"
    )
