"""saq, on asyncio."""

from __future__ import annotations

from redis import asyncio as aioredis
from saq import Worker
from saq.queue.redis import RedisQueue

from ..adapter import SETTINGS, Description, at_once, job_async, run

DESCRIPTION = Description(
    ("saq", "redis", "hiredis", "uvloop"),
    "uvloop, hiredis; concurrency=50, timers schedule=1 s (the shortest that its lock of 1 s allows), ttl=-1 (no "
    "result kept), timeout=0; crash: timeout=2, heartbeat=5, retries=3, sweep every 1 s",
    "asyncio, 50 enqueue calls in flight (no batch call)",
    "no: cron jobs are fixed when the worker starts",
)
CALLS = 50


def queue():
    # redis-py stops at 100 connections by default, which its worker exceeds.
    return RedisQueue(aioredis.from_url(SETTINGS.servers[0], max_connections=500), max_concurrent_ops=CALLS)


class Client:
    def __init__(self):
        self._queue = queue()
        self._options = {"timeout": 0}
        if SETTINGS.recovery_seconds:
            self._options = {"timeout": 2, "heartbeat": int(SETTINGS.recovery_seconds), "retries": 3}

    async def one(self, item):
        await self._queue.enqueue("benchmark", payload=item.payload, scheduled=item.due, ttl=-1, **self._options)

    async def bulk(self, items):
        await at_once(self.one, items, CALLS)


async def client():
    return Client()


async def benchmark(_context, *, payload):
    await job_async(payload)


def work():
    async def main():
        timers = {"schedule": 1, "sweep": 1 if SETTINGS.recovery_seconds else 60}
        concurrency = SETTINGS.concurrency or 50
        await Worker(queue(), [("benchmark", benchmark)], concurrency=concurrency, timers=timers).start()

    run(main())
