"""What a worker knows of the partitions of one instance: when something is due in each, and when a lease lapses."""

from __future__ import annotations

from collections.abc import Iterable

from .roster import Roster

NEVER = float("inf")


class DueTimes:
    """The next times of partitions, in ms by the clock of their server.

    Every look and every claim tells both times of a partition, every hint one time. They say when this worker claims
    from a partition: at once when something is due if it is first in line for it, a little later if others are.
    """

    def __init__(self, partitions: Iterable[int], roster: Roster) -> None:
        self._partitions = frozenset(partitions)
        self._roster = roster
        self._due: dict[int, float] = {}
        self._lapse: dict[int, float] = {}
        # When to claim from each partition. It follows from these two, and is asked for several times a run.
        self._claim: dict[int, float] = {}
        # Hints that came while a question was under way: its answer may be older than they are, and must not undo them.
        self._hinted: dict[int, float] = {}
        # Partitions whose lapsed runs are all suspects. They have to wait until the suspect that is running has ended.
        self._blocked: set[int] = set()
        self._postponed: dict[int, float] = {}

    def hint(self, partition: int, due_ms: float) -> bool:
        """Something in `partition` is due at `due_ms`. Returns whether that is sooner than what was known."""
        if partition not in self._partitions:
            return False
        self._hinted[partition] = min(due_ms, self._hinted.get(partition, NEVER))
        if due_ms >= self._due.get(partition, NEVER):
            return False
        self._due[partition] = due_ms
        self._update(partition)
        return True

    def ask(self) -> None:
        """A question is sent to the server: hints that come from now on may be newer than its answer."""
        self._hinted.clear()

    def learn(self, partition: int, due_ms: float | None, lapse_ms: float | None) -> None:
        """Takes the answer for one partition; None stands for nothing that is due, or leased."""
        for known, value in ((self._due, due_ms), (self._lapse, lapse_ms)):
            if value is not None:
                known[partition] = value
            else:
                known.pop(partition, None)
        hinted = self._hinted.get(partition)
        if hinted is not None and hinted < self._due.get(partition, NEVER):
            self._due[partition] = hinted
        self._update(partition)

    def postpone(self, partition: int, until_ms: float) -> None:
        """Nothing is claimed from a partition before that time."""
        self._postponed[partition] = until_ms
        self._update(partition)

    def forget(self, partition: int) -> None:
        """The partition is not on its server."""
        self._due.pop(partition, None)
        self._lapse.pop(partition, None)
        self._claim.pop(partition, None)

    def _update(self, partition: int) -> None:
        """Takes over what became known of a partition, or of this worker's rank for it."""
        time = min(self._due.get(partition, NEVER), self._lapse.get(partition, NEVER))
        if time < NEVER:
            time += 1000 * self._roster.delay(partition)
            if self._postponed:
                time = max(time, self._postponed.get(partition, 0.0))
            self._claim[partition] = time
        else:
            self._claim.pop(partition, None)

    def lapsed(self, partition: int, now_ms: float) -> bool:
        """Whether a lease has lapsed by then."""
        return self._lapse.get(partition, NEVER) <= now_ms

    def next(self, partition: int) -> float:
        """When something is due, or else when a lease lapses."""
        return self._due.get(partition, self._lapse.get(partition, 0))

    # -- suspects ----------------------------------------------------------------------------------------------------

    def block(self, partition: int) -> None:
        """A claim left lapsed runs behind: they are suspects, and wait for the one that is running."""
        self._blocked.add(partition)

    def unblock(self, partition: int) -> None:
        """A claim is sent, which will tell whether the partition still has to wait."""
        self._blocked.discard(partition)
        self._postponed.pop(partition, None)

    # -- when to claim -----------------------------------------------------------------------------------------------

    def ready(self, now_ms: float, *, suspects: bool) -> list[int]:
        """The partitions to claim from now, the longest overdue first. `suspects`: whether they could begin."""
        times = self._claim_times(suspects)
        if min(times.values(), default=NEVER) > now_ms:
            return []
        return [number for _, number in sorted((time, number) for number, time in times.items() if time <= now_ms)]

    def earliest(self, *, suspects: bool) -> float:
        """When to claim next."""
        return min(self._claim_times(suspects).values(), default=NEVER)

    def _claim_times(self, suspects: bool) -> dict[int, float]:
        if suspects or not self._blocked:
            return self._claim
        times = {number: time for number, time in self._claim.items() if number not in self._blocked}
        for number in self._blocked & self._due.keys():
            times[number] = self._due[number] + 1000 * self._roster.delay(number)
        return times
