"""When a worker claims from its partitions, of what looks, claims and hints tell."""

from __future__ import annotations

import pytest

from interval_scheduler.worker.due_times import DueTimes


class FirstInLine:
    def delay(self, partition: int) -> float:
        return 0.0


@pytest.fixture
def times() -> DueTimes:
    return DueTimes([0, 1], FirstInLine())  # type: ignore[arg-type]


def test_a_hint_about_a_partition_of_others_is_none_of_ours(times: DueTimes) -> None:
    """Two instances may share a server, and with it the channel of the hints."""
    assert not times.hint(7, 1000.0)
    times.learn(0, None, None)
    assert times.earliest(suspects=True) == float("inf")


def test_a_hint_counts_only_if_it_is_sooner(times: DueTimes) -> None:
    times.learn(0, 2000.0, None)
    assert not times.hint(0, 3000.0)
    assert times.earliest(suspects=True) == 2000.0
    assert times.hint(0, 1000.0)
    assert times.earliest(suspects=True) == 1000.0


def test_an_answer_does_not_undo_a_hint_that_came_after_the_question(times: DueTimes) -> None:
    times.ask()
    times.hint(0, 1000.0)
    times.learn(0, None, None)
    assert times.earliest(suspects=True) == 1000.0
    times.ask()
    times.learn(0, None, None)
    assert times.earliest(suspects=True) == float("inf")


def test_a_postponed_partition_waits_and_the_others_do_not(times: DueTimes) -> None:
    times.learn(0, 1000.0, None)
    times.learn(1, 1500.0, None)
    times.postpone(0, 2000.0)
    assert times.earliest(suspects=True) == 1500.0
    times.forget(1)
    assert times.earliest(suspects=True) == 2000.0


def test_a_partition_of_suspects_waits_for_what_is_due_beside_them(times: DueTimes) -> None:
    times.learn(0, None, 1000.0)
    times.learn(1, 3000.0, 1000.0)
    times.block(0)
    times.block(1)
    assert times.earliest(suspects=True) == 1000.0
    assert times.earliest(suspects=False) == 3000.0
    assert times.ready(2000.0, suspects=False) == []
    times.unblock(0)
    assert times.ready(2000.0, suspects=False) == [0]
