"""As `coroutine`, on uvloop, which an application chooses by running its program on it."""

from __future__ import annotations

import asyncio

from interval_scheduler import AsyncScheduler

from ..adapter import Description, job_async, run
from .coroutine import Client, client
from .options import options

DESCRIPTION = Description(
    ("interval-scheduler", "redis", "hiredis", "msgpack", "uvloop"),
    "default options, on uvloop",
    "assign_tasks",
    "grid",
)

__all__ = ["DESCRIPTION", "Client", "client", "run", "work"]


def work() -> None:
    async def main() -> None:
        scheduler = AsyncScheduler(options())
        await scheduler.start_task_execute(job_async)
        await asyncio.Event().wait()

    run(main())
