"""Which answers of a server show that its clock jumped, and which only look like it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from interval_scheduler.support.runtime import Runtime
from interval_scheduler.worker.clock_watch import DRIFT, JUMP_SECONDS, ClockJumps

AHEAD = 1_000_000.0


class Machine:
    """A worker's machine and a server: `answer` is one round trip, on whose way there and back so many seconds pass."""

    def __init__(self) -> None:
        self.monotonic = 50.0
        self.server = AHEAD
        self.suspended = 0.0
        self.jumps = ClockJumps(lambda: self.suspended)

    def passes(self, seconds: float, speed: float = 1.0) -> None:
        self.monotonic += seconds
        self.server += seconds * speed

    def sleeps(self, seconds: float) -> None:
        self.server += seconds
        self.suspended += seconds

    def answer(self, there: float = 0.001, back: float = 0.001) -> float:
        left = self.monotonic
        self.passes(there)
        server_us = round(self.server * 1e6)
        self.passes(back)
        return self.jumps.learn(server_us, left, self.monotonic)


def test_a_jump_is_found_once_with_its_length_and_direction() -> None:
    """fault: a clock that was set by NTP, a machine that was resumed, a wrong date."""
    for seconds in (1.5, 30.0, 86_400.0 * 365, -1.5, -30.0, -86_400.0):
        machine = Machine()
        assert machine.answer() == 0
        machine.passes(5)
        machine.server += seconds
        assert abs(machine.answer() - seconds) < 0.02
        machine.passes(5)
        assert machine.answer() == 0, "once"


def test_what_is_no_jump() -> None:
    machine = Machine()
    assert machine.answer() == 0
    for there, back in ((20.0, 0.0), (0.0, 20.0), (5.0, 5.0), (0.0, 0.0)):
        assert machine.answer(there, back) == 0, "a slow reply, or a process that stood still before it read it"
    for _ in range(1000):
        machine.passes(60, speed=1.0005)
        assert machine.answer() == 0, "a clock that drifts, or that NTP slews"
    machine.server += 0.9
    assert machine.answer() == 0, "a step that is too small"
    machine.sleeps(3600)
    assert machine.answer() == 0, "a laptop that was closed"
    left, read = machine.monotonic, machine.server
    machine.sleeps(100)
    machine.passes(0.001)
    assert machine.jumps.learn(round(read * 1e6), left, machine.monotonic) == 0, "closed before the reply was read"
    machine.passes(1)
    assert machine.answer() == 0


def test_a_slow_reply_hides_no_jump_for_ever() -> None:
    machine = Machine()
    machine.answer()
    machine.server += 5
    assert machine.answer(10, 10) == 0, "its bounds are wide"
    assert abs(machine.answer() - 5) < 0.1


def test_a_jump_in_the_time_of_a_suspension_is_found() -> None:
    machine = Machine()
    machine.answer()
    machine.sleeps(100)
    machine.server += 50
    assert machine.answer() > JUMP_SECONDS
    machine.sleeps(100)
    machine.server -= 150
    assert machine.answer() < -JUMP_SECONDS


ways = st.floats(0, 30)


@given(st.lists(st.tuples(st.floats(0, 3600), st.floats(1 - DRIFT / 2, 1 + DRIFT / 2), ways, ways, st.floats(0, 1e5))))
def test_nothing_but_a_jump_is_one(steps: list[tuple[float, float, float, float, float]]) -> None:
    machine = Machine()
    for pause, speed, there, back, sleep in steps:
        machine.passes(pause, speed)
        machine.sleeps(sleep)
        assert machine.answer(there, back) == 0


@given(st.lists(st.tuples(ways, ways), min_size=1), st.floats(-1e9, 1e9), ways, ways)
def test_every_jump_that_is_longer_than_its_round_trips_is_found(
    before: list[tuple[float, float]], seconds: float, there: float, back: float
) -> None:
    machine = Machine()
    for way in before:
        machine.answer(*way)
    shortest = min(sum(way) for way in before)
    machine.server += seconds
    found = machine.answer(there, back)
    longest = there + back + shortest
    if abs(seconds) > JUMP_SECONDS + longest + DRIFT * 60 * (len(before) + 1):
        assert abs(found - seconds) <= longest + 1
    elif found:
        assert abs(seconds) > JUMP_SECONDS / 2, "what was told was there"


def test_this_machine_tells_how_long_it_was_suspended() -> None:
    runtime = Runtime()
    first = runtime.suspended()
    assert first >= -0.001
    assert abs(runtime.suspended() - first) < 0.1
