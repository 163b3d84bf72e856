"""The judge itself, on made-up histories: what is right passes, and each broken promise is caught by its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from interval_scheduler.testing.history import (
    Call,
    Claim,
    ClockStep,
    History,
    Jump,
    LossWindow,
    Notice,
    Remaining,
    Report,
    Run,
    Stop,
)
from interval_scheduler.testing.hostility import ENDS, FAILS, GIVES_UP
from interval_scheduler.testing.judge import Judge, Terms, Verdict

T = 1_000_000.0
"""When it all begins, in unix seconds."""
LEASE = 2.0
QUIET = Terms(LEASE, clock=0.001, cutoff=T + 10, late_starts=True, disturbed=T + 1, served=T + 2)
"""A fault that excuses nothing, on real clocks."""
EXACT = Terms(LEASE, late_writes=True, prompt=0.05, concurrency=20)
"""A simulated run without faults."""


def assigned(task_id: str, due: float | None, interval: float | None = None, at: float = 0.0, version: int = 1) -> Call:
    return Call(
        "assign",
        task_id,
        version,
        T + at,
        T + at + 0.01,
        "ok",
        None if due is None else round((T + due) * 1000),
        None if interval is None else round(interval * 1000),
        "all" if interval else "coalesce",
    )


def removed(task_id: str, at: float, outcome: str = "ok") -> Call:
    return Call("remove", task_id, 2, T + at, T + at + 0.01, outcome)


def ran(
    task_id: str, due: float, token: int, start: float, end: float | None, version: int = 1, process: str = "1"
) -> Run:
    return Run(
        task_id,
        version,
        round((T + due) * 1000),
        token,
        attempt=1,
        partition=0,
        process=process,
        start=T + start,
        lease=T + start + LEASE,
        end=None if end is None else T + end,
        how="live" if end is None else "done",
    )


def recurring(count: int = 10) -> History:
    """A task due every second from 1 on, and a one-off due at 3, as they should be."""
    runs = [ran("every", float(slot), 10 + slot, slot + 0.01, slot + 0.02) for slot in range(1, count + 1)]
    return History([assigned("every", 1.0, 1.0), assigned("once", 3.0)], [*runs, ran("once", 3.0, 5, 3.01, 3.02)])


def verdict(observed: History, terms: Terms = QUIET) -> Verdict:
    return Judge(observed, terms).verdict()


def lossy(observed: History, since: float, until: float) -> History:
    """The same, where servers forgot what they wrote in a time."""
    return replace(observed, losses=[LossWindow("", T + since, T + until)])


def test_what_is_right_passes() -> None:
    found = verdict(recurring())
    assert found.violations == []
    assert (found.due, found.run, found.dead) == (11, 11, 0)
    assert 0 < found.recovery < 0.02


class TestLost:
    def test_an_occurrence_that_never_ran(self) -> None:
        observed = recurring()
        del observed.runs[4]
        found = verdict(observed)
        assert found.lost == [f"every version 1 due {round((T + 5) * 1000)}"]
        assert [one.due for one in Judge(observed, QUIET).pending()] == [round((T + 5) * 1000)]

    def test_a_one_off_that_never_ran(self) -> None:
        observed = recurring()
        observed.runs.pop()
        assert len(verdict(observed).lost) == 1

    def test_a_run_that_never_ended(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.0, 5, 3.01, None)
        assert len(verdict(observed).lost) == 1

    def test_a_run_of_an_older_version(self) -> None:
        observed = recurring()
        observed.calls.append(assigned("once", 3.0, at=0.5, version=2))
        assert len(verdict(observed).lost) == 1

    def test_a_loss_excuses_only_what_was_acknowledged_in_its_time(self) -> None:
        observed = recurring()
        observed.runs.pop()
        assert len(verdict(lossy(observed, 0.7, 2)).lost) == 1, "acknowledged long before"
        observed.calls[1] = assigned("once", 3.0, at=0.8)
        assert verdict(lossy(observed, 0.7, 2)).lost == []
        assert len(verdict(observed).lost) == 1, "nothing may be lost here"

    def test_what_failed_or_is_unknown_was_promised_to_nobody(self) -> None:
        observed = recurring()
        observed.runs.pop()
        for outcome in ("failed", "unknown"):
            observed.calls[1].outcome = outcome
            assert verdict(observed).lost == []

    def test_what_its_owner_removed_is_not_lost(self) -> None:
        observed = recurring(4)
        observed.runs.pop()
        observed.calls += [removed("once", 2.0), removed("every", 4.5)]
        assert verdict(observed).violations == []
        observed.calls[-1].outcome = "failed"
        assert len(verdict(observed).lost) == 6, "what was not removed goes on"

    def test_a_dead_letter_is_kept_and_counted(self) -> None:
        observed = recurring()
        observed.runs.pop()
        observed.remaining["once"] = Remaining(1, dead=True)
        found = verdict(observed)
        assert (found.lost, found.dead) == ([], 1)

    def test_a_catch_up_run_stands_for_what_was_due_when_it_began_and_no_more(self) -> None:
        observed = recurring()
        for call in observed.calls:
            call.misfire = "coalesce"
        observed.runs[2:6] = [ran("every", 3.0, 13, 5.5, 5.6)]  # for 3, 4 and 5, but not for 6
        assert verdict(observed).lost == [f"every version 1 due {round((T + 6) * 1000)}"]


class TestTwice:
    def test_both_completed(self) -> None:
        observed = recurring()
        observed.runs.append(ran("once", 3.0, 6, 4.0, 4.1))
        assert len(verdict(observed).duplicated) == 1

    def test_at_the_same_time(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.0, 5, 3.01, 4.0)
        observed.runs.append(replace(ran("once", 3.0, 6, 3.5, 3.6, process="2"), how="failed"))
        [overlap] = verdict(observed).duplicated
        assert "before the end of" in overlap

    def test_a_run_that_never_ended_overlaps_whatever_follows_within_its_lease(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.0, 5, 3.01, None)
        observed.runs.append(ran("once", 3.0, 6, 3.5, 3.6, process="2"))
        assert len(verdict(observed).duplicated) == 1

    def test_a_repeat_after_the_lease_of_a_process_that_died_is_right(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.0, 5, 3.01, None)
        observed.stops.append(Stop("1", T + 3.2))
        observed.runs.append(ran("once", 3.0, 6, 5.02, 5.03, process="2"))
        assert verdict(observed).violations == []

    def test_a_repeat_after_the_lease_is_right_only_where_the_fault_could_end_it(self) -> None:
        observed = recurring()
        observed.runs.append(ran("once", 3.0, 6, 5.02, 5.03))
        assert len(verdict(observed, replace(QUIET, lapses=(T + 1, T + 2.5))).duplicated) == 1, "it was over"
        assert verdict(observed, replace(QUIET, lapses=(T + 1, T + 5))).duplicated == []
        observed.runs[-1] = ran("once", 3.0, 6, 4.9, 4.95)
        assert len(verdict(observed, replace(QUIET, lapses=(T + 1, T + 5))).duplicated) == 1, "within its lease"

    def test_after_it_was_removed_and_assigned_again_is_right(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.0, 5, 3.01, 4.0)
        observed.runs.append(ran("once", 3.2, 6, 3.5, 3.6, version=2))
        observed.calls.append(assigned("once", 3.2, at=3.15, version=2))
        assert len(verdict(observed).duplicated) == 1, "an update waits for the end of the run"
        observed.calls.insert(2, removed("once", 3.1))
        assert verdict(observed).violations == []

    def test_what_was_assigned_for_the_same_time_once_more_is_right(self) -> None:
        observed = recurring()
        observed.runs.append(ran("once", 3.0, 6, 4.0, 4.1, version=2))
        observed.calls.append(assigned("once", 3.0, at=3.5, version=2))
        assert verdict(observed).violations == []

    def test_an_occurrence_of_a_recurring_task_is_not_repeated_for_an_update(self) -> None:
        observed = recurring()
        observed.runs.insert(10, ran("every", 10.0, 30, 10.5, 10.6, version=2))
        observed.calls.append(assigned("every", 1.0, 1.0, at=10.3, version=2))
        assert len(verdict(observed).duplicated) == 1
        failed = replace(ran("every", 10.0, 25, 10.2, 10.25), how="failed")
        observed.runs.append(failed)
        assert verdict(observed).duplicated == [], "it may have been a dead letter meanwhile"
        observed.runs.remove(failed)
        assert verdict(lossy(observed, 10, 11)).duplicated == [], "the report may have been lost"

    def test_within_the_lease_is_right_where_the_clock_of_the_server_jumped(self) -> None:
        observed = recurring()
        observed.runs[-1] = replace(ran("once", 3.0, 5, 3.01, 4.0), server="a")
        second = ran("once", 3.0, 6, 3.5, 3.6, process="2")
        observed.runs.append(replace(second, how="failed"))
        observed.steps.append(ClockStep("b", T + 3.2, 30))
        observed.steps.append(ClockStep("a", T + 3.2, -30))
        assert len(verdict(observed).duplicated) == 1, "another server, or back"
        observed.steps.append(ClockStep("a", T + 3.2, 30))
        assert verdict(observed).duplicated == []


class TestWrong:
    def test_early(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.0, 5, 2.99, 3.02)
        assert len(verdict(observed).early) == 1

    def test_early_by_the_clock_of_the_server(self) -> None:
        observed = recurring()
        observed.runs[-1] = replace(observed.runs[-1], server="a", server_ms=observed.runs[-1].due - 1)
        assert verdict(observed).early == [], "real clocks are compared by whole milliseconds"
        assert len(verdict(observed, replace(QUIET, clock=0.0)).early) == 1
        observed.steps.append(ClockStep("a", T + 2.9, -1))
        assert verdict(observed, replace(QUIET, clock=0.0)).early == [], "the clock went back"

    def test_off_its_grid(self) -> None:
        observed = recurring()
        observed.runs.append(ran("every", 10.2, 21, 10.21, 10.22))
        assert len(verdict(observed).other) == 1

    def test_a_one_off_at_a_time_of_its_own(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.5, 5, 3.51, 3.52)
        assert len(verdict(observed).other) == 1

    @pytest.mark.parametrize("token", [15, 13], ids=["reused", "smaller"])
    def test_a_token_that_does_not_grow(self, token: int) -> None:
        observed = recurring()
        observed.runs[5] = replace(observed.runs[5], token=token)
        assert any("came after" in text for text in verdict(observed).other)

    def test_a_run_of_a_process_that_stood_still_may_begin_late_in_reality_only(self) -> None:
        observed = recurring()
        observed.runs[5] = replace(observed.runs[5], token=13, process="2")
        observed.stops.append(Stop("2", T + 5.5, T + 5.9))
        assert verdict(observed).other == []
        assert len(verdict(observed, replace(QUIET, late_starts=False)).other) == 1

    def test_a_run_long_after_its_task_was_removed(self) -> None:
        observed = recurring()
        observed.calls.append(removed("every", 4.5))
        assert len(verdict(observed).other) == 4, "those from 7 on: 5 and 6 may have been claimed before"
        assert verdict(lossy(observed, 1, 2)).other == [], "the removal may have been lost"
        observed.calls.append(replace(assigned("every", 1.0, 1.0, at=4.0), outcome="unknown"))
        observed.calls.append(removed("every", 4.5))
        assert len(verdict(observed).other) == 4
        assert verdict(observed, replace(QUIET, late_writes=True)).other == [], "it may have been carried out later"


class TestRecovery:
    def test_is_the_longest_wait_since_the_fault_began_where_work_goes_on(self) -> None:
        observed = recurring()
        observed.runs[1] = ran("every", 2.0, 12, 2.9, 2.91)
        assert verdict(observed, replace(QUIET, served=T + 1)).recovery == pytest.approx(0.9)

    def test_is_counted_from_the_end_of_a_fault_that_allows_no_work(self) -> None:
        observed = recurring()
        observed.runs[0] = ran("every", 1.0, 11, 2.5, 2.51)
        assert verdict(observed).recovery == pytest.approx(0.5)
        assert verdict(observed).slowest == f"every due {round((T + 1) * 1000)}"

    def test_has_a_limit(self) -> None:
        observed = recurring()
        observed.runs[0] = ran("every", 1.0, 11, 2.5, 2.51)
        assert verdict(observed, replace(QUIET, recovery=0.6)).late == []
        [late] = verdict(observed, replace(QUIET, recovery=0.4)).late
        assert f"late: {late}" in verdict(observed, replace(QUIET, recovery=0.4)).violations
        assert late.startswith("every due")
        assert late.endswith("waited 0.50 s, limit 0.4 s")


class TestPrompt:
    def late(self) -> History:
        """A one-off that started 0.1 s late."""
        run = ran("once", 3.0, 5, 3.1, 3.2)
        return History([assigned("once", 3.0)], [replace(run, server="a", server_ms=run.due + 100)])

    def test_a_run_that_starts_late(self) -> None:
        assert verdict(self.late(), replace(EXACT, prompt=None)).violations == []
        assert len(verdict(self.late(), EXACT).late) == 1

    def test_an_own_run_an_own_call_or_full_workers_may_be_in_its_way(self) -> None:
        observed = self.late()
        observed.calls.append(assigned("once", 3.0, at=2.5))
        assert verdict(observed, EXACT).late == []
        observed = self.late()
        observed.runs.insert(0, ran("once", 2.0, 4, 2.0, 3.05))
        assert verdict(observed, EXACT).late == []
        observed = self.late()
        observed.runs.append(ran("other", 2.9, 9, 2.9, 3.05))
        assert len(verdict(observed, EXACT).late) == 1
        assert verdict(observed, replace(EXACT, concurrency=1)).late == []


class TestRemaining:
    """Without a cutoff, what is left at the servers tells which assignments are kept."""

    def test_an_assignment_that_is_neither_left_nor_was_run(self) -> None:
        observed = History([assigned("once", 3.0), assigned("every", 1.0, 1.0)])
        assert len(verdict(observed, EXACT).lost) == 2
        observed.remaining = {"once": Remaining(1), "every": Remaining(1, dead=True)}
        found = verdict(observed, EXACT)
        assert (found.lost, found.due, found.dead) == ([], 2, 1)

    def test_an_older_version_that_is_left(self) -> None:
        observed = History([assigned("once", 3.0), assigned("once", 3.0, version=2)])
        observed.remaining["once"] = Remaining(1)
        assert len(verdict(observed, EXACT).lost) == 1

    def test_what_is_due_and_left_to_wait(self) -> None:
        observed = History([assigned("once", 3.0)], remaining={"once": Remaining(1, overdue=19)})
        assert verdict(observed, EXACT).lost == []
        observed.remaining["once"] = Remaining(1, overdue=21)
        assert verdict(observed, EXACT).lost == ["once waits since 21.0 s and nobody runs it"]

    def test_what_was_acknowledged_before_a_loss_counts_though_a_later_version_may_be_lost(self) -> None:
        observed = History([assigned("once", 3.0), assigned("once", 3.0, at=1.5, version=2)])
        observed.losses.append(LossWindow("", T + 1, T + 2))
        assert len(verdict(observed, EXACT).lost) == 1
        observed.remaining["once"] = Remaining(1)
        assert verdict(observed, EXACT).lost == []

    def test_a_removal_counts_only_after_the_assignment(self) -> None:
        observed = History([removed("once", 0.0), assigned("once", 3.0, at=1.0)])
        assert len(verdict(observed, EXACT).lost) == 1
        observed.calls.append(removed("once", 2.0, "unknown"))
        assert verdict(observed, EXACT).lost == []


class TestNotices:
    def lost(self, at: float = 0.0) -> History:
        """A server lost what was acknowledged within three seconds."""
        call = replace(assigned("once", 3.0, at=at), server="a", process="p")
        return History([call], remaining={"once": Remaining(1)}, losses=[LossWindow("a", T - 1, T + 2)])

    def test_a_loss_that_nobody_told_of(self) -> None:
        observed = self.lost()
        assert ["unnoticed" in text for text in verdict(observed, EXACT).other] == [True]
        observed.notices.append(Notice("a", T + 3))
        assert verdict(observed, EXACT).other == []

    @pytest.mark.parametrize("notice", [Notice("b", T + 3), Notice("a", T + 1)], ids=["another server", "before"])
    def test_a_notice_of_something_that_was_not_lost(self, notice: Notice) -> None:
        observed = self.lost()
        observed.notices.append(notice)
        assert ["unnoticed" in text for text in verdict(observed, EXACT).other] == [True, False]
        assert len(verdict(observed, replace(EXACT, false_alarms=True)).other) == 1

    def test_a_loss_that_nobody_alive_could_know_of(self) -> None:
        observed = self.lost()
        observed.stops.append(Stop("p", T + 5))
        assert verdict(observed, EXACT).other == []
        assert verdict(self.lost(at=2.5), EXACT).other == [], "nothing was acknowledged"

    @pytest.mark.parametrize("expected", [True, False])
    def test_a_notice_where_the_fault_says_so_and_nowhere_else(self, expected: bool) -> None:
        observed = recurring()
        if not expected:
            observed.notices.append(Notice("a", T + 3))
        assert len(verdict(observed, replace(QUIET, notice=expected)).other) == 1
        assert verdict(observed, replace(QUIET, notice=not expected)).other == []


def ended(slots: Iterable[float], late: float = 0.01) -> History:
    """A task due every second from 1 on, as its server sees it."""
    observed = History([assigned("every", 1.0, 1.0)], remaining={"every": Remaining(1)})
    for slot in slots:
        due = round((T + slot) * 1000)
        at = T + slot + late
        token = 10 + len(observed.server_log)
        observed.server_log.append(Claim("a", b"0", at, "every", token, due, round(at * 1000)))
        observed.server_log.append(Report("a", at, "every", token, True, due + 1000))
    return observed


def found_in(observed: History) -> list[str]:
    return verdict(observed, replace(EXACT, notice=False)).other


class TestServerLog:
    def test_what_is_right_passes(self) -> None:
        assert verdict(ended([1, 2, 3]), EXACT).violations == []

    def test_a_token_that_does_not_grow_in_its_partition(self) -> None:
        observed = ended([1, 2])
        first, _, second, _ = observed.server_log
        assert isinstance(first, Claim)
        assert isinstance(second, Claim)
        observed.server_log[2:] = [replace(second, token=first.token)]
        assert "not larger" in found_in(observed)[0]
        observed.server_log[2:] = [replace(second, token=first.token, partition=b"1")]
        assert found_in(observed) == []

    def test_the_report_of_a_stale_run_that_is_accepted(self) -> None:
        stale = Report("a", T + 3, "every", 10, True, round((T + 3) * 1000))
        observed = ended([1, 2])
        observed.server_log[3] = stale
        assert "though the run is stale" in found_in(observed)[0]
        assert "though the run is stale" in found_in(History(server_log=[stale]))[0], "nobody claimed it"

    def test_the_report_of_a_run_whose_claim_was_lost_is_right(self) -> None:
        observed = ended([1])
        loss = LossWindow("a", T + 1, T + 1.005)
        observed.server_log.insert(1, loss)
        assert found_in(observed) == []
        observed.server_log[0] = replace(loss, server="b")
        del observed.server_log[1]
        assert len(found_in(observed)) == 1, "of another server"

    def test_a_report_that_is_accepted_twice(self) -> None:
        observed = ended([1])
        observed.server_log.append(observed.server_log[1])
        assert found_in(observed)[0].endswith("was accepted twice")

    @pytest.mark.parametrize(
        ("slots", "text"), [([1, 2.5], "off its grid"), ([1, 3], "was next"), ([1, 2, 2], "was next")]
    )
    def test_an_occurrence_that_is_off_the_grid_left_out_or_run_again(self, slots: list[float], text: str) -> None:
        assert any(text in found for found in found_in(ended(slots)))

    def test_a_late_occurrence_covers_those_that_it_is_late_for_and_no_more(self) -> None:
        observed = ended([1], late=2.5)
        assert "goes on at" in found_in(observed)[0], "it is past 2 and 3"
        report = observed.server_log[1]
        assert isinstance(report, Report)
        observed.server_log[1] = replace(report, next_due=round((T + 4) * 1000))
        assert found_in(observed) == []

    def test_a_recurring_task_that_ends(self) -> None:
        observed = ended([1])
        report = observed.server_log[1]
        assert isinstance(report, Report)
        observed.server_log[1] = replace(report, next_due=None)
        assert "recurs and was ended" in found_in(observed)[0]

    def test_a_script_that_fails(self) -> None:
        assert verdict(History(failures=["claim failed"]), EXACT).violations == ["other: claim failed"]


class TestClocks:
    def observed(self, *steps: tuple[float, float]) -> History:
        observed = recurring()
        for run in observed.runs:
            run.server = "a"
        observed.steps = [ClockStep("a", T + at, seconds) for at, seconds in steps]
        return observed

    def other(self, observed: History, *jumps: tuple[float, float]) -> list[str]:
        observed.jumps = [Jump("1", "a", T + at, seconds) for at, seconds in jumps]
        return [text for text in verdict(observed).other if "jump" in text]

    def test_a_jump_has_to_be_told_by_who_knew_the_clock_before(self) -> None:
        observed = self.observed((5.5, 30.0))
        assert self.other(observed) == ["1 did not tell that the clock of a jumped by 30.0 s"]
        assert self.other(observed, (6.0, 29.9)) == []
        assert len(self.other(observed, (5.0, 30.0))) == 2, "before it jumped"

    def test_who_came_later_or_died_or_could_not_tell_it_from_a_slow_message_need_not(self) -> None:
        assert self.other(self.observed((0.5, 30.0))) == []
        assert self.other(self.observed((5.5, 2.0))) == []
        assert self.other(self.observed((5.5, 30.0), (6.0, -30.0))) == []
        observed = self.observed((5.5, 30.0))
        observed.stops = [Stop("1", T + 12)]
        assert self.other(observed) == []

    def test_what_was_no_jump_must_not_be_told(self) -> None:
        assert len(self.other(self.observed(), (5.0, 3.0))) == 2
        observed = self.observed((5.5, 2.0))
        assert self.other(observed, (6.0, 2.1)) == []
        assert len(self.other(observed, (6.0, -2.1))) == 1, "in the other direction"
        assert len(self.other(observed, (6.0, 200.0))) == 1, "much longer"
        assert len(self.other(observed, (6.0, 2.0), (7.0, 2.0))) == 1, "twice"


class TestHostile:
    def other(self, follows: str, attempt: int, retries: int, *, is_dead: bool) -> list[str]:
        observed = recurring()
        observed.runs[-1] = replace(observed.runs[-1], follows=follows, attempt=attempt)
        token = observed.runs[-1].token
        observed.server_log = [
            Claim("a", b"p", T + 3, "once", token, 3000, 3000),
            Report("a", T + 3.1, "once", token, True, None, retries, is_dead),
        ]
        return verdict(observed, replace(QUIET, retries=2)).other

    def test_what_is_documented_follows(self) -> None:
        assert self.other(ENDS, 1, 0, is_dead=False) == []
        assert self.other(FAILS, 1, 1, is_dead=False) == []
        assert self.other(FAILS, 2, 2, is_dead=False) == []
        assert self.other(FAILS, 3, 0, is_dead=True) == []
        assert self.other(GIVES_UP, 1, 0, is_dead=True) == []

    def test_something_else_follows(self) -> None:
        assert "fails in attempt 1, and what followed was" in self.other(FAILS, 1, 0, is_dead=False)[0]
        assert self.other(FAILS, 1, 0, is_dead=True)
        assert self.other(FAILS, 2, 1, is_dead=False), "it counts as no attempt"
        assert self.other(FAILS, 3, 3, is_dead=False), "one attempt too many"
        assert self.other(GIVES_UP, 1, 1, is_dead=False)
        assert self.other(ENDS, 1, 1, is_dead=False)
        assert self.other(ENDS, 1, 0, is_dead=True)

    def test_every_slot_is_used_and_no_more(self) -> None:
        def other(live: int, crew: tuple[str, ...] = ("1",)) -> list[str]:
            observed = recurring()
            for number in range(live):
                observed.calls.append(assigned(f"filling-{number}", 12.0))
                observed.runs.append(ran(f"filling-{number}", 12.0, 100 + number, 12.01, 14.0))
            return verdict(observed, replace(QUIET, concurrency=4, filled=T + 12, crew=crew)).other

        assert other(4) == []
        assert other(3) == ["1 never ran more than 3 of 4 tasks at once"]
        assert "1 ran 5 tasks on 4 slots" in other(5)[0]
        assert other(4, ("1", "2")) == ["2 never ran more than 0 of 4 tasks at once"]
