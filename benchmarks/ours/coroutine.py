"""The scheduler with asyncio: `AsyncScheduler`, its handler a coroutine function. Everything at its default."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from interval_scheduler import AsyncScheduler

from ..adapter import SETTINGS, Description, Item, job_async
from .jobs import Job
from .options import options

DESCRIPTION = Description(
    ("interval-scheduler", "redis", "hiredis", "msgpack"),
    "default options on the event loop of the standard library",
    "assign_tasks",
    "grid",
)
run = asyncio.run


class Client:
    def __init__(self, scheduler: AsyncScheduler) -> None:
        self._scheduler = scheduler

    async def one(self, item: Item) -> None:
        await self._scheduler.assign_task(Job(item))

    async def bulk(self, items: Sequence[Item]) -> None:
        await self._scheduler.assign_tasks(Job(item) for item in items)

    async def gathered(self, items: Sequence[Item]) -> None:
        """One call of `assign_task` an item, all at once."""
        await asyncio.gather(*[self._scheduler.assign_task(Job(item)) for item in items])

    async def recurring(self, item: Item, seconds: float) -> None:
        await self._scheduler.assign_task(Job(item, seconds))

    async def recurring_bulk(self, items: Sequence[Item]) -> None:
        """Recurring tasks whose next occurrence is an hour after the one that is due."""
        await self._scheduler.assign_tasks(Job(item, 3600) for item in items)


async def client() -> Client:
    scheduler = AsyncScheduler(options())
    await scheduler.start_task_accept()
    return Client(scheduler)


def work() -> None:
    async def main() -> None:
        schedulers: list[Any] = [AsyncScheduler(options()) for _ in range(SETTINGS.schedulers)]
        await asyncio.gather(*[scheduler.start_task_execute(job_async) for scheduler in schedulers])
        await asyncio.Event().wait()

    run(main())
