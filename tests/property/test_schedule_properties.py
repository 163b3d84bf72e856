"""Schedules against oracles that know nothing of the search: a scan over every minute, near every change of offset.

The oracle of the days is written out again here, so that neither ours nor cronsim's reading is taken on trust.
"""

from __future__ import annotations

import calendar
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interval_scheduler.core.schedule import jitter_ms, latest_slot, missed_slots, next_slot, next_slot_after
from interval_scheduler.model.schedule import Cron, Interval
from interval_scheduler.model.times import CENTURY_MS, MAX_MS, parse_execute_on

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
ZONES = sorted(zoneinfo.available_timezones())
slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
times = st.integers(0, 4_102_444_800_000)  # to the year 2100


# Expressions, with the days they mean.


@dataclass(frozen=True)
class Field:
    """One field: its text, the numbers it stands for, and for days also what depends on the month."""

    text: str
    numbers: frozenset[int]
    last: bool = False  # L, or 5L
    last_weekday: bool = False
    nth: int = 0  # 2 in 5#2


@st.composite
def terms(draw: st.DrawFn, low: int, high: int) -> Field:
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(1, 20))
    everything = range(low, high + 1)
    return draw(
        st.sampled_from(
            [
                Field("*", frozenset(everything)),
                Field(f"*/{step}", frozenset(everything[::step])),
                Field(str(first), frozenset([first])),
                Field(f"{first}-{last}", frozenset(range(first, last + 1))),
                Field(
                    f"{first}-{last}/{step}",
                    # cronsim reads a range of one number with a step as "from there on"
                    frozenset(range(first, (high if first == last else last) + 1, step)),
                ),
                Field(f"{first},{last}", frozenset([first, last])),
            ]
        )
    )


days = terms(1, 31) | st.sampled_from([Field("L", frozenset(), last=True), Field("LW", frozenset(), last_weekday=True)])
weekdays = (
    terms(0, 7)
    | st.just(Field("*", frozenset(range(8))))
    | st.builds(lambda day: Field(f"{day}L", frozenset([day]), last=True), st.integers(0, 7))
    | st.builds(lambda day, nth: Field(f"{day}#{nth}", frozenset([day]), nth=nth), st.integers(0, 7), st.integers(1, 4))
    | st.just(Field("MON-FRI", frozenset(range(1, 6))))
)


@dataclass(frozen=True)
class Expression:
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    def __str__(self) -> str:
        return " ".join(f.text for f in (self.minute, self.hour, self.day, self.month, self.weekday))

    @property
    def fixed(self) -> bool:
        return not (self.minute.text.startswith("*") or self.hour.text.startswith("*"))

    def matches(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minute.numbers
            and wall.hour in self.hour.numbers
            and wall.month in self.month.numbers
            and self._day(wall.date())
        )

    def _day(self, today: date) -> bool:
        length = calendar.monthrange(today.year, today.month)[1]
        weekdays_of_month = [d for d in range(1, length + 1) if date(today.year, today.month, d).weekday() < 5]
        of_month = (
            today.day in self.day.numbers
            or (self.day.last and today.day == length)
            or (self.day.last_weekday and today.day == weekdays_of_month[-1])
        )
        of_week = not {today.isoweekday(), today.isoweekday() % 7}.isdisjoint(self.weekday.numbers)
        if self.weekday.last:
            of_week = of_week and today.day > length - 7
        if self.weekday.nth:
            of_week = of_week and (today.day - 1) // 7 + 1 == self.weekday.nth
        both = self.day.text.startswith("*") or self.weekday.text.startswith("*")
        return (of_month and of_week) if both else (of_month or of_week)


def _matches_ever(expression: Expression) -> bool:
    try:
        Cron(str(expression))
    except ValueError:
        return False
    return True


sparse = st.builds(Expression, terms(0, 59), terms(0, 23), days, terms(1, 12), weekdays).filter(_matches_ever)
anything = Field("*", frozenset(range(32)))
dense = st.builds(Expression, terms(0, 59), terms(0, 23), st.just(anything), st.just(anything), st.just(anything))
expressions = st.one_of(dense, sparse)


# Moments near the changes of a zone.


@cache
def changes(zone: str) -> tuple[int, ...]:
    """The moments (ms) from 1970 to 2037 at which the offset of a zone changes, found by probing every ten days."""
    tz = ZoneInfo(zone)

    def offset(second: int) -> timedelta | None:
        return datetime.fromtimestamp(second, tz).utcoffset()

    found = []
    step = 10 * 86_400
    for low in range(0, 2_114_380_800, step):
        if offset(low) != offset(low + step):
            below, above = low, low + step
            while above - below > 1:
                middle = (below + above) // 2
                below, above = (middle, above) if offset(middle) == offset(below) else (below, middle)
            found.append(above * 1000)
    return tuple(found)


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, int]:
    """A zone and a time in it, mostly within two days before or after one of its changes."""
    zone = draw(st.sampled_from(ZONES))
    near = changes(zone)
    if not near:
        return zone, draw(times)
    return zone, max(0, draw(st.sampled_from(near)) + draw(st.integers(-2 * DAY, DAY) | st.integers(-2 * HOUR, HOUR)))


def wall_clock(moment: int, zone: str) -> datetime:
    return datetime.fromtimestamp(moment // 1000, ZoneInfo(zone)).replace(tzinfo=None)


def real_time_oracle(expression: Expression, zone: str, start: int, end: int) -> list[int]:
    """Every moment in (start, end] at which the wall clock shows a match: a scan, second offsets included."""
    found = []
    for minute in range(start // MINUTE * MINUTE, end + MINUTE, MINUTE):
        shown = wall_clock(minute, zone)
        # Offsets of 1970 have seconds: full minutes of the wall clock are not those of UTC.
        moment = minute + (60 - shown.second) % 60 * 1000
        wall = wall_clock(moment, zone)
        if start < moment <= end and wall.second == 0 and expression.matches(wall):
            found.append(moment)
    return sorted(set(found))


def once_each_oracle(expression: Expression, zone: str, start: int, end: int) -> list[int]:
    """Every match of the wall clock placed on real time: skipped ones at the change, repeated ones the first time."""
    found = set()
    wall = wall_clock(start, zone).replace(second=0) - timedelta(days=2)
    for _ in range((end - start) // MINUTE + 4 * 24 * 60):
        wall += timedelta(minutes=1)
        if expression.matches(wall):
            moment = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
            if moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) != wall:  # skipped: on to the next change
                stamp = int(moment.timestamp()) * 1000
                moment_ms = max(change for change in changes(zone) if change <= stamp)
            else:
                moment_ms = int(moment.timestamp()) * 1000
            if start < moment_ms <= end:
                found.add(moment_ms)
    return sorted(found)


def grid(cron: Cron, start: int, end: int) -> list[int]:
    found = []
    slot = next_slot(cron, start)
    while slot <= end:
        found.append(slot)
        slot = next_slot(cron, slot)
    return found


@slow
@given(dense, moments())
def test_near_changes_of_any_zone_each_match_is_found_once_and_none_is_made_up(
    expression: Expression, moment: tuple[str, int]
) -> None:
    """apscheduler#980, #1021, #1059, prefect#5957: times strictly increase, exist, and are found."""
    zone, start = moment
    end = start + DAY + 6 * HOUR
    oracle = once_each_oracle if expression.fixed else real_time_oracle
    assert grid(Cron(str(expression), zone), start, end) == oracle(expression, zone, start, end)


@settings(slow, max_examples=40)
@given(sparse, st.sampled_from(ZONES), times)
def test_the_next_match_of_any_expression_is_that_of_a_scan_over_all_minutes(
    expression: Expression, zone: str, start: int
) -> None:
    found = next_slot(Cron(str(expression), zone), start)
    oracle = once_each_oracle if expression.fixed else real_time_oracle
    end = min(found, start + 8 * DAY)
    assert oracle(expression, zone, start, end) == ([found] if found <= end else [])
    if found > end:  # too far away for a scan from here: it is a match, and the minutes before it are none
        assert oracle(expression, zone, found - 2 * DAY, found)[-1] == found
        assert len(oracle(expression, zone, max(start, found - 2 * DAY), found)) == 1


@slow
@given(expressions, moments())
def test_next_times_strictly_increase_and_are_never_early(expression: Expression, moment: tuple[str, int]) -> None:
    """apscheduler#1059: no time is returned twice, whatever the clocks do."""
    zone, slot = moment
    cron = Cron(str(expression), zone)
    for _ in range(20):
        following = next_slot(cron, slot)
        assert slot < following < MAX_MS
        assert following % 1000 == 0
        assert next_slot(cron, following - 1) == following
        slot = following


@slow
@given(expressions, moments(), st.integers(0, 3 * 365 * DAY), st.integers(1, 12))
def test_latest_and_missed_slots_agree_with_the_next_ones(
    expression: Expression, moment: tuple[str, int], late: int, limit: int
) -> None:
    zone, slot = moment
    cron, now = Cron(str(expression), zone), slot + late
    latest = latest_slot(cron, slot, now)
    assert slot <= latest <= now < next_slot(cron, latest) == next_slot_after(cron, slot, now)
    missed = missed_slots(cron, slot, now, limit)
    assert missed[-1] == latest
    assert len(missed) <= limit
    assert all(next_slot(cron, one) == other for one, other in pairwise(missed))
    assert len(missed) == limit or missed[0] == slot


@given(st.integers(1, CENTURY_MS), times, st.integers(0, 100 * CENTURY_MS), st.integers(1, 50))
def test_an_interval_never_leaves_its_grid(step: int, slot: int, late: int, limit: int) -> None:
    """hydroserver#445: however late, the next slot is on the grid of the first."""
    schedule, now = Interval(step), slot + late
    latest = latest_slot(schedule, slot, now)
    assert slot <= latest <= now < latest + step == next_slot_after(schedule, slot, now) == next_slot(schedule, latest)
    assert (latest - slot) % step == 0
    missed = missed_slots(schedule, slot, now, limit)
    assert missed == list(range(latest - (len(missed) - 1) * step, latest + 1, step))
    assert len(missed) == min(limit, late // step + 1)


@given(st.text(), st.integers(0, CENTURY_MS), st.integers(1, CENTURY_MS))
def test_jitter_stays_in_bounds_before_the_next_occurrence_and_is_stable(task_id: str, jitter: int, gap: int) -> None:
    """dkron#866, nomad#17024: jitter, but stable."""
    task_id = task_id.encode(errors="replace").decode()
    delay = jitter_ms(task_id, jitter, gap)
    assert 0 <= delay <= min(jitter, gap - 1)
    assert delay == jitter_ms(task_id, jitter, gap)


@given(st.integers(0, MAX_MS * 1000))
def test_execute_on_is_rounded_up_by_less_than_a_millisecond(microseconds: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    parsed = parse_execute_on(moment, "T")
    assert parsed is not None
    assert 0 <= parsed * 1000 - microseconds < 1000


@given(st.integers(0, MAX_MS))
def test_execute_on_takes_a_float_of_whole_milliseconds_as_exactly_these(milliseconds: int) -> None:
    assert parse_execute_on(milliseconds / 1000, "T") == milliseconds


@pytest.mark.parametrize(("expression", "step"), [("30 2 * * *", DAY), ("0 * * * *", HOUR)])
def test_every_change_of_every_zone_is_passed(expression: str, step: int) -> None:
    """apscheduler#980, #1021: all zones, not a sample; the last six changes of each."""
    for zone in ZONES:
        cron = Cron(expression, zone)
        for change in changes(zone)[-6:]:
            moved = wall_clock(change, zone) - wall_clock(change - 1000, zone) - timedelta(seconds=1)
            # A daily job waits for as long as the clock is set back; an hourly one while a full hour is skipped
            # by a change of less than that (15 minutes in Kathmandu, 30 in Lord Howe).
            extra = max(0, -moved // timedelta(milliseconds=1)) if step == DAY else HOUR - 1
            found = grid(cron, change - DAY, change + DAY)
            assert found == sorted(set(found))
            assert len(found) >= (DAY * 2 - extra) // step - 1
            gaps = [later - earlier for earlier, later in pairwise(found)]
            assert all(gap <= step + extra for gap in gaps), (zone, change, gaps)
