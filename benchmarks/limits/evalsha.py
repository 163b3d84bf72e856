"""The least a call can cost: one bare EVALSHA of redis-py, as many bytes as `assign_task` sends, nothing done by it."""

from __future__ import annotations

import redis

from ..adapter import SETTINGS, Description, Item

DESCRIPTION = Description(("redis", "hiredis"), "blocking, a script that only answers", "none", "no")
SCRIPT = "return {'ok', '1700000000000000', 'c'}"
EPOCH, NOW, OPERATION = "1", "", "0123456789ab"
KEY = "{interval-scheduler:42}:meta"


def arguments(item: Item) -> tuple[str | bytes, ...]:
    """What `assign_task` sends for the same task."""
    when = f"={int(item.due * 1000)}"
    body = b"\x91\xd9\x40" + item.payload.encode()
    return (KEY, EPOCH, NOW, OPERATION, f"user:{item.number:010d}", when, "", body)


class Client:
    def __init__(self) -> None:
        self._redis = redis.Redis.from_url(SETTINGS.servers[0])
        self._sha = str(self._redis.script_load(SCRIPT))

    def one(self, item: Item) -> None:
        self._redis.evalsha(self._sha, 1, *arguments(item))


def client() -> Client:
    return Client()
