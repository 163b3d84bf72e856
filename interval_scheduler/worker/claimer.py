"""Claiming what is due on one instance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..model.errors import PartitionUnavailable, TopologyMismatch
from ..protocol import calls
from ..protocol.commands import Command, Reply
from ..support.cancellation import is_cancelled
from .backoff import Backoff
from .claims import Claims
from .clock_watch import ClockWatch
from .context import Context
from .due_times import NEVER, DueTimes
from .roster import Roster
from .server_clock import ServerClock
from .slots import Slots
from .timer import Timer

CLAIM_TASKS = 250
"""Most tasks in one claim of one partition."""
PROBE_TASKS = 16
"""Most slots that are reserved for a partition that had nothing more to give last time; the least are `LEAST_TASKS`. So
many partitions with few tasks fit one round trip. A partition that had more gets twice as many slots the next time, and
`GROWTH` times as many after a full probe, up to `CLAIM_TASKS`. So a flood is soon claimed in hundreds."""
LEAST_TASKS = 2
GROWTH = 8
CLAIM_BYTES = 2 * 1024 * 1024
_NUDGE_SECONDS = 0.05
_POSTPONE_MS = 1000.0
"""How long a partition whose claim failed is left alone: it may be damaged, and must not be in the way of others."""
_LAST_CLAIM_SECONDS = 12.0
"""How long a stop waits for the claim that is under way: longer than the transport waits, its repetition included."""


class Claimer:
    """Claims from the partitions of one instance, as soon as their time has come and slots are free."""

    def __init__(self, instance: str, context: Context, roster: Roster, slots: Slots, claims: Claims) -> None:
        self.instance = instance
        self.server = ServerClock()
        self.before_rest: Callable[[], None] | None = None
        """Called whenever there is nothing to claim for now."""
        self._context = context
        self._clock = ClockWatch(instance, context)
        self._partitions = {partition.number: partition for partition in context.layout.of_instance(instance)}
        self._roster = roster
        self._slots = slots
        self._claims = claims
        self._execute = context.execute
        self._runtime = context.runtime
        self._lease_ms = context.options.lease_ms
        self._times = DueTimes(self._partitions, roster)
        # What to reserve for partitions that had more to give than was asked for.
        self._appetite: dict[int, int] = {}
        self._refusals: dict[int, bytes] = {}
        self._next_look = 0.0
        self._nudged: dict[int, float] = {}
        self._sleeper: asyncio.Future[None] | None = None
        self._timer: Timer | None = None
        self._awake = False
        self._behind = False
        self._stopping = False
        self._claiming: asyncio.Future[None] | None = None
        self.starved = False
        """Whether something is due here and there was no slot for it."""

    @property
    def is_behind(self) -> bool:
        """Whether more is due than could be claimed so far, and the next claim follows at once.

        When nothing is left to claim, it calls `before_rest`.
        """
        return self._behind and self._sleeper is None and not self._stopping

    # -- hints -------------------------------------------------------------------------------------------------------

    def hint(self, partition: int, due_ms: float) -> None:
        """Something in `partition` is due at `due_ms`."""
        if self._times.hint(partition, due_ms):
            self.wake()

    def look_soon(self) -> None:
        """Hints may have been missed, or ranks have changed: the next times of all partitions are read soon."""
        self._next_look = 0.0
        self.wake()

    def wake(self) -> None:
        self._awake = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def stop(self) -> None:
        """Claims no more. Waits for a claim that is under way; its tasks are handed over as usual."""
        self._stopping = True
        self.wake()
        if self._claiming is not None:
            await asyncio.wait([self._claiming], timeout=_LAST_CLAIM_SECONDS)

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claims until it is cancelled. No error ends it."""
        self._timer = Timer(self.wake, self._runtime.kernel_timers)
        try:
            await self._run()
        finally:
            self._timer.close()

    async def _run(self) -> None:
        backoff = Backoff(self._runtime, self._lease_ms)
        while not self._stopping and not is_cancelled():
            try:
                self._awake = False
                if self._runtime.monotonic() >= self._next_look:
                    await self._look()
                elif ready := self._times.ready(self._now_ms(), suspects=self._slots.takes_suspects):
                    await self._claim(ready)
                    await asyncio.sleep(0)  # the claimed runs begin, and short ones free their slots
                else:
                    await self._sleep(self.server.at(self._times.earliest(suspects=self._slots.takes_suspects)))
                backoff.reset()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._context.report(self.instance, error)
                self._next_look = 0.0
                await asyncio.sleep(backoff.next())

    async def _look(self) -> None:
        """Reads the next times of all partitions, in one command."""
        partitions = list(self._partitions.values())
        if not partitions:
            self._next_look = NEVER
            return
        self._times.ask()
        sent = self._runtime.monotonic()
        [reply] = await self._execute([calls.look(partitions, self._runtime.script_now(), forgets=True)], "claim")
        look = calls.read_look(reply)
        now = self._runtime.monotonic()
        self._learn_time(look.now_us, sent, now)
        self._clock.note_server(now)
        # Often enough to know of every lease before it lapses. Spread, so that workers that started
        # together do not look together for ever.
        pause = self._runtime.routine(min(self._context.options.check_tasks_every_seconds, self._lease_ms / 2000))
        self._next_look = now + pause * self._runtime.random.uniform(0.8, 1)
        for partition, times in zip(partitions, look.partitions, strict=True):
            self._note_refusal(partition.number, times.refusal)
            self._times.learn(partition.number, times.due, times.lapse)

    def _note_refusal(self, number: int, refusal: bytes) -> None:
        """Tells once that a partition cannot be used, and why: it moved, is absent (its data was lost), or damaged."""
        if refusal != self._refusals.get(number, b""):
            self._refusals[number] = refusal
            if refusal:
                details = {"instance": self.instance, "partition": number, "reason": refusal.decode()}
                self._context.log.write("error", "a partition cannot be used", **details)

    def _learn_time(self, server_us: int, left: float, received: float) -> None:
        self.server.learn(server_us, left, received)
        self._clock.learn(server_us, left, received)

    def _now_ms(self) -> float:
        """The time by the clock of the server, as far as it is known."""
        return self.server.ms(self._runtime.monotonic())

    async def _sleep(self, until: float) -> None:
        until = min(until, self._next_look)
        if self._awake:
            return
        assert self._timer is not None
        self._sleeper = asyncio.get_running_loop().create_future()
        if self.before_rest is not None:
            self.before_rest()
        self._timer.set(min(max(0.0, until - self._runtime.monotonic()), 3600.0))
        try:
            await self._sleeper
        finally:
            self._sleeper = None
        self.server.awake(until)

    async def _claim(self, ready: list[int]) -> None:
        """Claims, in one round trip, from the partitions that are longest overdue, as many tasks as there are slots."""
        chosen = self._shares(ready)
        if not chosen:
            self.starved = True
            await self._pass_on(ready)
            if not self._awake:
                await self._sleep(self._next_look)
            return
        self.starved = False
        requests = self._requests(chosen)
        self._times.ask()
        sent = self.server.leave(self._runtime.monotonic())
        self._claiming = asyncio.get_running_loop().create_future()
        try:
            replies = await self._execute(requests, "claim")
        except BaseException:
            self._slots.give_back(sum(limit for _, limit in chosen))
            raise
        finally:
            # Who waits for this goes on in the next turn of the loop. By then the replies are handed over.
            self._claiming.set_result(None)
            self._claiming = None
        received = self._runtime.monotonic()
        lost: PartitionUnavailable | None = None
        for (number, limit), reply in zip(chosen, replies, strict=True):
            try:
                failure = self._take(number, limit, reply, sent, received)
            except Exception as error:  # the slots and the tasks of the other partitions must not be lost
                failure = error
            if isinstance(failure, PartitionUnavailable) and not failure.refused:
                lost = failure
            elif failure is not None:
                # It is this partition that fails: it is asked again later, and the others go on.
                self._times.postpone(number, self._now_ms() + _POSTPONE_MS)
                self._context.report(self.instance, failure)
        self._behind = len(chosen) < len(ready) or bool(self._appetite)
        if lost is not None:
            raise lost

    def _requests(self, chosen: Sequence[tuple[int, int]]) -> list[Command]:
        """The calls that claim from partitions, each with its number of slots."""
        suspects = 1 if self._slots.takes_suspects else 0
        requests = []
        for number, limit in chosen:
            partition, now = self._partitions[number], self._runtime.script_now()
            is_first = self._roster.rank(number) == 0
            requests.append(
                calls.claim(partition, now, limit, self._lease_ms, suspects, CLAIM_BYTES, is_first=is_first)
            )
            self._times.unblock(number)
            # Suspects run alone: only one partition of a round may give one.
            if suspects and self._times.lapsed(number, self._now_ms()):
                suspects = 0
        return requests

    def _shares(self, ready: list[int]) -> list[tuple[int, int]]:
        """Reserves slots for partitions, for the longest overdue first: partition and number of slots."""
        light = sum(number not in self._appetite for number in ready)
        wanted = [self._appetite.get(number, PROBE_TASKS) for number in ready]
        free = self._slots.reserve(sum(wanted))
        probe = max(LEAST_TASKS, min(PROBE_TASKS, free // light)) if light else 0
        chosen: list[tuple[int, int]] = []
        for number in ready:
            share = min(free, self._appetite.get(number, probe))
            if not share:
                break
            chosen.append((number, share))
            free -= share
        if free:
            self._slots.give_back(free)
        return chosen

    def _take(self, number: int, limit: int, reply: Reply, sent: float, received: float) -> Exception | None:
        """Hands over what one claim returned, and gives back the slots that it did not need."""
        try:
            claimed = calls.read_claim(self._partitions[number], reply)
        except PartitionUnavailable as error:
            self._slots.give_back(limit)
            return error
        except TopologyMismatch:
            self._slots.give_back(limit)
            self._times.forget(number)
            return PartitionUnavailable(self.instance, f"partition {number} is not there", refused=True)
        count = claimed.count
        now_ms = claimed.now_us // 1000
        self._learn_time(claimed.now_us, sent, received)
        self._times.learn(number, claimed.due, claimed.lapse)
        if count < limit and self._times.lapsed(number, now_ms):
            self._times.block(number)
        if count == limit:
            self._appetite[number] = min(CLAIM_TASKS, (GROWTH if limit >= PROBE_TASKS else 2) * limit)
        else:
            self._appetite.pop(number, None)
        self._slots.give_back(limit - count)
        deadline = sent + self._lease_ms / 1000
        if count:
            self._claims.take(self._partitions[number], claimed.entries, now_ms, deadline)
        return None

    async def _pass_on(self, ready: list[int]) -> None:
        """All slots are taken and work is due: now and then, tells one other worker, which may have free slots."""
        other = self._roster.other()
        now = self._runtime.monotonic()
        number = ready[0]
        if other is None or now - self._nudged.get(number, 0.0) < _NUDGE_SECONDS:
            return
        self._nudged[number] = now
        due = self._times.next(number)
        request = calls.nudge(self.instance, self._context.layout.namespace, other, number, due)
        await self._execute([request], "claim")
