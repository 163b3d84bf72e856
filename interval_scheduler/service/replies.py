"""The JSON that the API answers with, by name. The OpenAPI document is generated from these types."""

from __future__ import annotations

from typing import (
    Any,
    NotRequired,  # pydantic reads those of `typing` from Python 3.12 on only
)

from typing_extensions import TypedDict


class ErrorBody(TypedDict):
    """What went wrong; `fields` names every wrong field."""

    error: str
    fields: NotRequired[dict[str, str]]


class TimerBody(TypedDict):
    """A timer. Times are ISO 8601; `time_left` is whole seconds."""

    id: str
    status: str
    time_left: int
    due: str | None
    url: str
    created: str
    attempts: int
    last_error: str | None
    next_attempt: str | None
    finished: str | None
    message: NotRequired[Any]
    interval: NotRequired[float]
    cron: NotRequired[str]
    tz: NotRequired[str]


class PageBody(TypedDict):
    """Timers, and the cursor of the next page."""

    timers: list[TimerBody]
    next: str | None


class DeadLetterBody(TypedDict):
    """A delivery that failed for good."""

    id: str
    error: str
    attempts: int | None
    count: int
    first: str
    last: str


class DeadLettersBody(TypedDict):
    """Dead letters, newest first."""

    dead_letters: list[DeadLetterBody]


class ResultBody(TypedDict):
    """The result of one item of a batch: a timer or an error."""

    status_code: int
    timer: NotRequired[TimerBody]
    error: NotRequired[str]
    fields: NotRequired[dict[str, str]]


class BatchBody(TypedDict):
    """One result per item, in order."""

    succeeded: int
    failed: int
    results: list[ResultBody]


class HealthBody(TypedDict):
    """Whether the service can be used, and what is wrong."""

    status: str
    problems: list[str]
