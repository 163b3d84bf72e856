"""Claiming what is due on one instance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..model.errors import PartitionUnavailable, TopologyMismatch
from ..protocol import calls
from ..protocol.commands import Partition, Reply
from ..support.cancellation import is_cancelled
from ..support.log import Log
from ..support.runtime import Runtime
from .backoff import Backoff
from .roster import Roster
from .server_clock import ServerClock
from .settler import Execute
from .timer import Timer

CLAIM_TASKS = 250
"""Most tasks in one claim of one partition."""
PROBE_TASKS = 16
"""What is reserved at most for a partition that left nothing behind last time, and at least `LEAST_TASKS`: so that many
light ones fit one round trip. One that had more gets twice as much the next time, and `GROWTH` times as much after a
full probe, up to `CLAIM_TASKS`: a flood is soon taken in hundreds, and a handful in many places in few rounds."""
LEAST_TASKS = 2
GROWTH = 8
CLAIM_BYTES = 2 * 1024 * 1024
_NUDGE_SECONDS = 0.05
_NEVER = float("inf")
_LAST_CLAIM_SECONDS = 12.0
"""How long a stop waits for the claim that is under way: longer than the transport does, repeats and all."""


class Claimer:
    """Looks after the partitions of one instance: knows their next times, and claims from those whose time has come."""

    def __init__(
        self,
        instance: str,
        namespace: str,
        partitions: Sequence[Partition],
        roster: Roster,
        execute: Execute,
        runtime: Runtime,
        log: Log,
        lease_ms: int,
        check_seconds: float,
        reserve: Callable[[int], int],
        give_back: Callable[[int], None],
        suspect_allowed: Callable[[], bool],
        claimed: Callable[[Partition, Sequence[bytes], int, float], None],
        rests: Callable[[], None],
        report: Callable[[str, Exception], None],
    ) -> None:
        """`reserve(n)` grants up to n free slots and `give_back(n)` returns unused ones; `claimed(partition,
        entries, now_ms, deadline)` takes tasks over, ids and records in turn, on slots that were reserved. `rests()`
        is called whenever there is nothing to claim for now."""
        self.instance = instance
        self.server = ServerClock()
        self._namespace = namespace
        self._partitions = {partition.number: partition for partition in partitions}
        self._roster = roster
        self._execute = execute
        self._runtime = runtime
        self._log = log
        self._lease_ms = lease_ms
        self._check_seconds = check_seconds
        self._reserve = reserve
        self._give_back = give_back
        self._suspect_allowed = suspect_allowed
        self._claimed = claimed
        self._rests = rests
        self._report = report
        self._due: dict[int, float] = {}
        self._lapse: dict[int, float] = {}
        # When to claim from each partition, in ms by the server's clock. It follows from these two, and is asked for
        # several times a run.
        self._times: dict[int, float] = {}
        # Hints that came while a question was under way: its answer may be older than they are, and must not undo them.
        self._hinted: dict[int, float] = {}
        # What to reserve for partitions that had more to give than was asked for.
        self._appetite: dict[int, int] = {}
        # Partitions whose lapsed runs are all suspects, which have to wait for the one that is running.
        self._blocked: set[int] = set()
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
        """Whether more is due than could be claimed so far, and this is about to go on. When that is over it tells."""
        return self._behind and self._sleeper is None and not self._stopping

    # -- hints -------------------------------------------------------------------------------------------------------

    def hint(self, partition: int, due_ms: float) -> None:
        """Something in `partition` is due at `due_ms`."""
        if partition not in self._partitions:
            return
        self._hinted[partition] = min(due_ms, self._hinted.get(partition, _NEVER))
        if due_ms < self._due.get(partition, _NEVER):
            self._due[partition] = due_ms
            self._reckon(partition)
            self.wake()

    def look_soon(self) -> None:
        """Hints may have been missed, or ranks have changed: read the next times of all partitions."""
        self._next_look = 0.0
        self.wake()

    def wake(self) -> None:
        self._awake = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def stop(self) -> None:
        """Claims no more. Waits for a claim that is under way, whose tasks are handed over as ever."""
        self._stopping = True
        self.wake()
        if self._claiming is not None:
            await asyncio.wait([self._claiming], timeout=_LAST_CLAIM_SECONDS)

    # -- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Claims until cancelled. No error ends it."""
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
                elif ready := self._ready():
                    await self._claim(ready)
                    await asyncio.sleep(0)  # what was claimed begins, and what is short frees its slot
                else:
                    await self._sleep(self._wake_time())
                backoff.reset()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._report(self.instance, error)
                self._next_look = 0.0
                await asyncio.sleep(backoff.next())

    async def _look(self) -> None:
        """Reads the next times of all partitions, in one command."""
        partitions = list(self._partitions.values())
        if not partitions:
            self._next_look = _NEVER
            return
        self._hinted.clear()
        sent = self._runtime.monotonic()
        [reply] = await self._execute([calls.look(partitions, self._runtime.script_now(), forgets=True)], "claim")
        look = calls.read_look(reply)
        now = self._runtime.monotonic()
        self.server.learn(look.now_us, sent, now)
        # Often enough to know every lease before it lapses; spread, so that workers started together do not look
        # together for ever.
        pause = self._runtime.routine(min(self._check_seconds, self._lease_ms / 2000))
        self._next_look = now + pause * self._runtime.random.uniform(0.8, 1)
        for partition, times in zip(partitions, look.partitions, strict=True):
            if times.refusal:
                self._log.write("error", "a partition is gone", instance=self.instance, partition=partition.number)
            self._learn(partition.number, times.due, times.lapse)

    def _learn(self, partition: int, due: float | None, lapse: float | None) -> None:
        for known, value in ((self._due, due), (self._lapse, lapse)):
            if value is not None:
                known[partition] = value
            else:
                known.pop(partition, None)
        hinted = self._hinted.get(partition)
        if hinted is not None and hinted < self._due.get(partition, _NEVER):
            self._due[partition] = hinted
        self._reckon(partition)

    def _reckon(self, partition: int) -> None:
        """Takes over what became known of a partition, or of this worker's rank for it."""
        time = min(self._due.get(partition, _NEVER), self._lapse.get(partition, _NEVER))
        if time < _NEVER:
            self._times[partition] = time + 1000 * self._roster.delay(partition)
        else:
            self._times.pop(partition, None)

    def _claim_times(self) -> dict[int, float]:
        """When this worker should claim from each partition, in ms by the server's clock."""
        if not self._blocked or self._suspect_allowed():
            return self._times
        times = {number: time for number, time in self._times.items() if number not in self._blocked}
        for number in self._blocked & self._due.keys():
            times[number] = self._due[number] + 1000 * self._roster.delay(number)
        return times

    def _ready(self) -> list[int]:
        """The partitions whose time has come, the longest overdue first."""
        times, now = self._claim_times(), self.server.ms(self._runtime.monotonic())
        if min(times.values(), default=_NEVER) > now:
            return []
        return [number for _, number in sorted((time, number) for number, time in times.items() if time <= now)]

    def _wake_time(self) -> float:
        return self.server.at(min(self._claim_times().values(), default=_NEVER))

    async def _sleep(self, until: float) -> None:
        until = min(until, self._next_look)
        if self._awake:
            return
        assert self._timer is not None
        self._sleeper = asyncio.get_running_loop().create_future()
        self._rests()
        self._timer.set(min(max(0.0, until - self._runtime.monotonic()), 3600.0))
        try:
            await self._sleeper
        finally:
            self._sleeper = None
        self.server.awake(until)

    async def _claim(self, ready: list[int]) -> None:
        """One round trip: claims from the oldest partitions, as far as free slots go."""
        chosen = self._shares(ready)
        if not chosen:
            self.starved = True
            await self._pass_on(ready)
            if not self._awake:
                await self._sleep(self._next_look)
            return
        self.starved = False
        suspects = 1 if self._suspect_allowed() else 0
        requests = []
        for number, limit in chosen:
            partition = self._partitions[number]
            is_first = self._roster.rank(number) == 0
            now = self._runtime.script_now()
            requests.append(
                calls.claim(partition, now, limit, self._lease_ms, suspects, CLAIM_BYTES, is_first=is_first)
            )
            self._blocked.discard(number)
            # Suspects run alone: only one partition of a round may give one.
            if suspects and self._is_lapsed(number):
                suspects = 0
        self._hinted.clear()
        sent = self.server.leave(self._runtime.monotonic())
        self._claiming = asyncio.get_running_loop().create_future()
        try:
            replies = await self._execute(requests, "claim")
        except BaseException:
            self._give_back(sum(limit for _, limit in chosen))
            raise
        finally:
            # Whoever waits for this goes on in the next turn of the loop, when the replies were handed over.
            self._claiming.set_result(None)
            self._claiming = None
        received = self._runtime.monotonic()
        failure: Exception | None = None
        for (number, limit), reply in zip(chosen, replies, strict=True):
            try:
                failure = self._take(number, limit, reply, sent, received) or failure
            except Exception as error:  # the slots and the tasks of the other partitions must not be lost with it
                failure = error
        self._behind = len(chosen) < len(ready) or bool(self._appetite)
        if failure is not None:
            raise failure

    def _shares(self, ready: list[int]) -> list[tuple[int, int]]:
        """Reserves slots for partitions, those that are longest overdue first, as far as there are any."""
        light = sum(number not in self._appetite for number in ready)
        wanted = [self._appetite.get(number, PROBE_TASKS) for number in ready]
        free = self._reserve(sum(wanted))
        probe = max(LEAST_TASKS, min(PROBE_TASKS, free // light)) if light else 0
        chosen: list[tuple[int, int]] = []
        for number in ready:
            share = min(free, self._appetite.get(number, probe))
            if not share:
                break
            chosen.append((number, share))
            free -= share
        if free:
            self._give_back(free)
        return chosen

    def _is_lapsed(self, number: int) -> bool:
        lapse = self._lapse.get(number)
        return lapse is not None and self.server.at(lapse) <= self._runtime.monotonic()

    def _take(self, number: int, limit: int, reply: Reply, sent: float, received: float) -> Exception | None:
        """Hands over what one claim returned, and gives back the slots it did not need."""
        try:
            claimed = calls.read_claim(self._partitions[number], reply)
        except PartitionUnavailable as error:
            self._give_back(limit)
            return error
        except TopologyMismatch:
            self._give_back(limit)
            self._due.pop(number, None)
            self._lapse.pop(number, None)
            self._times.pop(number, None)
            return PartitionUnavailable(self.instance, f"partition {number} is not there")
        count = claimed.count
        now_ms = claimed.now_us // 1000
        self.server.learn(claimed.now_us, sent, received)
        self._learn(number, claimed.due, claimed.lapse)
        if count < limit and self._lapse.get(number, _NEVER) <= now_ms:
            self._blocked.add(number)
        if count == limit:
            self._appetite[number] = min(CLAIM_TASKS, (GROWTH if limit >= PROBE_TASKS else 2) * limit)
        else:
            self._appetite.pop(number, None)
        self._give_back(limit - count)
        deadline = sent + self._lease_ms / 1000
        if count:
            self._claimed(self._partitions[number], claimed.entries, now_ms, deadline)
        return None

    async def _pass_on(self, ready: list[int]) -> None:
        """Every slot is taken and work is due: tells one other worker, who may have slots, now and then."""
        other = self._roster.other()
        now = self._runtime.monotonic()
        number = ready[0]
        if other is None or now - self._nudged.get(number, 0.0) < _NUDGE_SECONDS:
            return
        self._nudged[number] = now
        due = self._due.get(number, self._lapse.get(number, 0))
        request = calls.nudge(self.instance, self._namespace, other, number, due)
        await self._execute([request], "claim")
