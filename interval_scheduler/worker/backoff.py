"""How long to wait before something that failed is tried again."""

from __future__ import annotations

from ..support.runtime import Runtime

_LONGEST = 1.0
_FIRST = 0.02


class Backoff:
    """Exponential backoff with jitter: a server in trouble is asked less and less often, and not by all at once.

    The longest wait is a twelfth of a lease of `lease_ms`. So several attempts fit into a lease, and a few that fail by
    chance, as on a connection that breaks again and again, do not cost the lease.
    """

    def __init__(self, runtime: Runtime, lease_ms: int) -> None:
        self._random = runtime.random
        self._longest = min(_LONGEST, lease_ms / 1000 / 12)
        self._next = self._first = min(_FIRST, self._longest)

    def next(self) -> float:
        """Seconds until the next attempt, after one that failed."""
        pause = self._next * self._random.uniform(0.5, 1)
        self._next = min(self._next * 2, self._longest)
        return pause

    def reset(self) -> None:
        """An attempt succeeded."""
        self._next = self._first
