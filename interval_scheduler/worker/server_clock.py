"""The clock of an instance, as a worker sees it: what to send when, so that it is read at a time of that clock."""

from __future__ import annotations

import math
from collections import deque

_ANSWERS = 32
"""Of how many round trips the least counts: of so many claims about one gets there too soon."""
_ANSWER_SECONDS = 60.0
"""How long one counts at most: clocks drift apart."""
_STEP_SECONDS = 0.001
_WAKING_SECONDS = 0.001
"""How long it takes at most from the end of a sleep to what it was for."""


class ServerClock:
    """When a message sent now is read, by the clock of the instance: the soonest, as far as its answers tell.

    The first answer of every round trip tells how far that clock was ahead of the one here, at the reading of what
    left at a known time: the difference of the clocks, and the way. The least of the last ones is what the shortest
    way makes of it, so that a claim may leave while its time has still to come, and nearly always gets there after
    it. One that gets there sooner finds nothing, and makes the least smaller: it is sent once more. An answer that
    was given, by what is known, after it came back shows that a clock stepped: what is known is forgotten then.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._answers = 0
        # What may become the least once the ones before it are too old, in the order of both.
        self._least: deque[tuple[int, float, float]] = deque()
        self._woken = 0.0
        self._left = float("-inf")

    def awake(self, until: float) -> None:
        """A sleep that was to last until this monotonic time is over: the way of what it was for begins there."""
        self._woken = until

    def leave(self, now: float) -> float:
        """When what is sent now left, for `learn`: where a sleep has just ended for it, at the end that was set."""
        woken, self._woken = self._woken, 0.0
        return woken if 0.0 <= now - woken < _WAKING_SECONDS else now

    def learn(self, server_us: int, left: float, received: float) -> None:
        """`server_us`: the time by the clock of the instance at which it read what had left; the others are by the
        monotonic clock here, in seconds."""
        if left == self._left:
            return  # what came along with another one waited for it there
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
        """The monotonic time here to send at what is to be read at `due_ms` there."""
        return due_ms / 1000 - self._ahead

    def ms(self, monotonic: float) -> float:
        """The inverse of `at`, a microsecond generous, because that rounds: whoever waits for a time sees it come."""
        return (monotonic + self._ahead) * 1000 + 0.001

    def now_ms(self, monotonic: float) -> int:
        """`ms`, as a whole number that is not before it."""
        return math.ceil((monotonic + self._ahead) * 1000)
