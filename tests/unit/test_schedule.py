"""What schedules promise, example by example. The properties are in tests/property/test_schedule_properties.py."""

from __future__ import annotations

import math
import pickle
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from interval_scheduler.core.schedule import jitter_ms, latest_slot, missed_slots, next_slot, next_slot_after
from interval_scheduler.model.errors import InvalidTask
from interval_scheduler.model.schedule import Cron, Interval, parse_interval
from interval_scheduler.model.times import CENTURY_MS, MAX_MS, parse_duration, parse_execute_on

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
HUGE = pytest.param(10**5000, id="huge")  # an int that has no repr, and no float
LESS = pytest.param(-(10**5000), id="huge negative")


def ms(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(moment.timestamp() * 1000)


def run_times(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next runs as the clock on the wall shows them, with the offset."""
    found, slot = [], ms(after, zone)
    for _ in range(count):
        slot = next_slot(Cron(expression, zone), slot)
        found.append(datetime.fromtimestamp(slot / 1000, ZoneInfo(zone)).isoformat(" ", "minutes"))
    return found


# Day-light saving: apscheduler#980, #1021, #1059, prefect#5957.


def test_a_job_in_the_skipped_hour_runs_once_right_after_the_change() -> None:
    """apscheduler#980, prefect#5957: it neither fails to exist nor goes missing."""
    expected = ["2024-03-31 03:00+02:00", "2024-04-01 02:15+02:00", "2024-04-01 02:45+02:00"]
    assert run_times("15,45 2 * * *", "Europe/Paris", "2024-03-30T12:00", 3) == expected


def test_a_job_at_a_fixed_time_in_the_repeated_hour_runs_once() -> None:
    """apscheduler#1059."""
    expected = ["2024-10-27 02:30+02:00", "2024-10-28 02:30+01:00"]
    assert run_times("30 2 * * *", "Europe/Paris", "2024-10-26T12:00", 2) == expected


def test_a_fixed_time_asked_about_in_the_second_pass_is_that_of_the_next_day() -> None:
    """apscheduler#1059: the first pass is over, though the clock on the wall shows an earlier time."""
    second_pass = ms("2024-10-27T02:10", "Europe/Paris", fold=1)
    assert next_slot(Cron("30 2 * * *", "Europe/Paris"), second_pass) == ms("2024-10-28T02:30+01:00")


def test_hourly_jobs_follow_real_time_through_both_changes() -> None:
    """apscheduler#1021."""
    spring = ["2024-03-31 01:00+01:00", "2024-03-31 03:00+02:00", "2024-03-31 04:00+02:00"]
    assert run_times("0 * * * *", "Europe/Paris", "2024-03-31T00:30", 3) == spring
    autumn = ["2024-10-27 02:00+02:00", "2024-10-27 02:00+01:00", "2024-10-27 03:00+01:00"]
    assert run_times("0 * * * *", "Europe/Paris", "2024-10-27T01:30", 3) == autumn


def test_a_yearly_wildcard_job_runs_in_both_passes_of_its_hour() -> None:
    """Its second pass shows times before the present one: a search on the wall clock alone would be a year late."""
    expected = ["2024-10-27 02:40+02:00", "2024-10-27 02:00+01:00", "2024-10-27 02:20+01:00", "2024-10-27 02:40+01:00"]
    assert run_times("*/20 2 27 10 *", "Europe/Paris", "2024-10-27T02:20", 5)[:4] == expected


@pytest.mark.parametrize("day", ["2024-10-06", "2024-04-07"])
def test_a_change_of_half_an_hour_cuts_nothing_off_a_later_hour(day: str) -> None:
    """cronsim's own search returns 05:40 here: after Lord Howe's change it counts hours from half past to half past."""
    found = run_times("*/20 5 * * *", "Australia/Lord_Howe", f"{day}T00:30", 3)
    assert [text[:16] for text in found] == [f"{day} 05:00", f"{day} 05:20", f"{day} 05:40"]


def test_a_skipped_midnight_is_not_a_match_of_a_wildcard() -> None:
    """cronsim's own search returns 01:00 here, as a 00:00 that does not exist."""
    found = run_times("* 0 4 11 *", "America/Sao_Paulo", "2018-11-03T12:00", 1)
    assert found == ["2019-11-04 00:00-03:00"]


def test_a_skipped_day_is_made_up_for_when_it_is_over() -> None:
    """Apia crossed the date line: there was no 30 December 2011."""
    expected = ["2011-12-29 12:00-10:00", "2011-12-31 00:00+14:00", "2011-12-31 12:00+14:00"]
    assert run_times("0 12 * * *", "Pacific/Apia", "2011-12-28T13:00", 3) == expected


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("0 1 30 3 *", "Europe/Lisbon", "2025-01-01", ["2025-03-30 02:00+01:00", "2026-03-30 01:00+01:00"]),
        ("30 2 8 3 *", "America/New_York", "2026-01-01", ["2026-03-08 03:00-04:00", "2027-03-08 02:30-05:00"]),
        ("0 0 12 8 *", "America/Santiago", "2018-01-01", ["2018-08-12 01:00-03:00", "2019-08-12 00:00-04:00"]),
        ("30 1 31 3 *", "Antarctica/Troll", "2019-01-01", ["2019-03-31 03:00+02:00", "2020-03-31 01:30+02:00"]),
        ("15 2 4 10 *", "Australia/Lord_Howe", "2026-01-01", ["2026-10-04 02:30+11:00", "2027-10-04 02:15+11:00"]),
        ("0 12 30 12 *", "Pacific/Apia", "2011-01-01", ["2011-12-31 00:00+14:00", "2012-12-30 12:00+14:00"]),
    ],
)
def test_a_yearly_time_that_is_skipped_runs_after_the_change(
    expression: str, zone: str, after: str, expected: list[str]
) -> None:
    """node-cron#919: its search for a time that the wall clock never shows did not end."""
    assert run_times(expression, zone, after, 2) == expected


def test_with_seconds_the_skipped_and_the_repeated_hour_are_as_without() -> None:
    spring = ["2024-03-31 03:00+02:00", "2024-04-01 02:30+02:00"]
    assert run_times("0 30 2 * * *", "Europe/Paris", "2024-03-30T12:00", 2) == spring
    autumn = ["2024-10-27 02:30+02:00", "2024-10-28 02:30+01:00"]
    assert run_times("0 30 2 * * *", "Europe/Paris", "2024-10-26T12:00", 2) == autumn


# Cron expressions.


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("0 0 L 2 *", "2026-02-28T00:00"),
        ("0 9 LW * *", "2026-01-30T09:00"),
        ("0 9 * * 5L", "2026-01-30T09:00"),
        ("0 9 * * MON#2", "2026-01-12T09:00"),
        ("0 0 * 2 1#5", "2044-02-29T00:00"),
        ("0 0 13 * FRI", "2026-01-02T00:00"),  # either, as in Debian's cron
        ("0 0 */13 * FRI", "2026-02-27T00:00"),  # both, because of the star: the 1st, 14th or 27th
        ("*/30 0 1 JAN *", "2026-01-01T00:30"),
    ],
)
def test_an_expression_means_what_cron_means(expression: str, expected: str) -> None:
    assert next_slot(Cron(expression), ms("2026-01-01T00:00+00:00")) == ms(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "60 * * * *",
        "* * * * MOON",
        "*/0 * * * *",
        "5-1 * * * *",
        "0 0 0 * *",
        "1" * 5000,
        "\x00",
        7,
        None,
        f"0 0 {'1,' * 2000}1 * *",
        f"{'9' * 900} * * * *",
    ],
)
def test_a_wrong_expression_is_refused_with_field_and_fix(expression: str) -> None:
    with pytest.raises(InvalidTask, match=r"^Cron\.expression .*; (use|write) ") as caught:
        Cron(expression)
    assert caught.value.field == "expression"


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 */31 * 1#2"])
def test_an_expression_that_never_matches_is_refused(expression: str) -> None:
    with pytest.raises(InvalidTask, match=r"^Cron\.expression .*dates? that exist"):
        Cron(expression)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "a\x00b", 5, None, [], UTC])
def test_an_unknown_zone_is_refused_with_field_and_fix(zone: str) -> None:
    with pytest.raises(InvalidTask, match=r"^Cron\.tz .*Europe/Paris") as caught:
        Cron("* * * * *", tz=zone)
    assert caught.value.field == "tz"


def test_a_zone_may_be_given_as_a_zoneinfo_and_is_kept_by_name() -> None:
    cron = Cron("0 8 * * *", tz=ZoneInfo("Asia/Kolkata"))
    assert cron == Cron("0 8 * * *", "Asia/Kolkata")
    assert cron.tz == "Asia/Kolkata"
    assert pickle.loads(pickle.dumps(cron)) == cron
    assert len({cron, Cron("0 8 * * *", "Asia/Kolkata"), Cron("0 8 * * *")}) == 2


def test_the_end_of_the_calendar_is_no_error() -> None:
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        cron = Cron("0 0 29 2 *", zone)
        assert next_slot(cron, MAX_MS - DAY) == MAX_MS
        assert next_slot(cron, MAX_MS) == MAX_MS + 1


# The grid.


def test_an_interval_is_counted_from_the_slot_however_late() -> None:
    """hydroserver#445: what ran in between does not move the grid."""
    minute = Interval(MINUTE)
    assert next_slot(minute, 7) == 7 + MINUTE
    assert next_slot_after(minute, 7, 7 + 10 * MINUTE) == 7 + 11 * MINUTE
    assert next_slot_after(minute, 7, 3) == 7 + MINUTE
    assert latest_slot(minute, 7, 7 + 10 * MINUTE - 1) == 7 + 9 * MINUTE
    assert latest_slot(minute, 7, 3) == 7
    assert missed_slots(minute, 7, 7 + 10 * MINUTE, 2) == [7 + 9 * MINUTE, 7 + 10 * MINUTE]


def test_a_cron_starts_at_its_slot_even_where_that_is_no_match() -> None:
    """An explicit `execute_on` is the first occurrence; the expression says what follows."""
    slot = ms("2026-05-01T12:07+00:00")
    cron = Cron("0 * * * *")
    assert latest_slot(cron, slot, slot + 1) == slot
    assert missed_slots(cron, slot, slot + 2 * HOUR, 10) == [slot, slot + 53 * MINUTE, slot + 113 * MINUTE]


@pytest.mark.parametrize("expression", ["* * * * *", "* * * 1 *", "30 2 * * *", "0 0 29 2 *", "* * 1 1 *"])
def test_ten_years_of_missed_matches_cost_no_more_than_those_asked_for(expression: str) -> None:
    cron, slot, now = Cron(expression, "Europe/Paris"), ms("2016-03-05T00:00+00:00"), ms("2026-07-01T00:00+00:00")
    begin = time.process_time()
    latest = latest_slot(cron, slot, now)
    missed = missed_slots(cron, slot, now, 100)
    assert time.process_time() - begin < 0.5  # measured: 1 to 5 ms; one by one it would take about 50 s
    assert missed[-1] == latest <= now < next_slot(cron, latest)


# Jitter: dkron#866, nomad#17024.


def test_jitter_is_the_same_in_every_process_and_for_ever() -> None:
    """dkron#866, nomad#17024: a restart moves nothing. The numbers are part of what is stored: never change them."""
    assert [jitter_ms(f"user:{n}", 60_000, DAY) for n in range(3)] == [48_525, 50_513, 5_613]


def test_jitter_is_spread_evenly_and_ends_before_the_following_slot() -> None:
    delays = [jitter_ms(f"user:{n}", 10_000, 1000) for n in range(10_000)]
    assert min(delays) == 0
    assert max(delays) == 999
    assert all(800 < sum(low <= delay < low + 100 for delay in delays) < 1200 for low in range(0, 1000, 100))
    assert jitter_ms("a", 0, 1000) == jitter_ms("a", 1000, 1) == 0


# What a task may say.


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (60, 60_000),
        (0.001, 1),
        (0.0006, 1),
        (1.0005, 1000),
        (timedelta(microseconds=1500), 2),
        (timedelta(1), DAY),
        (100 * 365 * 86_400, CENTURY_MS),
    ],
)
def test_an_interval_is_seconds_or_a_timedelta_to_the_nearest_millisecond(value: object, milliseconds: int) -> None:
    assert parse_interval(value, "T") == Interval(milliseconds)


def test_an_interval_may_be_a_schedule_or_none() -> None:
    assert parse_interval(None, "T") is None
    for schedule in (Interval(5), Cron("* * * * *")):
        assert parse_interval(schedule, "T") is schedule


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        math.nan,
        math.inf,
        -math.inf,
        0,
        -1,
        0.0004,
        -0.5,
        1e300,
        HUGE,
        LESS,
        1e308,
        timedelta(0),
        timedelta(-1),
        timedelta.max,
        100 * 365 * 86_400 + 1,
        "60",
        "* * * * *",
        b"1",
        Decimal(1),
        1j,
        [60],
        object(),
    ],
)
def test_a_wrong_interval_is_refused_with_field_and_fix(value: object) -> None:
    with pytest.raises(InvalidTask, match=r"^T\.reschedule_interval is .*; use ") as caught:
        parse_interval(value, "T")
    assert caught.value.field == "reschedule_interval"
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("value", "suggestion"),
    [
        ("0 8 * * MON", "Cron('0 8 * * MON')"),
        ("@daily", "Cron('@daily')"),
        ("60", 'Cron("*/5 * * * *"), or seconds as a'),
    ],
)
def test_an_interval_as_text_is_told_of_cron(value: str, suggestion: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        parse_interval(value, "T")
    assert suggestion in str(caught.value).replace(" for a cron expression", "")


def test_six_fields_begin_with_seconds_and_a_refusal_says_so() -> None:
    noon = ms("2026-05-01T12:00+00:00")
    assert next_slot(Cron("30 * * * * *"), noon) == noon + 30_000
    with pytest.raises(InvalidTask, match="six with seconds first"):
        Cron("* * * *")


def test_execute_on_in_milliseconds_is_asked_about() -> None:
    with pytest.raises(InvalidTask, match=r"use a time from 1970 to 9999 \(in seconds, not milliseconds\?\)"):
        parse_execute_on(1_790_000_000_000, "T")
    with pytest.raises(InvalidTask, match=r"use a time from 1970 to 9999\. "):
        parse_execute_on(1e18, "T")


@pytest.mark.parametrize("milliseconds", [0, -1, CENTURY_MS + 1, True, 1.0])
def test_an_interval_out_of_bounds_cannot_be_made(milliseconds: int) -> None:
    with pytest.raises(InvalidTask, match=r"^Interval\.milliseconds "):
        Interval(milliseconds)


@pytest.mark.parametrize(
    ("value", "milliseconds"),
    [
        (0, 0),
        (1_790_000_000, 1_790_000_000_000),
        (1_790_000_000.25, 1_790_000_000_250),
        (1_790_000_000.1, 1_790_000_000_100),
        (1_790_000_000.1001, 1_790_000_000_101),  # up: never early
        (MAX_MS / 1000, MAX_MS),
        (datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1),
        (datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Paris")), 1_767_222_000_000),
        (datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")), 1_729_992_600_000),
        (datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC), MAX_MS),
    ],
)
def test_execute_on_is_exact_to_the_millisecond_and_never_early(value: object, milliseconds: int) -> None:
    assert parse_execute_on(value, "T") == milliseconds


def test_execute_on_none_is_as_soon_as_possible() -> None:
    assert parse_execute_on(None, "T") is None


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        math.nan,
        math.inf,
        -1,
        -1e-9,
        1e300,
        1e308,
        HUGE,
        LESS,
        MAX_MS / 1000 + 0.001,
        "now",
        Decimal(1),
        timedelta(1),
        Cron("* * * * *"),
        datetime(2026, 1, 1),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(2026, 1, 1).date(),
        datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
    ],
)
def test_a_wrong_execute_on_is_refused_with_field_and_fix(value: object) -> None:
    with pytest.raises(InvalidTask, match=r"^T\.execute_on is .*; (use|give) ") as caught:
        parse_execute_on(value, "T")
    assert caught.value.field == "execute_on"


def test_a_duration_keeps_its_bounds() -> None:
    assert parse_duration(0, "T", "jitter") == 0
    assert parse_duration(timedelta(seconds=2), "T", "timeout", minimum_ms=1, maximum_ms=2000) == 2000
    for value in (0, 2.001, -1e-9, timedelta(microseconds=-1)):
        with pytest.raises(InvalidTask, match=r"^T\.timeout is .*; use 0\.001 to 2 seconds"):
            parse_duration(value, "T", "timeout", minimum_ms=1, maximum_ms=2000)
    with pytest.raises(InvalidTask, match=r"use 0 to 3,153,600,000 seconds"):
        parse_duration(-1e-9, "T", "jitter")
