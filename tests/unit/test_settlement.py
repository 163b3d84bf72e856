"""What a claim means, and what follows a run: decisions on values, without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from interval_scheduler.core.definition import Definition, decode_body
from interval_scheduler.core.record import (
    CONFIRMED,
    EXTRA,
    RETRYING,
    RUN_NOW,
    RUNNING,
    SCHEDULED,
    UNCONFIRMED,
    UNCONFIRMED_LAPSE,
    Header,
)
from interval_scheduler.core.settlement import (
    MAX_STRIKES,
    End,
    LiveRun,
    Outcome,
    Successor,
    change_wins,
    decide_claim,
    nothing_follows,
    settle,
)
from interval_scheduler.model.retry import Retry
from interval_scheduler.model.schedule import Interval
from interval_scheduler.model.task import Misfire

MINUTE = 60_000
SLOT = 1_800_000_000_000
NOW = SLOT + 500
ONCE = Definition({"n": 1}, retry=Retry(max_retries=2, backoff=10, factor=1, jitter=0))
EVERY_MINUTE = replace(ONCE, schedule=Interval(MINUTE))


def claimed(**fields: object) -> Header:
    """The header of a claimed task whose slot is `SLOT`."""
    return Header(RUNNING, SLOT, "r1", token=7, slot=SLOT).moved(**fields)


def live(definition: Definition, **fields: object) -> LiveRun:
    return LiveRun("a", claimed(**fields), definition, SLOT, NOW, definition.schedule is not None)


class TestBegin:
    def test_what_is_due_runs(self) -> None:
        start = decide_claim("a", claimed(), ONCE, NOW)
        assert (start.slot, start.due, start.outcome) == (SLOT, SLOT, None)

    def test_a_confirmed_run_that_lapsed_is_done(self) -> None:
        outcome = decide_claim("a", claimed(flags=CONFIRMED), ONCE, NOW).outcome
        assert outcome is not None
        assert outcome.end is End.DONE

    def test_what_was_asked_for_during_a_lapsed_run_wins(self) -> None:
        outcome = decide_claim("a", claimed(follow=f"={SLOT + 5}", strikes=1), ONCE, NOW).outcome
        assert outcome is not None
        assert outcome.end is End.RELEASED

    @pytest.mark.parametrize(
        ("definition", "fields"),
        [
            (replace(ONCE, delivery="at_most_once"), {"strikes": 1}),
            (replace(ONCE, delivery="at_most_once"), {"attempt": 1, "flags": UNCONFIRMED_LAPSE}),
            (ONCE, {"attempt": 3, "flags": UNCONFIRMED_LAPSE}),
            (ONCE, {"strikes": MAX_STRIKES}),
        ],
        ids=["at most once, lapsed", "at most once, not confirmed", "never confirmed", "kills its workers"],
    )
    def test_what_must_not_run_again_is_abandoned(self, definition: Definition, fields: dict[str, object]) -> None:
        outcome = decide_claim("a", claimed(**fields), definition, NOW).outcome
        assert outcome is not None
        assert outcome.end is End.ABANDONED
        assert outcome.error

    def test_below_the_limit_of_strikes_it_runs(self) -> None:
        assert decide_claim("a", claimed(strikes=MAX_STRIKES - 1), ONCE, NOW).outcome is None

    @pytest.mark.parametrize(
        ("misfire", "slot"),
        [("coalesce", SLOT), ("skip", SLOT + 3 * MINUTE), ("all", SLOT + 2 * MINUTE)],
    )
    def test_a_misfire_follows_its_policy(self, misfire: Misfire, slot: int) -> None:
        definition = replace(EVERY_MINUTE, misfire=misfire, misfire_limit=2)
        assert decide_claim("a", claimed(), definition, SLOT + 3 * MINUTE + 1).slot == slot

    @pytest.mark.parametrize(
        "fields",
        [{"attempt": 1}, {"flags": EXTRA, "follow": f"{SLOT}"}, {"due": SLOT + 1}],
        ids=["a repeat", "an extra run", "a moved one"],
    )
    def test_only_an_occurrence_on_its_grid_misfires(self, fields: dict[str, object]) -> None:
        definition = replace(EVERY_MINUTE, misfire="skip")
        assert decide_claim("a", claimed(**fields), definition, SLOT + 3 * MINUTE).slot == SLOT

    def test_a_skipped_misfire_waits_for_its_jitter(self) -> None:
        definition = replace(EVERY_MINUTE, misfire="skip", jitter=MINUTE - 1)
        late = next(name for name in map(str, range(100)) if definition.delay(name, SLOT) > 1000)
        header = claimed(due=SLOT + definition.delay(late, SLOT))
        start = decide_claim(late, header, definition, SLOT + 3 * MINUTE + 1)
        assert start.slot == SLOT + 3 * MINUTE
        assert start.outcome is not None
        assert (start.outcome.end, start.outcome.due) == (End.RELEASED, start.due)
        assert start.due == start.slot + definition.delay(late, start.slot) > SLOT + 3 * MINUTE + 1


class TestSettle:
    def test_nothing_follows_a_one_off_task(self) -> None:
        assert nothing_follows(claimed(), ONCE, Outcome(End.DONE))
        settlement = settle(live(ONCE), Outcome(End.DONE), NOW, 0)
        assert (settlement.header, settlement.event) == (None, "done")

    def test_the_next_occurrence_follows_on_the_grid(self) -> None:
        assert not nothing_follows(claimed(), EVERY_MINUTE, Outcome(End.DONE))
        header = settle(live(EVERY_MINUTE), Outcome(End.DONE), NOW, 0).header
        assert header == Header(SCHEDULED, SLOT + MINUTE, "r1", slot=SLOT + MINUTE)

    def test_a_failure_is_repeated_with_its_error(self) -> None:
        settlement = settle(live(ONCE), Outcome(End.FAILED, "boom"), NOW, 0)
        assert settlement.header == Header(RETRYING, NOW + 10_000, "r1", slot=SLOT, attempt=1)
        assert settlement.event == "retry"
        assert decode_body(settlement.body) == replace(ONCE, error="boom")

    def test_a_handler_may_choose_the_pause(self) -> None:
        header = settle(live(ONCE), Outcome(End.FAILED, "busy", pause=77), NOW, 0).header
        assert header is not None
        assert header.due == NOW + 77

    def test_run_now_repeats_a_failure_at_once(self) -> None:
        header = settle(live(ONCE, flags=RUN_NOW), Outcome(End.FAILED, "boom"), NOW, 0).header
        assert header is not None
        assert (header.due, header.flags) == (NOW, "")

    def test_the_last_failure_is_a_dead_letter_and_the_grid_goes_on(self) -> None:
        settlement = settle(live(EVERY_MINUTE, attempt=2), Outcome(End.FAILED, "boom"), NOW, 0)
        assert settlement.event == "dead"
        assert decode_body(settlement.dead).error == "boom"
        assert settlement.header is not None
        assert settlement.header.due == SLOT + MINUTE

    def test_what_was_assigned_during_the_run_replaces_its_failure(self) -> None:
        settlement = settle(live(ONCE, follow=f"={SLOT + 9000}"), Outcome(End.FAILED, "boom"), NOW, 0)
        assert settlement.header == Header(SCHEDULED, SLOT + 9000, "r1", slot=SLOT + 9000)
        assert settlement.dead == b""

    def test_a_success_forgets_the_last_error(self) -> None:
        settlement = settle(live(replace(EVERY_MINUTE, error="boom")), Outcome(End.DONE), NOW, 0)
        assert decode_body(settlement.body).error is None

    def test_what_cannot_be_read_is_put_back_as_it_is(self) -> None:
        settlement = settle(live(ONCE, strikes=2), Outcome(End.UNREADABLE, delay=2000), NOW, 0)
        assert settlement.header == claimed(state=RETRYING, token=0, strikes=2, due=NOW + 2000)
        assert settlement.body == b""

    def test_an_unconfirmed_run_keeps_its_lease(self) -> None:
        settlement = settle(live(ONCE, flags=UNCONFIRMED_LAPSE), Outcome(End.UNCONFIRMED), NOW, 0)
        assert settlement.header == claimed(flags=UNCONFIRMED)

    def test_a_confirmed_run_is_done_whatever_its_handler_raised(self) -> None:
        assert settle(live(ONCE, flags=CONFIRMED), Outcome(End.FAILED, "boom"), NOW, 0).header is None

    def test_a_successor_replaces_what_would_follow(self) -> None:
        successor = Successor(SLOT + 5, SLOT + 5, "r2", b"body")
        settlement = settle(live(EVERY_MINUTE), Outcome(End.DONE, successor=successor), NOW, 0)
        assert settlement.header == Header(SCHEDULED, SLOT + 5, "r2", slot=SLOT + 5)
        assert settlement.body == b"body"


class TestReleased:
    def test_what_never_ran_keeps_its_place(self) -> None:
        header = settle(live(ONCE), Outcome(End.RELEASED), NOW, 0).header
        assert header == claimed(state=SCHEDULED, token=0)

    def test_a_pause_counts_neither_as_attempt_nor_as_strike(self) -> None:
        header = settle(live(ONCE, attempt=1, strikes=2), Outcome(End.RELEASED, delay=2000), NOW, 0).header
        assert header == claimed(state=RETRYING, token=0, attempt=1, strikes=2, due=NOW + 2000)

    def test_a_repeat_without_a_pause_is_due_when_it_was(self) -> None:
        header = settle(live(ONCE, attempt=1), Outcome(End.RELEASED), NOW, 0).header
        assert header == claimed(state=RETRYING, token=0, attempt=1)

    def test_a_skipped_misfire_moves_on_the_grid(self) -> None:
        header = settle(live(ONCE), Outcome(End.RELEASED, due=SLOT + 99), NOW, 0).header
        assert header == claimed(state=SCHEDULED, token=0, due=SLOT + 99)


class TestWhatFollows:
    @pytest.mark.parametrize(
        ("definition", "follow", "due", "slot"),
        [
            (EVERY_MINUTE, f">{SLOT + 1234}", SLOT + 1234, SLOT + MINUTE),
            (ONCE, f">{SLOT + 1234}", SLOT + 1234, SLOT + 1234),
            (EVERY_MINUTE, f"={SLOT + 1234}", SLOT + 1234, SLOT + 1234),
            (EVERY_MINUTE, f"={SLOT - 1234}", SLOT + MINUTE, SLOT + MINUTE),
            (EVERY_MINUTE, f"~{SLOT + 1234}", SLOT + MINUTE, SLOT + MINUTE),
            (ONCE, f"~{SLOT + 1234}", SLOT + 1234, SLOT + 1234),
        ],
        ids=[
            "moved",
            "a one-off, moved",
            "assigned for later",
            "assigned for the past",
            "assigned without a time",
            "a one-off, assigned without a time",
        ],
    )
    def test_what_was_asked_for_during_the_run(self, definition: Definition, follow: str, due: int, slot: int) -> None:
        header = settle(live(definition, follow=follow), Outcome(End.DONE), NOW, 0).header
        assert header == Header(SCHEDULED, due, "r1", slot=slot)

    def test_an_extra_run_gives_way_to_the_pending_occurrence(self) -> None:
        run = live(EVERY_MINUTE, flags=EXTRA, follow=str(SLOT + 30_000))
        assert settle(run, Outcome(End.DONE), NOW, 0).header == Header(SCHEDULED, SLOT + 30_000, "r1", slot=SLOT)

    def test_a_repeated_extra_run_still_knows_the_pending_occurrence(self) -> None:
        run = live(EVERY_MINUTE, flags=EXTRA, follow=str(SLOT + 30_000))
        header = settle(run, Outcome(End.FAILED, "boom"), NOW, 0).header
        assert header is not None
        assert (header.flags, header.follow) == (EXTRA, str(SLOT + 30_000))

    def test_run_now_comes_before_the_next_occurrence(self) -> None:
        header = settle(live(EVERY_MINUTE, flags=RUN_NOW), Outcome(End.DONE), NOW, 0).header
        next_slot = SLOT + MINUTE
        assert header == Header(SCHEDULED, NOW, "r1", slot=next_slot, flags=EXTRA, follow=str(next_slot))

    def test_run_now_repeats_a_one_off_task(self) -> None:
        header = settle(live(ONCE, flags=RUN_NOW), Outcome(End.DONE), NOW, 0).header
        assert header == Header(SCHEDULED, NOW, "r1", slot=NOW)

    def test_run_now_adds_nothing_to_what_is_due_already(self) -> None:
        run = live(EVERY_MINUTE, flags=RUN_NOW, follow=f">{NOW - 1}")
        assert settle(run, Outcome(End.DONE), NOW, 0).header == Header(SCHEDULED, NOW - 1, "r1", slot=SLOT + MINUTE)

    @pytest.mark.parametrize(
        ("fields", "recurs", "replaces"),
        [
            ({}, True, False),
            ({"follow": f">{SLOT}"}, True, True),
            ({"follow": f"={SLOT + 1}"}, True, True),
            ({"follow": f"={SLOT}"}, True, False),
            ({"follow": "~0"}, True, False),
            ({"follow": "~0"}, False, True),
            ({"follow": str(SLOT), "flags": EXTRA}, True, False),
        ],
    )
    def test_what_replaces_the_outcome_of_a_run(self, fields: dict[str, object], recurs: bool, replaces: bool) -> None:
        assert change_wins(claimed(**fields), SLOT, recurs) is replaces
