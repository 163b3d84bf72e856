"""Slots: how much a worker may claim, and which of its claimers gets how much of that."""

from __future__ import annotations

import asyncio
from typing import Protocol

from .run import Run

_UNSETTLED = 1000
_UNSETTLED_PER_SLOT = 4
"""Ended runs, and those per slot, that may wait to be settled before claiming pauses, so that memory stays flat."""


class Claimant(Protocol):
    """Who asks for slots."""

    starved: bool
    """Whether something is due and there was no slot for it."""

    def wake(self) -> None:
        """There may be slots again."""


class Slots:
    """The slots of one worker.

    A claimer reserves slots before it claims. Each run that the claim brings occupies one of them until its handler
    has ended; the claimer gives the others back. A run that has ended counts as unsettled until its end is reported.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._loop = asyncio.get_running_loop()
        self._claimants: list[Claimant] = []
        self._reserved = 0
        self._occupied = 0
        self._unsettled = 0
        self._suspect: Run | None = None
        self._waking = False
        self._all_free = asyncio.Event()
        self._all_free.set()

    def add(self, claimant: Claimant) -> None:
        """Shares the slots with one more claimer."""
        self._claimants.append(claimant)

    @property
    def concurrency(self) -> int:
        """How many slots there are: the most handlers running at once."""
        return self._concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._concurrency = value
        self._wake_claimants()

    @property
    def unsettled(self) -> int:
        """Runs that have ended, and whose end is not reported yet."""
        return self._unsettled

    @property
    def occupied(self) -> int:
        """Runs whose handler has not ended yet."""
        return self._occupied

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was claimed is left to run or to settle."""
        return not (self._occupied or self._reserved or self._unsettled)

    async def wait_until_free(self) -> None:
        """Waits until no handler runs."""
        await self._all_free.wait()

    # -- claiming ----------------------------------------------------------------------------------------------------

    def reserve(self, wanted: int) -> int:
        """Grants at most `wanted` of the free slots. Claimers for which there was none before get a share too."""
        free = min(self._concurrency - self._occupied - self._reserved, self._unsettled_room)
        starved = sum(claimant.starved for claimant in self._claimants)
        if starved > 1:
            free = -(-free // starved)
        granted = max(0, min(wanted, free))
        self._reserved += granted
        return granted

    def give_back(self, unused: int) -> None:
        """Takes slots back that were reserved, and for which the claim brought nothing."""
        self._reserved -= unused
        if unused and any(claimant.starved for claimant in self._claimants):
            self._wake_claimants()

    def occupy(self, count: int) -> None:
        """A claim brought `count` tasks on slots that were reserved for them."""
        self._reserved -= count
        self._occupied += count
        self._all_free.clear()

    @property
    def _unsettled_room(self) -> int:
        return _UNSETTLED + self._concurrency * _UNSETTLED_PER_SLOT - self._unsettled

    # -- the ends of runs --------------------------------------------------------------------------------------------

    def free(self) -> None:
        """A slot is free again that had no run, because the record could not be read."""
        self._occupied -= 1
        if not self._occupied:
            self._all_free.set()
        # Once a turn of the loop, however many runs ended in it.
        if not self._waking:
            self._wake_claimants()

    def end(self, run: Run) -> None:
        """The handler of a run has ended: its slot is free, and its end has to be reported."""
        if self._suspect is run:
            self._suspect = None
        self._unsettled += 1
        # `free`, without a call for every run.
        self._occupied -= 1
        if not self._occupied:
            self._all_free.set()
        if not self._waking:
            self._wake_claimants()

    def settle(self, count: int = 1) -> None:
        """The ends of `count` runs were reported."""
        had_room = self._unsettled_room > 0
        self._unsettled -= count
        if not had_room and self._unsettled_room > 0:
            # Claiming may have paused for want of it, and there need be no other run whose end would wake it.
            self._wake_claimants()

    # -- suspects ----------------------------------------------------------------------------------------------------

    @property
    def takes_suspects(self) -> bool:
        """Whether a run that may kill the worker can begin: no other one is live.

        If two of them were live when the worker dies, the innocent one would get a strike too.
        """
        return self._suspect is None

    def keep_suspect(self, run: Run) -> None:
        """This run may kill the worker: until it ends, no other one of this kind begins."""
        self._suspect = run

    def _wake_claimants(self) -> None:
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._waking = False
        for claimant in self._claimants:
            claimant.wake()
