"""What both schedulers share besides the operations: endpoints, monitor, worker, and their life on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .model.errors import AlreadyExecuting
from .model.events import Event, Events
from .model.options import Options
from .protocol import calls, keys
from .protocol.operation import Operation
from .protocol.tasks import Operations
from .protocol.topology import Layout, join
from .servers.data_loss import LossDetector
from .servers.health import Health
from .servers.inspection import Inspection
from .servers.monitor import Monitor
from .support.forks import held_back
from .support.log import Log
from .support.runtime import Runtime
from .transport.aio import AsyncTransport
from .transport.endpoint import Endpoint

if TYPE_CHECKING:
    from .worker.handlers import Handler
    from .worker.worker import Confirm, Worker


class Engine:
    """The part of a scheduler that lives on an event loop: its own in a thread, or the application's."""

    def __init__(self, options: Options, logger: Any, runtime: Runtime | None) -> None:
        self.options = options
        self.runtime = runtime or Runtime()
        self.log = Log(logger)
        self.events = Events(self.log)
        self.health = Health(options.master.name, self.events, self.log)
        reach = self.runtime.endpoint or Endpoint
        self.endpoints: dict[str, Endpoint] = {instance.name: reach(instance) for instance in options.instances}
        self.loss_detector = LossDetector(self._lost)
        inspection = Inspection(self.log, options.storage.evicting_servers)
        for instance in options.instances:
            endpoint = self.endpoints[instance.name]
            endpoint.loss_detector = self.loss_detector
            if instance.kind != "memory":  # who uses it knows what it keeps, and it has no INFO
                endpoint.inspection = inspection
        self.layout: Layout | None = None
        self.operations: Operations | None = None
        self.worker: Worker | None = None
        self._ending: Worker | None = None
        """The worker that is being stopped."""
        self._monitor = self._new_monitor()
        self._changing = asyncio.Lock()
        self._monitoring = False

    def _new_monitor(self) -> Monitor:
        return Monitor(
            self.endpoints,
            self.health,
            keys.monitor_channel(self.options.namespace),
            self.options.storage.reconnect_interval_seconds,
            self.runtime,
            self._visit,
        )

    async def _visit(self, instance: str) -> None:
        """Connects to an instance that is back, so that this process notices what was lost, even if it asks nothing."""
        transport = AsyncTransport(self.endpoints)
        try:
            await transport.execute([calls.identify(instance, self.options.namespace, give=False)])
        finally:
            await transport.close()

    def _lost(self, instance: str, partitions: Mapping[int, int]) -> None:
        lost = sum(partitions.values())
        self.log.write(
            "error", "an instance came back without writes that it had acknowledged", instance=instance, writes=lost
        )
        self.events.emit("data-loss", Event("data-loss", {"instance": instance, "partitions": dict(partitions)}))

    def join(self, *, create: bool = True) -> Operation[Operations]:
        """Reads the topology (see `protocol.topology.join`), and does the handshakes that are due then."""
        layout = yield from join(self.options, self.runtime.script_now(), create=create)
        operations = self._take(layout)
        handshakes = self.loss_detector.handshakes()
        if handshakes:
            for handshake, reply in zip(handshakes, (yield handshakes), strict=True):
                self.loss_detector.take_handshake(handshake, reply)
        return operations

    def _take(self, layout: Layout) -> Operations:
        self.loss_detector.watch(layout.partitions)
        self.layout = layout
        self.operations = Operations(layout, self.options, self.runtime)
        self.health.joined = True
        idle = [name for name in self.endpoints if name not in layout.instances and name != layout.master]
        if idle:
            self.log.write("warning", "instances own no partitions and idle until a rebalance", instances=idle)
        return self.operations

    async def watch(self) -> None:
        """Starts to watch the instances."""
        if not self._monitoring:
            self._monitoring = True
            self._monitor.start()

    async def start_worker(self, handler: Handler, confirm: Confirm) -> None:
        async with self._changing:
            if self.worker is not None:
                raise AlreadyExecuting
            assert self.layout is not None
            await self.watch()
            with held_back:
                from .worker.worker import Worker  # imported here: who only assigns need not load it

            worker = Worker(
                self.layout,
                self.options,
                self.endpoints,
                self._monitor,
                self.events,
                self.log,
                self.runtime,
                handler,
                confirm,
            )
            await worker.start()
            self.worker = worker

    async def stop_worker(self, grace: float | None) -> None:
        self.refuse_to_wait_for_itself()
        async with self._changing:
            self._ending, self.worker = self.worker, None
            try:
                if self._ending is not None:
                    await self._ending.stop(grace)
            finally:
                self._ending = None

    def refuse_to_wait_for_itself(self) -> None:
        """To be called by what waits for running handlers to end, where it is known who calls.

        Raises:
            SchedulerError: in such a handler, which would wait for itself.
        """
        for worker in (self.worker, self._ending):
            if worker is not None:
                worker.refuse_to_wait_for_itself()

    def forked(self) -> None:
        """Forgets what stayed behind in the parent of a forked process: its threads, tasks and connections."""
        self.worker = self._ending = None
        self._monitor = self._new_monitor()
        self._changing = asyncio.Lock()
        self._monitoring = False

    async def close(self) -> None:
        """Stops everything on the loop. Endpoints are closed by `release`, which blocks."""
        await self.stop_worker(None)
        await self._monitor.stop()
        self._monitoring = False

    def release(self) -> None:
        """Gives up private servers. Blocks."""
        for endpoint in self.endpoints.values():
            endpoint.close()
