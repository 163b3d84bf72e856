"""What all duties of a worker share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from ..model.errors import PartitionUnavailable, UnusableInstance
from ..model.events import Event, Events
from ..model.options import Options
from ..protocol.commands import Command, Reply
from ..protocol.topology import Layout
from ..servers.health import Health
from ..support.log import Log
from ..support.runtime import Runtime
from ..support.text import error_text
from ..transport.endpoint import LossDetector

Execute = Callable[[Sequence[Command], str], Awaitable[list[Reply]]]
"""Executes commands on a pipeline of the asyncio transport, and gives their replies."""

_END_SECONDS = 3.0
"""How long an event loop whose tasks were cancelled takes at most to end; one that ends needs no error."""


class Context:
    """Where a worker belongs: its namespace, its event loop, and the tasks on it that carry out its duties."""

    def __init__(
        self,
        worker_id: str,
        layout: Layout,
        options: Options,
        execute: Execute,
        events: Events,
        log: Log,
        runtime: Runtime,
        loss_detector: LossDetector | None = None,
        health: Health | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.layout = layout
        self.options = options
        self.execute = execute
        self.events = events
        self.log = log
        self.runtime = runtime
        self.loss_detector = loss_detector
        self.health = health
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.stopping = False
        """Whether the worker claims no more."""
        self._is_told = False

    def start(self, duty: Coroutine[Any, Any, None]) -> None:
        """Carries out a duty in a task of its own, until it ends or is cancelled with the others."""
        task = self.loop.create_task(duty)
        self.tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        # One that was cancelled stays, because `is_loop_ending` may be asked for when it has ended already.
        if not task.cancelling():
            self.tasks.discard(task)
        elif not self.stopping:
            self.loop.call_later(_END_SECONDS, self._tell_of_cancellation)

    def _tell_of_cancellation(self) -> None:
        """Somebody cancelled duties, and the event loop has not ended: a handler or a library may have cancelled all
        tasks that it found."""
        if not (self.stopping or self._is_told):
            self._is_told = True
            self.log.write(
                "error",
                "the tasks of this worker were cancelled by other code, and it may claim nothing any more",
                fix="call stop_task_execute and start_task_execute, and let that code cancel only its own tasks",
            )

    @property
    def is_loop_ending(self) -> bool:
        """Whether somebody cancels the worker's own tasks, as the end of an event loop does with all tasks."""
        return any(task.cancelling() for task in self.tasks)

    def report(self, instance: str, error: Exception) -> None:
        """Tells that something failed on an instance. Whoever calls this tries it again."""
        if isinstance(error, UnusableInstance):
            if self.health is not None:
                self.health.tell(error)
        elif not isinstance(error, PartitionUnavailable):
            self.log.write("error", "something failed and is tried again", instance=instance, error=error_text(error))
        self.events.emit("error", Event("error", {"error": error, "where": instance}))

    def report_from_thread(self, instance: str, error: Exception) -> None:
        """`report`, for other threads than that of the event loop."""
        if self.loop.is_running():
            self.loop.call_soon_threadsafe(self.report, instance, error)
