"""The most prompt a process can be: a bare timer of the event loop for every job, nothing stored anywhere.

Its client hands jobs to its worker through a file, since there is no server between them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TextIO

from ..adapter import SETTINGS, Description, Item, job_async

DESCRIPTION = Description((), "loop.call_at on the event loop of the standard library", "a file", "no")
_INBOX = Path(SETTINGS.folder, "inbox")
_LOOK_SECONDS = 0.05


class Client:
    def bulk(self, items: Sequence[Item]) -> None:
        with _INBOX.open("a") as inbox:
            inbox.write("".join(f"{item.due!r} {item.payload}\n" for item in items))

    def one(self, item: Item) -> None:
        self.bulk([item])


def client() -> Client:
    return Client()


async def inbox_items() -> AsyncIterator[tuple[float, str]]:
    """Due time and payload of every job that was handed over, as they come, for ever."""
    with _open_inbox() as inbox:
        rest = ""
        while True:
            rest += inbox.read()
            *lines, rest = rest.split("\n")
            for line in lines:
                due, payload = line.split(" ")
                yield float(due), payload
            await asyncio.sleep(_LOOK_SECONDS)  # a file tells nobody when it grows


def _open_inbox() -> TextIO:
    _INBOX.touch()
    return _INBOX.open()


async def _arm() -> None:
    """Sets a timer for every job that was handed over."""
    loop = asyncio.get_running_loop()
    async for due, payload in inbox_items():
        loop.call_at(loop.time() + due - time.time(), _start, payload)


_running: set[asyncio.Task[None]] = set()


def _start(payload: str) -> None:
    task = asyncio.get_running_loop().create_task(job_async(payload))
    _running.add(task)
    task.add_done_callback(_running.discard)


def work() -> None:
    asyncio.run(_arm())
