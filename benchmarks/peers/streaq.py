"""streaq, on anyio."""

from __future__ import annotations

from streaq import Worker

from ..adapter import SETTINGS, Description, job_async

DESCRIPTION = Description(
    ("streaq", "coredis", "uvloop"),
    "uvloop; concurrency=100 (it fetches 200), ttl=0 (no result kept), silent tasks; it looks for delayed tasks every "
    "500 ms, which cannot be set; crash: idle_timeout=5 s (default 60)",
    "worker.enqueue_many(), 1,000 tasks a pipeline",
    "first run",
)
BATCH = 1000

worker = Worker(
    redis_url=SETTINGS.servers[0],
    concurrency=SETTINGS.concurrency or 100,
    idle_timeout=SETTINGS.recovery_seconds or 60,
    handle_signals=False,
    anyio_kwargs={"use_uvloop": True},
)


@worker.task(ttl=0, silent=True, name="benchmark")
async def benchmark(payload: str) -> None:
    await job_async(payload)


class Client:
    async def one(self, item):
        await benchmark.enqueue(item.payload).start(schedule=item.moment)

    async def bulk(self, items):
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            await worker.enqueue_many([benchmark.enqueue(item.payload).start(schedule=item.moment) for item in batch])

    async def recurring(self, item, _seconds):
        # A crontab with seconds: every second. Through enqueue_many, since awaiting a single one never writes it.
        await worker.enqueue_many([benchmark.enqueue(item.payload).start(schedule="* * * * * * *")])


async def client():
    await worker.__aenter__()
    return Client()


def work():
    worker.run_sync()
