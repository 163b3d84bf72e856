"""The worker itself: wires claimers, runners, settlers and leases together, and starts and stops them."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from ..core.definition import UNREAD, decode_body, prepare, task_id_of
from ..core.record import parse_header, split_record
from ..core.settlement import SUSPECT_STRIKES, End, Outcome, Settlement, Start, Successor, begin
from ..model.errors import (
    CorruptRecord,
    HandlerVerdict,
    InvalidOptions,
    InvalidTask,
    PartitionUnavailable,
    SchedulerError,
)
from ..model.events import Event, Events
from ..model.options import Options
from ..model.task import Task
from ..model.times import to_datetime
from ..protocol import calls, keys
from ..protocol.commands import Partition
from ..protocol.topology import Layout
from ..servers.monitor import Monitor
from ..support.cancellation import cancel_all
from ..support.log import Log
from ..support.runtime import Runtime
from ..transport.aio import AsyncTransport
from ..transport.blocking import BlockingTransport
from ..transport.endpoint import Endpoint
from .claimer import Claimer
from .handlers import (
    CANCELLED,
    CoroutineRunners,
    Handler,
    Runner,
    ThreadRunners,
    check_handler,
    is_coroutine_function,
    on_loop,
)
from .leases import LeaseKeeper
from .roster import Roster
from .run import Run, calling_run
from .settler import Settler

Confirm = Literal["auto", "manual"]
_RELEASE_DELAY_MS = 2000
"""How long a task that this worker cannot handle waits for one that can."""
_UNSETTLED = 1000
_UNSETTLED_PER_SLOT = 4
"""Ended runs, and those per slot, that may wait to be settled before claiming pauses, so that memory stays flat."""


class Worker:
    """Runs a handler for due tasks, on the running event loop, from `start` to `stop`."""

    def __init__(
        self,
        layout: Layout,
        options: Options,
        endpoints: Mapping[str, Endpoint],
        monitor: Monitor,
        events: Events,
        log: Log,
        runtime: Runtime,
        handler: Handler,
        confirm: Confirm = "auto",
    ) -> None:
        check_handler(handler)
        if confirm not in ("auto", "manual"):
            raise InvalidOptions([f"confirm is {confirm!r}: use 'auto' or 'manual'"])
        self.id = f"{socket.gethostname()}-{os.getpid()}-{runtime.random_id()}"
        self._layout = layout
        self._options = options
        self._monitor = monitor
        self._events = events
        self._log = log
        self._runtime = runtime
        self._manual = confirm == "manual"
        self._loss_detector = endpoints[layout.master].loss_detector
        self._transport = AsyncTransport(endpoints)
        self._lease_transport = BlockingTransport(endpoints, options.lease_ms / 1000 / 6)
        self._loop = asyncio.get_running_loop()
        self._runs: set[Run] = set()
        self._active = 0
        self._reserved = 0
        self._unsettled = 0
        self._suspect: Run | None = None
        self._concurrency = options.concurrency
        self._waking = False
        self._stopping = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        if not runtime.threads and not is_coroutine_function(handler):
            handler = on_loop(handler)
        kind = CoroutineRunners if is_coroutine_function(handler) else ThreadRunners
        self._runner: Runner = kind(handler, self._started, self._ended)
        self._keepers = {name: self._keeper(name) for name in layout.instances}
        self._roster = Roster(
            self.id,
            layout.master,
            layout.namespace,
            self._transport.execute,
            runtime,
            self._ranks_changed,
            self._failed,
        )
        self._claimers = {name: self._claimer(name) for name in layout.instances}
        self._settlers = {name: self._settler(name) for name in layout.instances}
        self._subscribing: set[asyncio.Task[None]] = set()

    def _keeper(self, instance: str) -> LeaseKeeper:
        return LeaseKeeper(
            instance,
            self._lease_transport,
            self._runtime,
            self._options.lease_ms,
            self._live_runs,
            self._lease_lost,
            self._failed_in_thread,
        )

    def _live_runs(self) -> set[Run]:
        """The runs whose leases to keep. Called in the threads of the keepers."""
        runs = self._runs.copy()
        # Where the loop has ended, nobody is left to finish or to report a run, but for a thread that is still in it.
        return runs if self._loop.is_running() else {run for run in runs if run.in_thread}

    def _claimer(self, instance: str) -> Claimer:
        return Claimer(
            instance,
            self._layout.namespace,
            self._layout.of_instance(instance),
            self._roster,
            self._transport.execute,
            self._runtime,
            self._log,
            self._options.lease_ms,
            self._options.check_tasks_every_seconds,
            self._reserve,
            self._give_back,
            lambda: self._suspect is None,
            self._claimed,
            lambda: self._settlers[instance].flush(),
            self._failed,
        )

    def _settler(self, instance: str) -> Settler:
        claimer = self._claimers[instance]
        return Settler(
            self._transport.execute,
            self._runtime,
            self._log,
            self._options.lease_ms,
            lambda: int(self._runtime.script_now() or claimer.server.now_ms(self._runtime.monotonic())),
            self._settled,
            self._refused,
            claimer.hint,
            lambda: claimer.is_behind,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing that was claimed is left to run or to settle."""
        return not (self._active or self._reserved or self._unsettled)

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to claim, and to listen to hints; whatever is missed before they are heard is looked for."""
        await self._roster.beat()
        await self._subscribe()
        self._tasks = [self._loop.create_task(claimer.run()) for claimer in self._claimers.values()]
        for keeper in self._keepers.values():
            if self._runtime.threads:
                keeper.start()
            else:
                self._tasks.append(self._loop.create_task(keeper.run(self._transport.execute)))
        self._tasks.append(self._loop.create_task(self._roster.run()))
        self._events.emit("ready", Event("ready", {"worker": self.id}))

    async def stop(self, grace: float | None = None) -> None:
        """Claims no more, gives back what has not begun, and waits up to `grace` seconds for running handlers.

        What still runs after that keeps its lease until the process ends.
        """
        self._stopping = True
        # A claim that is under way brings tasks that must be given back.
        await asyncio.gather(*(claimer.stop() for claimer in self._claimers.values()))
        await cancel_all([*self._tasks, *self._subscribing])
        for run in self._runner.withdraw():
            self._finish(run, Outcome(End.RELEASED))
        deadline = None if grace is None else self._loop.time() + grace
        await self._until(self._idle.wait(), deadline)
        # What has ended is reported even without grace, as long as the instances answer within a moment.
        settle_by = max(deadline or 0.0, self._loop.time() + 5.0)
        for settler in self._settlers.values():
            await self._until(settler.drain(), settle_by)
        for instance in self._layout.instances:
            await self._monitor.subscribe(instance, (), _ignore, _nothing)
        await self._until(self._roster.leave(), self._loop.time() + 5.0)
        if self._active:
            return  # the keeper goes on for what still runs, and the loop takes its end, if the process lasts
        for settler in self._settlers.values():
            settler.cancel()
        self._runner.close()
        for keeper in self._keepers.values():
            keeper.stop()
        for keeper in self._keepers.values():
            await asyncio.to_thread(keeper.join)
        self._lease_transport.close()
        await self._transport.close()

    def refuse_to_wait_for_itself(self) -> None:
        """To be called by what waits for running handlers to end.

        Raises:
            SchedulerError: in such a handler, which would wait for itself.
        """
        run = calling_run()
        if run in self._runs:
            raise SchedulerError(
                f"the handler of {run.task_id!r} asked the scheduler to stop and wait for that very handler: let it "
                "tell somebody outside, such as a thread that waits for an event."
            )

    async def _until(self, waiting: Any, deadline: float | None) -> None:
        timeout = None if deadline is None else max(0.0, deadline - self._loop.time())
        try:
            await asyncio.wait_for(waiting, timeout)
        except TimeoutError:
            return

    @property
    def concurrency(self) -> int:
        return self._concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._concurrency = value
        self._wake_starved()

    # -- hints -------------------------------------------------------------------------------------------------------

    async def _subscribe(self) -> None:
        namespace = self._layout.namespace
        for instance, claimer in self._claimers.items():
            channels = {keys.any_hint_channel(namespace), keys.worker_channel(namespace, self.id)}
            heard = claimer.look_soon
            if instance == self._layout.master:
                channels.add(keys.workers(namespace))
                heard = self._look_around
            # The first in line for a partition hears its hints, and the second one, who stands in.
            channels |= {
                keys.hint_channel(namespace, partition.number)
                for partition in self._layout.of_instance(instance)
                if self._roster.rank(partition.number) <= 1
            }
            await self._monitor.subscribe(instance, channels, self._receiver(claimer), heard)

    def _look_around(self) -> None:
        """Hints of the master instance may have been missed, and news of other workers."""
        self._claimers[self._layout.master].look_soon()
        self._roster.news()

    def _receiver(self, claimer: Claimer) -> Callable[[str, bytes], None]:
        news = keys.workers(self._layout.namespace)

        def receive(channel: str, message: bytes) -> None:
            first, _, second = message.partition(b" ")
            if channel == news:
                self._roster.news()
            elif second:
                claimer.hint(int(first), float(second))
            else:
                claimer.hint(keys.partition_of_hint(channel), float(first))

        return receive

    def _ranks_changed(self) -> None:
        if self._tasks and not self._stopping:
            task = self._loop.create_task(self._subscribe())
            self._subscribing.add(task)
            task.add_done_callback(self._subscribing.discard)
            for claimer in self._claimers.values():
                claimer.look_soon()

    # -- slots -------------------------------------------------------------------------------------------------------

    def _reserve(self, wanted: int) -> int:
        """Grants free slots, leaving a share to other instances that wait for some."""
        free = self._concurrency - self._active - self._reserved
        free = min(free, self._unsettled_room)
        starved = sum(claimer.starved for claimer in self._claimers.values())
        if starved > 1:
            free = -(-free // starved)
        granted = max(0, min(wanted, free))
        self._reserved += granted
        return granted

    @property
    def _unsettled_room(self) -> int:
        return _UNSETTLED + self._concurrency * _UNSETTLED_PER_SLOT - self._unsettled

    def _give_back(self, unused: int) -> None:
        self._reserved -= unused
        if unused and any(claimer.starved for claimer in self._claimers.values()):
            self._wake_starved()

    def _wake_starved(self) -> None:
        # Once a loop turn, however many runs ended in it.
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake_now)

    def _wake_now(self) -> None:
        self._waking = False
        for claimer in self._claimers.values():
            claimer.wake()

    # -- runs --------------------------------------------------------------------------------------------------------

    def _claimed(self, partition: Partition, entries: Sequence[bytes], now_ms: int, deadline: float) -> None:
        """Takes what one claim gave out: ids and records in turn."""
        self._reserved -= len(entries) // 2
        token = 0
        for task_id, record in calls.pairs(entries):
            raw, body = split_record(record)
            try:
                header = parse_header(raw)
            except CorruptRecord as error:
                # There is no token to settle it with: its lease lapses, and tells again.
                self._report_unread(task_id, error)
                continue
            token = header.token
            name = task_id.decode()
            try:
                definition = decode_body(body)
                start = begin(name, header, definition, now_ms)
            except CorruptRecord as error:
                self._report_unread(task_id, error)
                definition = UNREAD
                start = Start(header.grid, header.due, Outcome(End.UNREAD, delay=_RELEASE_DELAY_MS))
            run = Run(
                name,
                header,
                definition,
                start.slot,
                now_ms,
                definition.schedule is not None,
                self,
                partition,
                task_id,
                raw,
                start.due,
                deadline,
                header.strikes >= SUSPECT_STRIKES,
            )
            self._active += 1
            self._runs.add(run)
            if start.outcome is not None:
                self._finish(run, start.outcome)
            elif self._stopping:
                self._finish(run, Outcome(End.RELEASED))
            elif run.suspect and self._suspect is not None:
                # Two that may kill the worker must not be live at once, or the innocent one is struck again.
                self._finish(run, Outcome(End.RELEASED, delay=_RELEASE_DELAY_MS))
            else:
                if run.suspect:
                    self._suspect = run
                self._runner.submit(run)
        if self._active:
            self._idle.clear()
        if token and self._loss_detector is not None:
            self._loss_detector.learn_token(partition.number, token)

    def _report_unread(self, task_id: bytes, error: CorruptRecord) -> None:
        """What this version cannot read is put back as it is, for a worker that can, as in a rolling deploy."""
        self._log.write("error", "a task cannot be read here", id=task_id.decode(), error=str(error))
        self._events.emit("error", Event("error", {"error": error, "where": task_id.decode()}))

    def _started(self, run: Run) -> None:
        if self._events.wanted("task-started"):
            details = {"id": run.task_id, "due": to_datetime(run.due), "attempt": run.header.attempt + 1}
            self._events.emit("task-started", Event("task-started", details | {"fencing_token": run.header.token}))

    def _ended(self, run: Run, outcome: Outcome) -> None:
        if outcome is CANCELLED and any(task.cancelling() for task in self._tasks):
            # The end of a loop cancels all its tasks, the worker's own too: a shutdown, which costs no attempt. A
            # handler that cancels itself fails, or it would be released, and run again, for ever.
            outcome = Outcome(End.RELEASED)
        if self._manual and outcome.end is End.DONE:
            outcome = Outcome(End.UNCONFIRMED)
        if outcome.end is End.DONE and run.successor is not None:
            outcome = replace(outcome, successor=run.successor)
        if outcome.end is End.FAILED:
            # What a handler said on purpose needs no traceback.
            trace = None if isinstance(outcome.exception, HandlerVerdict) else outcome.exception
            self._log.write("warning", "a handler failed", id=run.task_id, error=outcome.error, exc_info=trace)
        self._finish(run, outcome)

    def _finish(self, run: Run, outcome: Outcome) -> None:
        """Frees the slot of a run; its end is reported in the background."""
        self._active -= 1
        if not self._active:
            self._idle.set()
        if self._suspect is run:
            self._suspect = None
        self._unsettled += 1
        run.outcome = outcome
        if run.lost:
            self._refused(run)
        else:
            self._settlers[run.partition.instance].add(run)
        self._wake_starved()

    def _settled(self, run: Run, settlement: Settlement) -> None:
        self._forget(run)
        outcome = run.outcome
        assert outcome is not None
        if outcome.end is End.DONE and not self._events.wanted("task-done"):
            return
        if outcome.end in (End.RELEASED, End.UNREAD, End.UNCONFIRMED):
            return
        name = f"task-{settlement.what}"
        if self._events.wanted(name):
            details = {"id": run.task_id, "attempt": run.header.attempt + 1}
            if name != "task-done":
                details |= {"error": outcome.error, "exception": outcome.exception}
            self._events.emit(name, Event(name, details))
        if settlement.dead:
            self._log.write("error", "a task was given up", id=run.task_id, error=outcome.error)

    def _refused(self, run: Run) -> None:
        self._forget(run)
        self._log.write("warning", "the outcome of a run was dropped", id=run.task_id, token=run.header.token)
        details = {"id": run.task_id, "fencing_token": run.header.token}
        self._events.emit("lease-lost", Event("lease-lost", details))

    def _forget(self, run: Run) -> None:
        self._runs.discard(run)
        self._unsettled -= 1
        if self._unsettled_room == 1:
            # Claiming may have paused for want of it, and there need be no other run whose end would wake it.
            self._wake_starved()

    def _lease_lost(self, run: Run) -> None:
        """Called in the keeper's thread: a coroutine is cancelled, a plain function can ask `lease_lost`."""
        if run.owner is not None and not run.in_thread:
            self._loop.call_soon_threadsafe(run.cancel)

    # -- what handlers ask for, in their threads too -----------------------------------------------------------------

    def lease_deadline(self, run: Run) -> datetime:
        return datetime.fromtimestamp(self._runtime.time() + run.deadline - self._runtime.monotonic(), UTC)

    def extend(self, run: Run, seconds: float | timedelta | None) -> bool:
        return self._keepers[run.partition.instance].extend(run, seconds)

    def successor(self, run: Run, task: Task) -> Successor:
        if self._manual:
            raise SchedulerError(
                'continue_as() needs confirm="auto": a run that is confirmed by hand ends apart from its handler; '
                "assign the task instead."
            )
        if task_id_of(task) != run.raw_id:
            raise InvalidTask(type(task).__name__, "id", f"is not that of the run, {run.task_id!r}", "keep the id")
        now = int(self._runtime.script_now() or math.ceil(self._runtime.time() * 1000))
        _, when, delay, body = prepare(task, self._options.max_payload_bytes, lambda: now)
        slot = int(when[1:] or now)
        return Successor(slot, slot + int(delay or 0), self._runtime.random_id(), body)

    def _failed(self, instance: str, error: Exception) -> None:
        if not isinstance(error, PartitionUnavailable):
            self._log.write("error", "something failed and is tried again", instance=instance, error=repr(error))
        self._events.emit("error", Event("error", {"error": error, "where": instance}))

    def _failed_in_thread(self, instance: str, error: Exception) -> None:
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._failed, instance, error)


def _ignore(_channel: str, _message: bytes) -> None:
    """Hints are of no use to a worker that stops."""


def _nothing() -> None:
    """Reconnects are of no use to a worker that stops."""
