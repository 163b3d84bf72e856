"""Everything that a server stores, to be compared before and after.

Not by DUMP: a hash moves to a larger table in small steps, also when it is only read, and each of them changes the
order of its fields in DUMP.
"""

from __future__ import annotations

from typing import Any

import redis

from tests.servers import RedisServer


def contents(server: RedisServer, match: str = "*", ignored: tuple[bytes, ...] = ()) -> dict[bytes, object]:
    """Every key that matches, with its exact value; without those that end in one of `ignored`."""
    with redis.Redis.from_url(server.url) as client:
        keys = client.scan_iter(match=match, count=1000)
        return {key: _value(client, key) for key in keys if not key.endswith(ignored)}


def _value(client: Any, key: bytes) -> object:
    kind = client.type(key)
    match kind:
        case b"hash":
            return client.hgetall(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"set":
            return client.smembers(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"string":
            return client.get(key)
    raise AssertionError(f"{key!r} is of type {kind!r}, which nothing here stores")
