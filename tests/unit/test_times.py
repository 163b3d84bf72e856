"""fault-D1: times and durations of classes that calculate in ways of their own are read as exactly as plain ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import pendulum
import pytest

from interval_scheduler import InvalidOptions, InvalidTask, Postpone, Retry, RetryAfter
from interval_scheduler.core.definition import decode_body
from interval_scheduler.core.preparation import prepare
from interval_scheduler.model.options import load_options
from interval_scheduler.model.schedule import Interval, parse_interval
from interval_scheduler.model.times import grace_seconds, parse_duration, parse_execute_on
from interval_scheduler.testing import SimulatedScheduler
from tests.tasks import Job

PARIS = ZoneInfo("Europe/Paris")
MOMENT = datetime(2026, 10, 25, 2, 30, 1, 999_001, tzinfo=PARIS, fold=1)
MOMENT_MS = 1_792_891_802_000
"""Rounded up: it is 999 microseconds after a whole millisecond."""


def refuse(*_: object, **__: object) -> NoReturn:
    raise AttributeError("'datetime.timedelta' object has no attribute '_to_microseconds'")


def strange(kind: type) -> type:
    """A subclass of which everything that one might calculate with raises."""
    names = "__sub__ __rsub__ __add__ __radd__ __truediv__ __floordiv__ __mul__ __rmul__ __lt__ __le__ __gt__ __ge__"
    more = "__mod__ __divmod__ __round__ __float__ __int__ __index__ __bool__ __neg__ __abs__"
    own = "total_seconds timestamp utcoffset astimezone as_integer_ratio is_integer"
    return type(f"Strange{kind.__name__.title()}", (kind,), dict.fromkeys(f"{names} {more} {own}".split(), refuse))


StrangeTime, StrangeSpan, StrangeFloat, StrangeInt = map(strange, (datetime, timedelta, float, int))


class FakeTime(datetime):
    """As freezegun makes them: subtracting gives what looks like a datetime."""

    def __sub__(self, other: Any) -> Any:
        return FakeTime.now(UTC)


class NotATime(datetime):
    """As pandas.NaT: a datetime of which every method returns itself."""

    def _itself(self, *_: object) -> NotATime:
        return self

    utcoffset = timestamp = astimezone = __sub__ = __rsub__ = __add__ = _itself  # type: ignore[assignment]


class Unknown(tzinfo):
    """A zone that was not finished: tzinfo itself raises in its place."""

    def __repr__(self) -> str:
        return "Unknown()"


UNKNOWN = Unknown()  # type: ignore[abstract]
TIMES: list[Any] = [
    MOMENT,
    pendulum.instance(MOMENT),
    pendulum.instance(MOMENT).in_timezone("Asia/Tokyo"),
    StrangeTime(2026, 10, 25, 2, 30, 1, 999_001, PARIS, fold=1),
    FakeTime(2026, 10, 25, 2, 30, 1, 999_001, PARIS, fold=1),
    StrangeTime(2026, 10, 25, 1, 30, 1, 999_001, UTC),
    StrangeFloat(1_792_891_801.9991),
    StrangeInt(1_792_891_802),
]
"""All the same time, in ms."""
SPANS: list[Any] = [
    timedelta(milliseconds=90_001, microseconds=400),
    pendulum.duration(minutes=1, seconds=30, milliseconds=1, microseconds=400),
    pendulum.duration(days=1, seconds=-(86_400 - 90), milliseconds=1),
    pendulum.instance(MOMENT).add(seconds=90, microseconds=1000) - pendulum.instance(MOMENT),
    pendulum.interval(pendulum.instance(MOMENT), pendulum.instance(MOMENT).subtract(seconds=90.001), absolute=True),
    StrangeSpan(seconds=90, microseconds=1499),
    StrangeFloat(90.001),
]
"""All the same duration, in ms."""


@pytest.mark.parametrize("value", TIMES, ids=repr)
def test_a_time_is_read_whatever_its_class_makes_of_it(value: Any) -> None:
    """pendulum#382."""
    assert parse_execute_on(value, "T") == MOMENT_MS
    assert type(parse_execute_on(value, "T")) is int


@pytest.mark.parametrize("value", SPANS, ids=repr)
def test_a_duration_is_read_whatever_its_class_makes_of_it(value: Any) -> None:
    """pendulum#382."""
    assert parse_duration(value, "T", "timeout") == 90_001
    assert type(parse_duration(value, "T", "timeout")) is int
    assert parse_interval(value, "T") == Interval(90_001)
    assert grace_seconds(value, "wait") == 90.001
    retry = Retry(backoff=value, max_backoff=value, factor=StrangeFloat(1.5), jitter=StrangeFloat(0.5))
    assert type(retry.factor) is type(retry.jitter) is float
    assert (retry.backoff, retry.max_backoff) == (90.001, 90.001)
    for verdict in (RetryAfter(value), Postpone(value)):
        assert round(verdict.seconds * 1000) == 90_001
        assert type(verdict.seconds) is float
    assert SimulatedScheduler().advance(value) == []


@pytest.mark.parametrize("value", SPANS, ids=repr)
def test_a_task_may_have_them_as_members(value: Any) -> None:
    """pendulum#382."""
    task = Job("a", TIMES[1], value, timeout=value, jitter=value, retry=Retry(backoff=value))
    _, when, _, body = prepare(task, 1000, lambda: 0)
    read = decode_body(body)
    assert when == f"={MOMENT_MS}"
    assert (read.schedule, read.timeout, read.jitter) == (Interval(90_001), 90_001, 90_001)


@pytest.mark.parametrize("value", [span for span in SPANS if isinstance(span, timedelta)], ids=repr)
def test_an_option_may_be_one(value: Any) -> None:
    """pendulum#382."""
    options = load_options({"lease_seconds": value, "check_tasks_every_seconds": value})
    assert options.lease_ms == 90_001
    with pytest.raises(InvalidOptions, match="a whole number"):
        load_options({"partitions": value})


@pytest.mark.parametrize("kind", [timedelta, pendulum.duration, StrangeSpan])
def test_a_duration_keeps_its_bounds_and_rounds_halves_to_even(kind: Callable[..., timedelta]) -> None:
    """pendulum#382: less than nothing is refused, by however little, though it rounds to nothing."""
    with pytest.raises(InvalidTask, match=r"^T\.timeout is .*; use 0 to "):
        parse_duration(kind(microseconds=-1), "T", "timeout")
    rounded = [parse_duration(kind(microseconds=value), "T", "timeout") for value in (499, 500, 501, 1499, 1500, 2500)]
    assert rounded == [0, 0, 1, 1, 2, 2]
    longest = kind(days=36_500)
    assert parse_duration(longest, "T", "timeout") == 36_500 * 86_400_000
    with pytest.raises(InvalidTask, match=r"; use 0 to 3,153,600,000 seconds"):
        parse_duration(kind(days=36_500, milliseconds=1), "T", "timeout")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (NotATime(1, 1, 1), "is a naive datetime; give it a zone"),
        (pendulum.naive(2026, 1, 1), "is a naive datetime; give it a zone"),
        (pendulum.date(2026, 1, 1), "is a Date; use an aware datetime"),
        (pendulum.duration(days=1), "is a Duration; use an aware datetime"),
        (datetime(2026, 1, 1, tzinfo=UNKNOWN), r"a zone that does not tell its offset \(NotImplementedError: .*use"),
        (StrangeFloat("nan"), "is nan; use an aware datetime"),
        (pendulum.datetime(1969, 12, 31, 23), "use a time from 1970 to 9999"),
    ],
    ids=repr,
)
def test_a_wrong_time_is_refused_with_the_fix(value: object, problem: str) -> None:
    with pytest.raises(InvalidTask, match=rf"^T\.execute_on .*{problem}"):
        parse_execute_on(value, "T")


@pytest.mark.parametrize("value", [NotATime(1, 1, 1), pendulum.datetime(2026, 1, 1), "5", True, 3 + 1j], ids=repr)
def test_a_wrong_duration_is_refused_with_the_fix(value: object) -> None:
    with pytest.raises(InvalidTask, match=r"^T\.jitter is an? \w+; use seconds as a number, or a timedelta"):
        parse_duration(value, "T", "jitter")
