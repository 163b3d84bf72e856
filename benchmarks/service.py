"""Benchmark and load test of the timer service: creating, delivering, and lateness, beside the bare HTTP client.

    python -m benchmarks.service                     # starts Redis, a receiver and the service, all on this machine
    python -m benchmarks.service --creations 100 --seconds 60 --url http://localhost:8000 --key KEY   # TS-9, on yours

Every figure of the first form is of one run on one machine, whose load all its parts share: service, receiver, load
generator and Redis. The loop of the HTTP client sends as many POSTs of the same size to the same receiver, with the
same number of connections, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from .figures import percentile
from .machine import machine
from .servers import running
from .subjects import ROOT

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = {"order": 17, "text": "a message of an ordinary size, some hundred and twenty bytes long" * 2}
CONNECTIONS = 50


class Arrivals:
    """What the receiver notes: when each timer was due, by its message, and when it came."""

    def __init__(self) -> None:
        self.lateness: list[float] = []
        self.first = self.last = 0.0
        self._wanted = 0
        self._enough = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        now = time.time()
        body = await request.json()
        self.first = self.first or now
        self.last = now
        if due := (body["message"] or {}).get("due"):
            self.lateness.append(now - due)
        else:
            self.lateness.append(0.0)
        if len(self.lateness) >= self._wanted:
            self._enough.set()
        return web.Response()

    async def wait(self, count: int, seconds: float) -> None:
        self._wanted = count
        if len(self.lateness) < count:
            self._enough.clear()
            await asyncio.wait_for(self._enough.wait(), seconds)

    def reset(self) -> None:
        self.lateness = []
        self.first = self.last = 0.0


# -- parts, each a process of its own ----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def service(urls: list[str], arguments: list[str]) -> AsyncIterator[str]:
    """The service as a program on servers; its url, or "" for `deliver`."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TIMER_SERVICE_ALLOWED_NETWORKS": "127.0.0.0/8",
        "TIMER_SERVICE_WEBHOOK_SECRETS": SECRET,
        "TIMER_SERVICE_RATE_LIMIT": "1000000",
        "TIMER_SERVICE_RATE_BURST": "1000000",
        "TIMER_SERVICE_HOST_CONCURRENCY": str(CONNECTIONS),
    }
    places = [part for url in urls for part in ("--url", url)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "interval_scheduler", *arguments, *places, env=environment, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    draining = None
    try:
        while line := (await process.stderr.readline()).decode():
            if match := re.search(r"serving at (\S+)|is ready", line):
                break
        else:
            raise SystemExit("the service did not start")
        draining = asyncio.create_task(process.stderr.read())
        yield match[1] or ""
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
        if draining is not None:
            await draining


# -- what is measured --------------------------------------------------------------------------------------------------


async def create_singly(session: aiohttp.ClientSession, api: str, target: str, count: int) -> float:
    """Creations per second, one request each."""
    left = iter(range(count))

    async def client() -> None:
        for _ in left:
            body = {"hours": 1, "url": target, "message": MESSAGE}
            async with session.post(f"{api}/timers", json=body) as response:
                assert response.status == 201, await response.text()
                await response.read()

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return count / (time.perf_counter() - begin)


async def create_in_batches(session: aiohttp.ClientSession, api: str, timers: list[dict[str, Any]]) -> float:
    """Creations per second, a thousand in a request."""
    begin = time.perf_counter()
    for start in range(0, len(timers), 1000):
        async with session.post(f"{api}/batch/create", json={"timers": timers[start : start + 1000]}) as response:
            answer = await response.json()
            assert answer["failed"] == 0, answer["results"][:3]
    return len(timers) / (time.perf_counter() - begin)


async def deliver_at_rate(
    session: aiohttp.ClientSession, api: str, target: str, arrivals: Arrivals, rate: int, seconds: int
) -> tuple[float, list[float]]:
    """Timers due `rate` a second, made beforehand: deliveries per second, and their lateness."""
    arrivals.reset()
    count = rate * seconds
    begin = time.time() + 3 + count / 2000
    timers = []
    for number in range(count):
        due = begin + number / rate
        timers.append(
            {"at": datetime.fromtimestamp(due, UTC).isoformat(), "url": target, "message": MESSAGE | {"due": due}}
        )
    await create_in_batches(session, api, timers)
    if time.time() > begin:
        print("  (creating took longer than planned: the first timers were late already)")
    await arrivals.wait(count, 60 + seconds * 4)
    return count / (arrivals.last - arrivals.first), arrivals.lateness


async def bare_client(target: str, arrivals: Arrivals, count: int) -> float:
    """POSTs per second of the HTTP client alone."""
    arrivals.reset()
    left = iter(range(count))
    body = {"message": MESSAGE | {"due": time.time()}, "timerId": "x" * 32, "status": "on-time"}

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:

        async def client() -> None:
            for _ in left:
                async with session.post(target, json=body) as response:
                    await response.read()

        begin = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
        return count / (time.perf_counter() - begin)


async def benchmark(options: argparse.Namespace) -> None:
    arrivals = Arrivals()
    app = web.Application()
    app.router.add_post("/{path:.*}", arrivals.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    target = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    rows: list[tuple[str, str]] = []
    with running(2, "everysec") as servers:
        urls = [f"redis-{number}={server.url}" for number, server in enumerate(servers)]
        async with (
            service(urls, ["serve", "--port", "0", "--no-deliver"]) as api,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session,
        ):
            created = await create_singly(session, api, target, options.count)
            rows.append(("creations, one per request", f"{created:,.0f} /s"))
            batch = [{"hours": 1, "url": target, "message": MESSAGE}] * options.count
            created = await create_in_batches(session, api, batch)
            rows.append(("creations, 1,000 per request", f"{created:,.0f} /s"))
            async with service(urls, ["deliver"]):
                done, late = await deliver_at_rate(session, api, target, arrivals, options.rate, options.seconds)
                rows.append((f"deliveries, due at {options.rate:,} /s", f"{done:,.0f} /s"))
                rows += shares("lateness", late)
                rows.append(("early", str(sum(value < -0.001 for value in late))))
                done, _ = await deliver_at_rate(session, api, target, arrivals, options.count, 1)
                rows.append((f"deliveries, {options.count:,} due within a second", f"{done:,.0f} /s"))
            bare = await bare_client(target, arrivals, options.count)
            rows.append(("the HTTP client alone, same receiver", f"{bare:,.0f} /s"))
    await runner.cleanup()
    report(rows)


async def load_test(options: argparse.Namespace) -> None:
    """TS-9: creations at a steady rate on a running service, with the time each answer took."""
    headers = {"Authorization": f"Bearer {options.key}"} if options.key else {}
    took: list[float] = []
    codes: dict[int, int] = {}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def one() -> None:
            begin = time.perf_counter()
            body = {"hours": 1, "url": options.target, "message": MESSAGE}
            async with session.post(f"{options.url}/timers", json=body) as response:
                await response.read()
                codes[response.status] = codes.get(response.status, 0) + 1
            took.append(time.perf_counter() - begin)

        begin = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for number in range(options.creations * options.seconds):
                # At an even pace, however long the answers take.
                await asyncio.sleep(max(0.0, begin + number / options.creations - time.perf_counter()))
                tasks.create_task(one())
        elapsed = time.perf_counter() - begin
    rows = [("asked for", f"{options.creations:,} /s"), ("answered", f"{len(took) / elapsed:,.0f} /s")]
    rows += [(f"status {code}", f"{count:,}") for code, count in sorted(codes.items())]
    rows += shares("answers", took)
    report(rows)


def shares(what: str, seconds: list[float]) -> list[tuple[str, str]]:
    return [(f"{what}, {share:.0%} within", f"{percentile(seconds, share) * 1000:,.1f} ms") for share in (0.5, 0.99, 1)]


def report(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    print(*(f"{name} {value}" for name, value in machine().items()), sep=", ", end="\n\n")
    for name, figure in rows:
        print(f"{name:<{width}}  {figure:>12}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark and load test of the timer service.")
    parser.add_argument("--count", type=int, default=3000, help="timers of each throughput figure (default 3,000)")
    parser.add_argument("--rate", type=int, default=1000, help="timers due per second (default 1,000)")
    parser.add_argument("--seconds", type=int, default=5, help="for so long (default 5)")
    parser.add_argument("--url", help="load a running service instead")
    parser.add_argument("--key", help="its API key")
    parser.add_argument("--target", default="https://example.com/", help="where its timers would go in an hour")
    parser.add_argument("--creations", type=int, default=100, help="per second, with --url (default 100)")
    options = parser.parse_args()
    asyncio.run(load_test(options) if options.url else benchmark(options))


if __name__ == "__main__":
    main()
