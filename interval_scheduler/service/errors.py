"""What the service answers instead of what was asked for: a status, a sentence, and the wrong fields."""

from __future__ import annotations

from collections.abc import Mapping


class ServiceError(Exception):
    """Base. Answered as ``{"error": …, "fields": {name: problem}}``; `fields` only where there are some."""

    status = 500

    def __init__(self, message: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields = dict(fields or {})

    def body(self) -> dict[str, object]:
        return {"error": self.message, "fields": self.fields} if self.fields else {"error": self.message}


class InvalidRequest(ServiceError):
    """400: the message names every wrong field at once."""

    status = 400

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> InvalidRequest:
        return cls("; ".join(f"{name} {problem}" for name, problem in fields.items()), fields)


class UnknownTimer(ServiceError):
    """404."""

    status = 404

    def __init__(self, timer_id: str) -> None:
        super().__init__(f"timer {timer_id!r} is unknown: it never was, was forgotten, or its retention is over")


class Conflict(ServiceError):
    """409: the timer is in a state that does not allow it."""

    status = 409
