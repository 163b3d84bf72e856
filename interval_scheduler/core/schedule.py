"""The slots of schedules: when a task is due, and when it is due next. All times are whole ms since 1970, in UTC.

cronsim parses cron expressions and knows which days match. Times of day and changes to summer time are computed here,
because its own search counts real hours: after a change of 30 minutes (Lord Howe) it starts a matching hour in its
middle; at a midnight that is skipped (São Paulo) it returns a time that does not exist; with seconds it leaves out the
job of the skipped hour and repeats that of the repeated one. Here an expression is searched on the wall clock alone,
where every day has 24 hours, and then the real time of each match is found.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ..model.cron_plan import DAY_SECONDS, Plan, plan_of, zone_of
from ..model.schedule import Cron, Interval, Schedule
from ..model.times import MAX_MS

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


def next_slot(schedule: Schedule, slot: int) -> int:
    """The smallest slot after `slot`."""
    return next_slot_after(schedule, slot, slot)


def next_slot_after(schedule: Schedule, slot: int, now: int) -> int:
    """The smallest slot of the grid through `slot` that is after both `slot` and `now`."""
    if isinstance(schedule, Interval):
        step = schedule.milliseconds
        return slot + step if now < slot else slot + ((now - slot) // step + 1) * step
    return _next_match(schedule, max(slot, now))


def latest_slot(schedule: Schedule, slot: int, now: int) -> int:
    """The largest slot of the grid through `slot` that is not after `now`, at least `slot`."""
    return missed_slots(schedule, slot, now, 1)[-1]


def missed_slots(schedule: Schedule, slot: int, now: int, limit: int) -> list[int]:
    """The newest `limit` (1 or more) slots from `slot` to `now`, oldest first; at least `slot`.

    The cost follows `limit`, not the time that went by.
    """
    if isinstance(schedule, Interval):
        step = schedule.milliseconds
        count = max(0, now - slot) // step
        return [slot + k * step for k in range(max(0, count - limit + 1), count + 1)]
    newest_first: list[int] = []
    end, span = now, 60_000
    while len(newest_first) < limit:
        match = _latest_match(schedule, slot, end, span)
        if match is None:
            newest_first.append(slot)
            break
        newest_first.append(match)
        # The next gap is mostly as long as the last one.
        end, span = match - 1, max(1000, end - match + 1)
    return newest_first[::-1]


def _latest_match(cron: Cron, low: int, high: int, span: int) -> int | None:
    """The largest match in (`low`, `high`]: looks back over `span`, then twice that and so on, and bisects."""
    while (found := _next_match(cron, max(low, high - span))) > high:
        if high - span <= low:
            return None
        span *= 2
    # Invariant: `found` is a match, and none lies in (end, high].
    end = high
    while (following := _next_match(cron, found)) <= high:
        middle = (following + end) // 2
        found = _next_match(cron, middle)
        if found > high:
            found, end = following, middle
    return found


def _next_match(cron: Cron, after: int) -> int:
    """The first match strictly after a time; past the year 9999, where there is none, MAX_MS or `after` + 1."""
    plan = plan_of(cron.expression)
    search = _once_each if plan.fixed else _in_real_time
    try:
        # Matches are whole seconds: a match is after a time if it is after the second of that time.
        seconds = plan.after(after // 1000) if cron.tz == "UTC" else search(plan, zone_of(cron.tz), after // 1000)
    except (OverflowError, ValueError):  # after the last year of datetime
        seconds = None
    return max(MAX_MS, after + 1) if seconds is None else seconds * 1000


def _once_each(plan: Plan, zone: ZoneInfo, after: int) -> int | None:
    """The next run of a fixed expression: each match of the wall clock runs once, as in Debian's cron.

    A later match never runs earlier. So all matches up to what the wall clock shows now are past.
    """
    wall = plan.after(after + _offset(zone, after))
    while wall is not None:
        first, second = _offsets(zone, wall)
        run = wall - first if first >= second else _end_of_gap(zone, wall - second, wall - first)
        if run > after:
            return run
        wall = plan.after(wall)
    return None


def _in_real_time(plan: Plan, zone: ZoneInfo, after: int) -> int | None:
    """The next run of another expression: the next moment at which the wall clock shows a match."""
    now = after + _offset(zone, after)
    run = None
    wall = plan.after(now)
    while wall is not None and (run := _shows(zone, wall, after)) is None:
        wall = plan.after(wall)
    first, second = _offsets(zone, now)
    if first <= second or after != now - first or (run is not None and _offset(zone, run) == first):
        return run
    # The wall clock will be set back, and will show times again that are past now.
    wall = plan.after(now - (first - second))
    while wall is not None and wall <= now:
        again = _shows(zone, wall, after)
        if again is not None:
            return again if run is None else min(run, again)
        wall = plan.after(wall)
    return run


def _shows(zone: ZoneInfo, wall: int, after: int) -> int | None:
    """The first moment after `after` at which the wall clock shows `wall`; None where it never does."""
    first, second = _offsets(zone, wall)
    if first < second:  # skipped
        return None
    return next((run for run in (wall - first, wall - second) if run > after), None)


def _offset(zone: ZoneInfo, moment: int) -> int:
    """How far the wall clock is ahead of UTC at a moment, in seconds."""
    return _seconds(datetime.fromtimestamp(moment, zone).utcoffset())


def _offsets(zone: ZoneInfo, wall: int) -> tuple[int, int]:
    """The offsets, in seconds, when the wall clock shows a time for the first and for the second time (PEP 495).

    They differ only around a change: for a time that comes twice the first is larger, for a skipped time it is smaller.
    They are then the offsets before and after the change.
    """
    moment = datetime.fromtimestamp(wall, UTC).replace(tzinfo=zone)
    return _seconds(moment.utcoffset()), _seconds(moment.replace(fold=1).utcoffset())


def _end_of_gap(zone: ZoneInfo, low: int, high: int) -> int:
    """The moment in (`low`, `high`] at which the offset changes, by bisection."""
    after = _offset(zone, high)
    return bisect_left(range(low, high), True, key=lambda moment: _offset(zone, moment) == after) + low


def _seconds(offset: timedelta | None) -> int:
    assert offset is not None
    return offset.days * DAY_SECONDS + offset.seconds


def jitter_ms(task_id: str, jitter: int, gap: int) -> int:
    """How much later than its slot a task is due: from 0 to `jitter`, less than `gap`, always the same for one id."""
    span = min(jitter, gap - 1)
    if span <= 0:
        return 0
    from hashlib import blake2b  # imported here: few tasks have a jitter

    digest = blake2b(task_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % (span + 1)
