"""The judge notices what a worker does wrong about hostile handlers and clocks: each of these breaks one rule."""

from __future__ import annotations

import re
from typing import Any

import pytest

from interval_scheduler.core.settlement import End, Outcome
from interval_scheduler.testing.scenario import simulate
from interval_scheduler.testing.servers import Backend
from interval_scheduler.worker import clock_watch, runners
from interval_scheduler.worker.clock_watch import ClockJumps, ClockWatch
from tests.simulation.test_broken_scripts import MOST_SEEDS


def verdict_that_raises(error: BaseException) -> Outcome:
    return Outcome(End.FAILED, f"{type(error).__name__}: {error}")


def learn_alarms(self: ClockJumps, *_: Any) -> float:
    return 5.0


FIRST_SEED = {"jumps are not told": 24}
"""Where to begin: few seeds have a jump that is long enough to be surely seen."""
BROKEN: dict[str, tuple[object, str, Any, str]] = {
    "a failure counts as an end": (runners, "_verdict", lambda _: Outcome(End.DONE), r"fails in attempt 1, and what"),
    "a failure is never repeated": (
        runners,
        "_verdict",
        lambda _: Outcome(End.ABANDONED, "no"),
        r"fails in attempt 1, and what",
    ),
    "an error that raises takes the slot along": (runners, "_verdict", verdict_that_raises, r"never ran more than"),
    "jumps are not told": (ClockWatch, "learn", lambda *_: None, r"did not tell that the clock of"),
    "jumps that are none are told": (ClockJumps, "learn", learn_alarms, r"told that .* jumped by"),
    "what is slow counts as a jump": (clock_watch, "JUMP_SECONDS", -9.0, r"told that .* jumped by"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_worker_is_noticed(what: str, backends: list[Backend], monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, replaced, message = BROKEN[what]
    monkeypatch.setattr(owner, name, replaced)
    first = FIRST_SEED.get(what, 0)
    for seed in range(first, first + MOST_SEEDS):
        violations = simulate(seed, backends).violations
        if any(re.search(message, violation) for violation in violations):
            return
    pytest.fail(f"{MOST_SEEDS} seeds did not notice")
