"""The base of every adapter, of ours, of peers and of limits: where the servers are, and the job itself.

An adapter is a module with

- ``DESCRIPTION``: a `Description`;
- ``client()``: something connected that has ``one(item)``, ``bulk(items)`` and, where the description says so,
  ``recurring(item, seconds)``; all of them, and ``client`` itself, may be coroutine functions;
- ``work()``: runs a worker in the foreground, whose task calls `job`, or awaits `job_async`, with the payload.

It runs in the environment of what it adapts: this module needs nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict
from urllib.parse import urlsplit

from .records import ENDED, STARTED, Recorder

POLL_SECONDS = 0.02
"""How often peers look for due jobs, where it can be set: often enough to be prompt; it costs time when idle."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is reported of an adapter. `recurring` is how recurring jobs are placed: on the grid we ask for ("grid"),
    on one that begins with the first run ("first run"), or not at all, and then why."""

    distributions: tuple[str, ...]
    configuration: str
    bulk: str
    recurring: str


class Described(TypedDict):
    """A description as a process of the adapter prints it, with the installed versions of its distributions."""

    configuration: str
    bulk: str
    recurring: str
    versions: dict[str, str]


class Item(NamedTuple):
    """A job to assign: its number, payload of 64 characters, and due time in unix seconds."""

    number: int
    payload: str
    due: float

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.due, UTC)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the measuring process asks for, handed over in the environment."""

    servers: tuple[str, ...]
    folder: str
    job_seconds: float
    """How long a job takes; 0: it only writes its record."""
    concurrency: int
    """Jobs at once in a worker; 0: as the adapter thinks best."""
    recovery_seconds: float
    """After how long the work of a dead worker is repeated, where it can be set; 0: the default."""
    schedulers: int
    """Workers within one worker process."""

    @property
    def port(self) -> int:
        return urlsplit(self.servers[0]).port or 0

    def environment(self) -> dict[str, str]:
        return {
            "BENCHMARK_SERVERS": " ".join(self.servers),
            "BENCHMARK_FOLDER": self.folder,
            "BENCHMARK_JOB_SECONDS": str(self.job_seconds),
            "BENCHMARK_CONCURRENCY": str(self.concurrency),
            "BENCHMARK_RECOVERY_SECONDS": str(self.recovery_seconds),
            "BENCHMARK_SCHEDULERS": str(self.schedulers),
        }


def settings() -> Settings:
    """The settings that this process was started with."""
    given = os.environ.get
    return Settings(
        tuple(given("BENCHMARK_SERVERS", "").split()) or ("redis://127.0.0.1:0/0",),
        given("BENCHMARK_FOLDER", "."),
        float(given("BENCHMARK_JOB_SECONDS", "0")),
        int(given("BENCHMARK_CONCURRENCY", "0")),
        float(given("BENCHMARK_RECOVERY_SECONDS", "0")),
        int(given("BENCHMARK_SCHEDULERS", "1")),
    )


SETTINGS = settings()
_recorder = Recorder(SETTINGS.folder)


def payload(number: int) -> str:
    """64 characters that begin with the number of the job."""
    return f"{number:010d}".ljust(64, "x")


def job(text: str) -> None:
    """The job, for handlers that are plain functions."""
    number = int(text[:10])
    _recorder.write(number, STARTED)
    if SETTINGS.job_seconds:
        time.sleep(SETTINGS.job_seconds)  # the work
        _recorder.write(number, ENDED)


async def job_async(text: str) -> None:
    """The job, for handlers that are coroutine functions."""
    number = int(text[:10])
    _recorder.write(number, STARTED)
    if SETTINGS.job_seconds:
        await asyncio.sleep(SETTINGS.job_seconds)  # the work
        _recorder.write(number, ENDED)


def run(main: Awaitable[Any]) -> None:
    """Runs a coroutine to its end, on uvloop where the environment has it."""

    async def wait() -> None:
        await main

    try:
        import uvloop
    except ImportError:
        asyncio.run(wait())
    else:
        uvloop.run(wait())


def forever() -> None:
    """Blocks until the process is killed."""
    threading.Event().wait()


def in_threads(one: Callable[[Item], Any], items: Sequence[Item], threads: int = 4) -> None:
    """The best bulk of a blocking client without a batch call: several threads, each with its own share."""

    def share(start: int) -> None:
        for item in items[start::threads]:
            one(item)

    workers = [threading.Thread(target=share, args=(start,)) for start in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


async def at_once(one: Callable[[Item], Awaitable[Any]], items: Iterable[Item], calls: int = 50) -> None:
    """The best bulk of an asyncio client without a batch call: several calls in flight."""
    rest = iter(items)

    async def lane() -> None:
        for item in rest:
            await one(item)

    await asyncio.gather(*[lane() for _ in range(calls)])
