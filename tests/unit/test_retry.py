"""How often, and when, a failed run is repeated."""

from __future__ import annotations

import math
from datetime import timedelta

import msgpack
import pytest

from interval_scheduler.model.errors import InvalidTask
from interval_scheduler.model.retry import Retry

MIDDLE = 0.5  # a random number that leaves a pause as it is


def test_each_pause_is_the_last_one_times_the_factor_up_to_the_longest() -> None:
    retry = Retry(max_retries=None, backoff=0.5, factor=3, max_backoff=timedelta(minutes=1))
    assert [retry.delay_ms(n, MIDDLE) for n in range(1, 8)] == [500, 1500, 4500, 13_500, 40_500, 60_000, 60_000]


def test_a_factor_of_one_repeats_at_a_steady_pace() -> None:
    assert {Retry(backoff=7, factor=1).delay_ms(n, MIDDLE) for n in (1, 2, 10**6)} == {7000}


def test_jitter_spreads_a_pause_to_both_sides() -> None:
    retry = Retry(backoff=10, jitter=0.25)
    assert retry.delay_ms(1, 0.0) == 7500
    assert retry.delay_ms(1, 1 - 2**-53) == 12_500
    assert Retry(backoff=10, jitter=1).delay_ms(1, 0.0) == 0
    assert {Retry(backoff=10, jitter=0).delay_ms(1, random) for random in (0.0, 0.3, 0.9)} == {10_000}


@pytest.mark.parametrize("attempt", [1, 1000, 10**6, 10**15])
@pytest.mark.parametrize("factor", [1.0, 2.0, 1000.0])
def test_no_number_of_attempts_overflows(attempt: int, factor: float) -> None:
    assert 0 <= Retry(factor=factor).delay_ms(attempt, MIDDLE) <= 3_600_000


@pytest.mark.parametrize("retry", [Retry(backoff=0), Retry(max_backoff=0), Retry(backoff=0, max_backoff=0)])
def test_a_backoff_of_zero_retries_at_once(retry: Retry) -> None:
    assert {retry.delay_ms(n, MIDDLE) for n in (1, 5, 10**6)} == {0}


def test_a_first_pause_above_the_longest_is_the_longest() -> None:
    assert Retry(backoff=100, max_backoff=10).delay_ms(1, MIDDLE) == 10_000


def test_a_run_is_repeated_as_often_as_allowed() -> None:
    assert [Retry(max_retries=2).allows(n) for n in (1, 2, 3)] == [True, True, False]
    assert not Retry(max_retries=0).allows(1)
    assert Retry(max_retries=None).allows(10**9)


@pytest.mark.parametrize(
    "retry", [Retry(), Retry(None, timedelta(days=1), 1.5, timedelta(days=300), 1), Retry(0, 0.001)]
)
def test_the_values_survive_msgpack(retry: Retry) -> None:
    values = retry.to_values()
    assert all(value is None or type(value) in (int, float) for value in values)
    assert Retry.from_values(msgpack.unpackb(msgpack.packb(values))) == retry


def test_seconds_and_timedelta_are_the_same() -> None:
    assert Retry(backoff=timedelta(milliseconds=1500)) == Retry(backoff=1.5)


HUGE = 10**5000


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max_retries", [-1, 1.0, True, "3", math.inf, HUGE]),
        ("backoff", [-1, -0.0001, True, None, "1", math.nan, math.inf, timedelta(-1), timedelta(366), HUGE]),
        ("factor", [0, 0.99, -2, True, None, "2", math.nan, math.inf, 1001, HUGE]),
        ("max_backoff", [-1, False, None, "1", math.nan, math.inf, timedelta(366), HUGE]),
        ("jitter", [-0.1, 1.01, True, None, "0", math.nan, HUGE]),
    ],
)
def test_a_wrong_field_is_refused_by_name_with_a_fix(field: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(InvalidTask, match=rf"^Retry\.{field} is .*; use ") as caught:
            Retry(**{field: value})  # type: ignore[arg-type]
        assert caught.value.field == field
