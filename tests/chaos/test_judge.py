"""The judge itself, on made-up histories: what is right passes, and each broken promise is caught by its name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.journal import Call, Observed, Run
from tests.chaos.judge import Judge, Verdict, Window

T = 1_000_000.0
"""When it all begins, in unix seconds."""
LEASE = 2.0
QUIET = Window(injected=T + 1, healed=T + 2, cutoff=T + 10, lease=LEASE)
"""A fault that excuses nothing."""


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


def ran(task_id: str, due: float, token: int, start: float, end: float | None, version: int = 1, pid: int = 1) -> Run:
    return Run(
        task_id,
        version,
        round((T + due) * 1000),
        token,
        attempt=1,
        partition=0,
        pid=pid,
        start=T + start,
        lease=T + start + LEASE,
        end=None if end is None else T + end,
        how="live" if end is None else "done",
    )


def recurring(count: int = 10) -> Observed:
    """A task due every second from 1 on, and a one-off due at 3, as they should be."""
    runs = [ran("every", float(slot), 10 + slot, slot + 0.01, slot + 0.02) for slot in range(1, count + 1)]
    return Observed([assigned("every", 1.0, 1.0), assigned("once", 3.0)], [*runs, ran("once", 3.0, 5, 3.01, 3.02)])


def verdict(observed: Observed, window: Window = QUIET, dead: tuple[str, ...] = ()) -> Verdict:
    return Judge(observed, window, dead).verdict()


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
        window = replace(QUIET, loses=0.3)
        observed = recurring()
        observed.runs.pop()
        assert len(verdict(observed, window).lost) == 1, "acknowledged long before"
        observed.calls[1] = assigned("once", 3.0, at=0.8)
        assert verdict(observed, window).lost == []
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
        found = verdict(observed, dead=("once",))
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
        observed.runs.append(replace(ran("once", 3.0, 6, 3.5, 3.6, pid=2), how="failed"))
        [overlap] = verdict(observed).duplicated
        assert "before the end of" in overlap

    def test_a_run_that_never_ended_overlaps_whatever_follows_within_its_lease(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.0, 5, 3.01, None)
        observed.runs.append(ran("once", 3.0, 6, 3.5, 3.6, pid=2))
        assert len(verdict(observed).duplicated) == 1

    def test_a_repeat_after_the_lease_of_a_process_that_died_is_right(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.0, 5, 3.01, None)
        observed.stops.append((1, T + 3.2, float("inf")))
        observed.runs.append(ran("once", 3.0, 6, 5.02, 5.03, pid=2))
        assert verdict(observed).violations == []

    def test_a_repeat_after_the_lease_is_right_only_where_the_fault_could_end_it(self) -> None:
        observed = recurring()
        observed.runs.append(ran("once", 3.0, 6, 5.02, 5.03))
        assert len(verdict(observed, replace(QUIET, lapses=True, healed=T + 1.5)).duplicated) == 1, "it was over"
        assert verdict(observed, replace(QUIET, lapses=True, healed=T + 4)).duplicated == []
        observed.runs[-1] = ran("once", 3.0, 6, 4.9, 4.95)
        assert len(verdict(observed, replace(QUIET, lapses=True, healed=T + 4)).duplicated) == 1, "within its lease"


class TestWrong:
    def test_early(self) -> None:
        observed = recurring()
        observed.runs[-1] = ran("once", 3.0, 5, 2.99, 3.02)
        assert len(verdict(observed).early) == 1

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

    def test_a_run_long_after_its_task_was_removed(self) -> None:
        observed = recurring()
        observed.calls.append(removed("every", 4.5))
        assert len(verdict(observed).other) == 4, "those from 7 on: 5 and 6 may have been claimed before"


class TestRecovery:
    def test_is_the_longest_wait_since_the_fault_began_where_work_goes_on(self) -> None:
        observed = recurring()
        observed.runs[1] = ran("every", 2.0, 12, 2.9, 2.91)
        assert verdict(observed, replace(QUIET, serves=True)).recovery == pytest.approx(0.9)

    def test_is_counted_from_the_end_of_a_fault_that_allows_no_work(self) -> None:
        observed = recurring()
        observed.runs[0] = ran("every", 1.0, 11, 2.5, 2.51)
        assert verdict(observed).recovery == pytest.approx(0.5)
        assert verdict(observed).slowest == f"every due {round((T + 1) * 1000)}"
