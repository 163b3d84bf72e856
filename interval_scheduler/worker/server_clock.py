"""Estimates the clock of an instance: when to send a claim, so that the server reads it at the due time."""

from __future__ import annotations

import math
from collections import deque

_ANSWERS = 32
"""How many round trips count. About one claim in so many arrives too soon."""
_ANSWER_SECONDS = 60.0
"""How long a round trip counts at most, because clocks drift apart."""
_STEP_SECONDS = 0.001
_WAKING_SECONDS = 0.001
"""The longest time from the end of a sleep to the call that it was for."""


class ServerClock:
    """Estimates clock offset plus shortest latency: the minimum of server time − send time over 32 round trips.

    A message that is sent now is read by the server at the time here plus this estimate, or later. So a claim may leave
    before its due time, and nearly always arrives after it. A claim that arrives too soon finds nothing, makes the
    estimate smaller, and is sent once more.

    Only the first answer of a round trip counts: the others waited for it. An answer that, by the estimate, was given
    after it arrived shows that a clock has stepped. The estimate then starts again.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._answers = 0
        # What may become the least once the ones before it are too old, in the order of both.
        self._least: deque[tuple[int, float, float]] = deque()
        self._woken = 0.0
        self._left = float("-inf")

    def awake(self, until: float) -> None:
        """A sleep that was to last until this monotonic time is over: what it was for counts as sent then."""
        self._woken = until

    def leave(self, now: float) -> float:
        """The send time, for `learn`, of a call that is sent now: the end of the sleep that was for it, if any."""
        woken, self._woken = self._woken, 0.0
        return woken if 0.0 <= now - woken < _WAKING_SECONDS else now

    def learn(self, server_us: int, left: float, received: float) -> None:
        """Takes an answer. `server_us` is when the server read the call, by its clock, in µs; `left` and `received` are
        when the call was sent and answered, in seconds of the monotonic clock here."""
        if left == self._left:
            return  # not the first answer of this round trip
        self._left = left
        ahead = server_us / 1e6 - left
        least = self._least
        if ahead - (received - left) > self._ahead + _STEP_SECONDS:
            least.clear()
        while least and least[-1][2] >= ahead:
            least.pop()
        self._answers += 1
        least.append((self._answers, received, ahead))
        while least[0][0] <= self._answers - _ANSWERS or least[0][1] < received - _ANSWER_SECONDS:
            least.popleft()
        self._ahead = least[0][2]

    def at(self, due_ms: float) -> float:
        """The monotonic time here at which to send what the server shall read at `due_ms`."""
        return due_ms / 1000 - self._ahead

    def ms(self, monotonic: float) -> float:
        """The inverse of `at`, plus a microsecond for rounding: who waited until `at(due)` sees `due` reached."""
        return (monotonic + self._ahead) * 1000 + 0.001

    def now_ms(self, monotonic: float) -> int:
        """`ms`, rounded up to a whole number."""
        return math.ceil((monotonic + self._ahead) * 1000)
