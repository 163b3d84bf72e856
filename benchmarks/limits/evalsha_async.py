"""The same bare EVALSHA with the asyncio client of redis-py, on the event loop of the standard library."""

from __future__ import annotations

import asyncio

from redis import asyncio as aioredis

from ..adapter import SETTINGS, Description, Item
from .evalsha import SCRIPT, arguments

DESCRIPTION = Description(("redis", "hiredis"), "asyncio, a script that only answers", "none", "no")
run = asyncio.run


class Client:
    def __init__(self, connection: aioredis.Redis, sha: str) -> None:
        self._redis = connection
        self._sha = sha

    async def one(self, item: Item) -> None:
        await self._redis.evalsha(self._sha, 1, *arguments(item))


async def client() -> Client:
    connection = aioredis.Redis.from_url(SETTINGS.servers[0])
    return Client(connection, str(await connection.script_load(SCRIPT)))
