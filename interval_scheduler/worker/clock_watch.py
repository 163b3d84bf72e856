"""Notices when the clock of an instance jumps, by comparing it with the monotonic clock here, which never does.

The scripts take the time of the server. A clock that jumps forward makes due at once what was to be due later, and one
that jumps back makes it late. Work goes on either way: it is told, so that somebody can put the clock right.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from ..model.events import Event
from .context import Context

JUMP_SECONDS = 1.0
"""The smallest jump that is told. NTP steps are mostly larger: what is smaller it slews."""
DRIFT = 0.001
"""By which part two clocks may go at different speeds: twice what NTP slews at most (500 ppm)."""
NEW_SERVER_SECONDS = 30.0
"""A jump so soon after another server began to answer is the difference between two clocks."""

_FORWARD = "what was to be due within that time is due now"
_BACKWARD = "what is due then waits that much longer, and so do leases that have to lapse"
_SYNCHRONISE = (
    "compare the clocks with `interval-scheduler doctor`, and let NTP (chrony, timesyncd) correct that clock little by "
    "little, without steps"
)


class ClockJumps:
    """Finds jumps in the answers of one server.

    A server reads a call between the times at which the call was sent and answered. So each answer tells two bounds of
    how far the clock there is ahead of the one here. Bounds of two answers that do not meet show that a clock jumped,
    however long the messages took and however long this process stood still.
    """

    def __init__(self, suspended: Callable[[], float]) -> None:
        """`suspended()` is for how long this machine was suspended so far (see `Runtime`)."""
        self._suspended = suspended
        self._asleep = suspended()
        self._least = -inf
        self._most = inf
        self._heard = 0.0

    def learn(self, server_us: int, left: float, received: float) -> float:
        """Takes an answer, as `ServerClock.learn` does. Returns by how many seconds the clock jumped, back if negative;
        0.0 where it did not."""
        server = server_us / 1e6
        least, most = server - received, server - left
        drift = DRIFT * max(0.0, received - self._heard)
        self._heard = received
        lowest, highest = self._least - drift, self._most + drift
        if least <= highest and most >= lowest:
            self._least, self._most = max(least, lowest), min(most, highest)
            return 0.0
        self._least, self._most = least, most
        # While this machine is suspended its monotonic clock stands still, and all others go on.
        slept, self._asleep = self._asleep, self._suspended()
        highest += max(0.0, self._asleep - slept)
        surely = max(least - highest, lowest - most)
        return (least + most - lowest - highest) / 2 if surely > JUMP_SECONDS else 0.0


class ClockWatch:
    """Tells of each jump of the clock of one instance once, by the event "clock-jump" and the log."""

    def __init__(self, instance: str, context: Context) -> None:
        self._instance = instance
        self._context = context
        self._jumps = ClockJumps(context.runtime.suspended)
        self._left = -inf
        self._run_id = ""
        self._changed = -inf

    def learn(self, server_us: int, left: float, received: float) -> None:
        """Takes an answer, as `ServerClock.learn` does."""
        if left == self._left:
            return  # not the first answer of this round trip
        self._left = left
        seconds = self._jumps.learn(server_us, left, received)
        if seconds:
            self.note_server(received)
            self._tell(seconds, is_new=received - self._changed < NEW_SERVER_SECONDS)

    def note_server(self, now: float) -> None:
        """Looks which server answers, now and then. A jump soon after a change of servers is told as such."""
        detector = self._context.loss_detector
        run_id = "" if detector is None else detector.run_id(self._instance)
        if run_id != self._run_id:
            self._changed = now if self._run_id else -inf
            self._run_id = run_id

    def _tell(self, seconds: float, *, is_new: bool) -> None:
        direction = "forward" if seconds > 0 else "back"
        details = {"instance": self._instance, "seconds": round(abs(seconds), 3), "direction": direction}
        if is_new:
            where = "ahead of" if seconds > 0 else "behind"
            message = f"another server answers, or the same one was restarted: its clock is {where} the one before"
        else:
            message = f"the clock of an instance jumped {direction}"
        consequence = _FORWARD if seconds > 0 else _BACKWARD
        self._context.log.write("error", message, **details, consequence=consequence, fix=_SYNCHRONISE)
        self._context.events.emit("clock-jump", Event("clock-jump", {**details, "new_server": is_new}))
