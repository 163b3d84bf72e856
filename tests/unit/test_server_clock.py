"""When a worker sends what is to be read at a time of a server's clock."""

from __future__ import annotations

from interval_scheduler.worker.server_clock import ServerClock


def test_what_is_sent_leaves_ahead_by_the_shortest_way_of_the_last_answers() -> None:
    """The clock there is a thousand seconds ahead, and the ways there take 2, 0.5 and 30 ms."""
    clock = ServerClock()
    clock.learn(1_010_002_000, 10.0, 10.005)
    assert abs(clock.at(1_020_000) - 19.998) < 1e-6
    clock.learn(1_011_000_500, 11.0, 11.001)
    assert abs(clock.at(1_020_000) - 19.9995) < 1e-6
    clock.learn(1_012_030_000, 12.0, 12.04)
    assert abs(clock.at(1_020_000) - 19.9995) < 1e-6, "a message that was held up tells nothing of the next"
    assert clock.ms(clock.at(1_020_000)) >= 1_020_000, "whoever waits for a time sees it come"
    for second in range(13, 46):
        clock.learn((1000 + second) * 1_000_000 + 3000, second, second + 0.004)
    assert abs(clock.at(1_050_000) - 49.997) < 1e-6, "the way became longer"
    clock.learn(1_120_000_000 + 4000, 120.0, 120.005)
    assert abs(clock.at(1_130_000) - 129.996) < 1e-6, "what was long ago counts no more: clocks drift"


def test_of_answers_that_came_together_the_first_tells_the_way() -> None:
    """Those behind it waited for it, as in a herd, where a claim asks all partitions."""
    clock = ServerClock()
    for behind in range(64):
        clock.learn(1_010_000_500 + 100 * behind, 10.0, 10.01)
    assert abs(clock.at(1_020_000) - 19.9995) < 1e-6


def test_a_claim_that_came_too_soon_is_followed_by_one_that_does_not() -> None:
    clock = ServerClock()
    clock.learn(1_010_002_000, 10.0, 10.004)
    sent = clock.at(1_020_000)
    clock.learn(1_019_999_000, sent, sent + 0.002)
    again = clock.at(1_020_000)
    assert abs(again - (sent + 0.001)) < 1e-6
    assert clock.ms(sent + 0.002) >= 1_020_000, "it leaves at once, where that time is past"


def test_a_clock_that_stepped_is_followed_at_once() -> None:
    clock = ServerClock()
    clock.learn(1_010_000_000, 10.0, 10.001)
    clock.learn(2_011_000_000, 11.0, 11.002)
    assert abs(clock.at(2_020_000) - 20.0) < 0.0001, "ahead"
    clock.learn(1_512_000_000, 12.0, 12.002)
    assert abs(clock.at(1_520_000) - 20.0) < 0.0001, "back"


def test_waking_up_is_a_part_of_the_way() -> None:
    clock = ServerClock()
    clock.awake(10.0)
    assert clock.leave(10.0003) == 10.0
    clock.learn(1_010_000_500, 10.0, 10.001)
    assert abs(clock.at(1_020_000) - 19.9995) < 1e-6
    assert clock.leave(10.0004) == 10.0004, "the second message was not what the sleep was for"
    clock.awake(11.0)
    assert clock.leave(10.9) == 10.9, "a hint ended the sleep"
    clock.awake(11.0)
    assert clock.leave(12.0) == 12.0, "the process stood still, or had other things to do: no way is that long"
