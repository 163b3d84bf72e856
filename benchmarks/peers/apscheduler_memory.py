"""APScheduler 3 with jobs in memory: prompt timers that nobody keeps. Jobs come through a file, as for bare timers."""

from __future__ import annotations

import time

from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from ..adapter import Description, Item, job_async, run
from ..limits.timer import Client, client, inbox_items

DESCRIPTION = Description(
    ("apscheduler",), "AsyncIOScheduler and MemoryJobStore, misfire_grace_time=None; nothing is kept", "a file", "no"
)

__all__ = ["DESCRIPTION", "Client", "client", "work"]


def work():
    async def main():
        running = AsyncIOScheduler(
            executors={"default": AsyncIOExecutor()},
            timezone="UTC",
            job_defaults={"misfire_grace_time": None, "coalesce": False, "max_instances": 1},
        )
        running.start()
        async for due, payload in inbox_items():
            item = Item(0, payload, max(due, time.time()))
            running.add_job(job_async, "date", run_date=item.moment, args=(payload,))

    run(main())
