"""What both schedulers share besides the operations: endpoints, monitor, worker, and their life on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from .commands import Command, Reply
from .errors import AlreadyExecuting
from .events import Events, Health, Log
from .monitor import Monitor
from .operations import Operations
from .options import Options
from .topology import Layout
from .transport.endpoint import Endpoint
from .worker.handlers import Handler
from .worker.worker import Confirm, Worker
from .world import World


class Engine:
    """The part of a scheduler that lives on an event loop: its own in a thread, or the application's."""

    def __init__(self, options: Options, logger: Any, world: World | None) -> None:
        self.options = options
        self.world = world or World()
        self.log = Log(logger)
        self.events = Events(self.log)
        self.health = Health(options.master.name, self.events, self.log)
        reach = self.world.endpoint or Endpoint
        self.endpoints: dict[str, Endpoint] = {instance.name: reach(instance) for instance in options.instances}
        self.layout: Layout | None = None
        self.operations: Operations | None = None
        self.worker: Worker | None = None
        self._monitor = Monitor(
            self.endpoints,
            self.health,
            f"{{{options.namespace}}}:monitor",
            options.storage.reconnect_interval_seconds,
            self.world,
        )
        self._changing = asyncio.Lock()
        self._monitoring = False

    def joined(self, layout: Layout) -> Operations:
        """Takes the topology that was read."""
        self.layout = layout
        self.operations = Operations(layout, self.options, self.world)
        self.health.joined = True
        idle = [name for name in self.endpoints if name not in layout.instances and name != layout.master]
        if idle:
            self.log.write("warning", "instances own no partitions and idle until a rebalance", instances=idle)
        return self.operations

    def note(self, commands: Sequence[Command], replies: Sequence[Reply]) -> None:
        """Notices from replies which instances were lost."""
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                self.health.down(command.instance, getattr(reply, "reason", str(reply)))

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
            worker = Worker(
                self.layout,
                self.options,
                self.endpoints,
                self._monitor,
                self.health,
                self.events,
                self.log,
                self.world,
                handler,
                confirm,
            )
            await worker.start()
            self.worker = worker

    async def stop_worker(self, grace: float | None) -> None:
        async with self._changing:
            worker, self.worker = self.worker, None
            if worker is not None:
                await worker.stop(grace)

    async def close(self) -> None:
        """Stops everything on the loop. Endpoints are closed by `release`, which blocks."""
        await self.stop_worker(None)
        await self._monitor.stop()
        self._monitoring = False

    def release(self) -> None:
        """Gives up private servers. Blocks."""
        for endpoint in self.endpoints.values():
            endpoint.close()
