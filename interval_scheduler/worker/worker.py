"""The worker: makes the objects that claim, run, settle and keep leases, and starts and stops them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any, Literal

from ..model.errors import InvalidOptions, SchedulerError
from ..model.events import Event, Events
from ..model.options import Options
from ..protocol.topology import Layout
from ..servers.monitor import Monitor
from ..support.cancellation import cancel_all
from ..support.log import Log
from ..support.runtime import Runtime
from ..support.threads import in_thread
from ..transport.aio import AsyncTransport
from ..transport.blocking import BlockingTransport
from ..transport.endpoint import Endpoint
from .claimer import Claimer
from .claims import Claims
from .context import Context
from .handlers import Handler, check_handler
from .hints import Hints
from .host import WorkerHost
from .leases import LeaseKeeper
from .roster import Roster
from .run import calling_run
from .settler import Settler
from .slots import Slots
from .zone_watch import ZoneWatch, with_version

Confirm = Literal["auto", "manual"]
_SETTLE_SECONDS = 5.0
"""How long a stop without grace waits for reports, and for the farewell of this worker."""


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
        zone_data = runtime.zone_data()
        self.id = with_version(f"{socket.gethostname()}-{os.getpid()}-{runtime.random_id()}", zone_data)
        self._transport = AsyncTransport(endpoints)
        self._lease_transport = BlockingTransport(endpoints, options.lease_ms / 1000 / 6)
        detector = endpoints[layout.master].loss_detector
        self._context = context = Context(
            self.id, layout, options, self._transport.execute, events, log, runtime, detector, monitor.health
        )
        self._loop = context.loop
        by_hand = confirm == "manual"
        self.slots = slots = Slots(options.concurrency)
        self._keepers: dict[str, LeaseKeeper] = {}
        host = WorkerHost(context, self._keepers, confirmed_by_hand=by_hand)
        zones = ZoneWatch(zone_data, log)
        self._claims = claims = Claims(context, slots, handler, host, zones, confirmed_by_hand=by_hand)
        self._roster = Roster(context, zones)
        self._claimers: dict[str, Claimer] = {}
        for name in layout.instances:
            claimer = self._claimers[name] = Claimer(name, context, self._roster, slots, claims)
            slots.add(claimer)
            claims.settlers[name] = Settler(context, claimer, claims)
            self._keepers[name] = LeaseKeeper(name, context, self._lease_transport, claims)
        self._hints = Hints(context, monitor, self._roster, self._claimers)

    async def start(self) -> None:
        """Begins to claim, and to listen to hints; whatever is missed before they are heard is looked for."""
        await self._roster.beat()
        await self._hints.subscribe()
        self._roster.on_change = self._hints.ranks_changed
        for claimer in self._claimers.values():
            self._context.start(claimer.run())
        for keeper in self._keepers.values():
            if self._context.runtime.threads:
                keeper.start()
            else:
                self._context.start(keeper.run())
        self._context.start(self._roster.run())
        self._context.events.emit("ready", Event("ready", {"worker": self.id}))

    async def stop(self, grace: float | None = None) -> None:
        """Claims no more, gives back what has not begun, and waits up to `grace` seconds for running handlers.

        What still runs after that keeps its lease until the process ends.
        """
        self._context.stopping = True
        # A claim that is under way brings tasks that must be given back.
        await asyncio.gather(*(claimer.stop() for claimer in self._claimers.values()))
        await cancel_all(self._context.tasks)
        self._claims.release_waiting()
        deadline = None if grace is None else self._loop.time() + grace
        await self._until(self.slots.wait_until_free(), deadline)
        # What has ended is reported even without grace, as long as the instances answer within a moment.
        settle_by = max(deadline or 0.0, self._loop.time() + _SETTLE_SECONDS)
        settlers = self._claims.settlers.values()
        for settler in settlers:
            await self._until(settler.drain(), settle_by)
        await self._hints.unsubscribe()
        await self._until(self._roster.leave(), self._loop.time() + _SETTLE_SECONDS)
        if self.slots.occupied:
            return  # the keeper goes on for what still runs, and the loop takes its end, if the process lasts
        for settler in settlers:
            settler.cancel()
        self._claims.runner.close()
        for keeper in self._keepers.values():
            keeper.stop()
        for keeper in self._keepers.values():
            await in_thread(keeper.join)
        self._lease_transport.close()
        await self._transport.close()

    async def _until(self, waiting: Any, deadline: float | None) -> None:
        timeout = None if deadline is None else max(0.0, deadline - self._loop.time())
        try:
            await asyncio.wait_for(waiting, timeout)
        except TimeoutError:
            return

    def refuse_to_wait_for_itself(self) -> None:
        """To be called by what waits for running handlers to end.

        Raises:
            SchedulerError: in such a handler, which would wait for itself.
        """
        run = calling_run()
        if run is not None and run in self._claims:
            raise SchedulerError(
                f"the handler of {run.task_id!r} asked the scheduler to stop and wait for that very handler: let it "
                "tell somebody outside, such as a thread that waits for an event."
            )
