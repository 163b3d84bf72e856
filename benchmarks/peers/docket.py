"""docket (pydocket), on asyncio."""

from __future__ import annotations

from datetime import timedelta

from docket import Docket, Perpetual, Worker

from ..adapter import POLL_SECONDS, SETTINGS, Description, job_async, run

DESCRIPTION = Description(
    ("pydocket", "redis", "hiredis", "uvloop"),
    "uvloop, hiredis; concurrency=50, scheduling_resolution and minimum_check_interval 20 ms (default 250), "
    "execution_ttl=0; crash: redelivery_timeout=5 s (default 300)",
    "docket.add_many(), 1,000 a pipeline (its default)",
    "first run",
)


async def benchmark(payload: str) -> None:
    await job_async(payload)


async def tick(payload: str, perpetual: Perpetual = Perpetual(every=timedelta(seconds=1))) -> None:  # noqa: B008
    await job_async(payload)


def docket():
    # redis-py stops at 100 connections by default, which its worker exceeds.
    return Docket(name="peer", url=SETTINGS.servers[0] + "?max_connections=500", execution_ttl=timedelta(0))


def registered(made):
    made.register(benchmark)
    made.register(tick)
    return made


class Client:
    def __init__(self, made):
        self._docket = made

    async def one(self, item):
        await self._docket.add(benchmark, when=item.moment)(item.payload)

    async def bulk(self, items):
        await self._docket.add_many([self._docket.call(benchmark, when=item.moment)(item.payload) for item in items])

    async def recurring(self, item, _seconds):
        await self._docket.add(tick, key=f"tick-{item.number}")(item.payload)


async def client():
    return Client(registered(await docket().__aenter__()))


def work():
    async def main():
        async with docket() as made:
            registered(made)
            pause = timedelta(seconds=POLL_SECONDS)
            async with Worker(
                made,
                concurrency=SETTINGS.concurrency or 50,
                scheduling_resolution=pause,
                minimum_check_interval=pause,
                redelivery_timeout=timedelta(seconds=SETTINGS.recovery_seconds or 300),
            ) as worker:
                await worker.run_forever()

    run(main())
