"""One process of the service: its scheduler, its timers and, unless the settings say otherwise, its deliveries."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Self

import structlog

from ..async_scheduler import AsyncScheduler
from ..model.errors import SchedulerError
from ..model.options import Options, load_options
from .destinations import Lookup
from .handler import TimerHandler
from .metrics import Metrics
from .settings import SCHEDULER_DEFAULTS, Settings
from .timers import Timers
from .webhooks import WebhookSender

log = structlog.get_logger("interval_scheduler")


def scheduler_options(given: object = None, environment: Mapping[str, str] | None = None) -> Options:
    """Options of the scheduler: the service's defaults, with `given` and then the environment on top of them.

    Raises:
        InvalidOptions: naming every wrong option.
    """
    variables = os.environ if environment is None else environment
    if isinstance(given, Options):
        return given
    if given is not None and not isinstance(given, Mapping):
        given = {"instances": [given] if isinstance(given, str) else given}
    return load_options({**SCHEDULER_DEFAULTS, **(given or {})}, None, variables)


class ServiceProcess:
    """An async context manager: it connects and, if the settings say so, delivers. At its end it waits for deliveries.

    `scheduler` holds options of the scheduler. `lookup` resolves the host names of webhooks instead of the system.
    """

    def __init__(self, settings: Settings, scheduler: object, metrics: Metrics, lookup: Lookup | None = None) -> None:
        self._settings = settings
        self._options = scheduler_options(scheduler)
        self._metrics = metrics
        self._lookup = lookup
        self._sender: WebhookSender | None = None
        self.failure: SchedulerError | None = None
        """Why it could not start."""
        self._scheduler: AsyncScheduler | None = None
        self._timers: Timers | None = None

    def __repr__(self) -> str:
        state = "not started" if self._timers is None else "delivering" if self._sender else "not delivering"
        return f"ServiceProcess({self._options.namespace!r}, {state})"

    @property
    def scheduler(self) -> AsyncScheduler:
        if self._scheduler is None:
            raise RuntimeError("the service is not started: run it with an ASGI server that supports lifespan")
        return self._scheduler

    @property
    def timers(self) -> Timers:
        if self._timers is None:
            raise RuntimeError("the service is not started: run it with an ASGI server that supports lifespan")
        return self._timers

    async def __aenter__(self) -> Self:
        self._scheduler = scheduler = AsyncScheduler(self._options)
        try:
            await scheduler.start_task_accept()
            self._timers = Timers(scheduler, self._settings)
            await self._timers.start()
            if self._settings.deliver:
                if not self._settings.webhook_secrets:
                    log.warning("webhooks are sent without a signature: set TIMER_SERVICE_WEBHOOK_SECRETS")
                concurrency = scheduler.options.concurrency
                self._sender = WebhookSender(self._settings, self._metrics, concurrency, self._lookup)
                await scheduler.start_task_execute(TimerHandler(scheduler, self._settings, self._sender).handle)
        except BaseException as error:
            self.failure = error if isinstance(error, SchedulerError) else None
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        scheduler, sender = self.scheduler, self._sender
        try:
            # Every running delivery ends at its own deadline.
            await scheduler.stop_task_execute(grace=self._settings.total_seconds + 1)
        finally:
            if sender is not None:
                await sender.close()
            await scheduler.close()

    async def problems(self, seconds: float) -> list[str]:
        """Why this process cannot do its work. Asks every partition, and waits at most so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                stats = await self.scheduler.stats()
        except TimeoutError:
            return [f"Redis did not answer within {seconds:g} s"]
        except SchedulerError as error:
            return [str(error)]
        wrong = {
            f"instance {partition.instance!r}: {partition.error}"
            for partition in stats.partitions
            if partition.error is not None
        }
        if not self.scheduler.online:
            wrong.add("the master instance is offline")
        if self._settings.deliver and not self.scheduler.executing_tasks:
            wrong.add("webhooks are not delivered: this process is shutting down")
        return sorted(wrong)

    async def metrics_text(self) -> bytes:
        """The metrics of this process, and the state of the partitions that answer."""
        return self._metrics.render(await self.scheduler.stats())
