"""What ``asyncio.gather`` over coroutines costs by itself: each waits for a future, and nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..adapter import Description, Item

DESCRIPTION = Description(
    (), "coroutines on the event loop of the standard library, whose futures are all set in its next turn", "none", "no"
)
run = asyncio.run


class Client:
    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    async def gathered(self, items: Sequence[Item]) -> None:
        await asyncio.gather(*[self._one() for _ in items])

    async def _one(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append(future)
        await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)


def client() -> Client:
    return Client()
