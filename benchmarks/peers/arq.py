"""arq, on asyncio."""

from __future__ import annotations

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from ..adapter import POLL_SECONDS, SETTINGS, Description, at_once, job_async, run

DESCRIPTION = Description(
    ("arq", "redis", "hiredis", "uvloop"),
    "uvloop, hiredis; max_jobs=100, poll_delay 20 ms (default 500), keep_result=0; "
    "crash: job_timeout=1 s, after which the key that marks a job as under way lives 10 s",
    "asyncio, 50 enqueue_job calls in flight (no batch call)",
    "no: cron jobs are fixed when the worker starts",
)


class Client:
    def __init__(self, pool):
        self._pool = pool

    async def one(self, item):
        await self._pool.enqueue_job("benchmark", item.payload, _defer_until=item.moment)

    async def bulk(self, items):
        await at_once(self.one, items)


async def client():
    return Client(await create_pool(RedisSettings(port=SETTINGS.port)))


async def benchmark(_context, payload):
    await job_async(payload)


def work():
    async def main():
        worker = Worker(
            [func(benchmark, name="benchmark")],
            redis_settings=RedisSettings(port=SETTINGS.port),
            max_jobs=SETTINGS.concurrency or 100,
            poll_delay=POLL_SECONDS,
            keep_result=0,
            log_results=False,
            job_timeout=1 if SETTINGS.recovery_seconds else 300,
            handle_signals=False,
        )
        await worker.async_run()

    run(main())
