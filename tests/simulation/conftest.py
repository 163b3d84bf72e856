"""Servers that belong to the simulation alone, because it empties them for each seed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from interval_scheduler.testing.servers import Backend
from tests.servers import Binary, RedisServer


@pytest.fixture(scope="module")
def backends(server_binary: Binary) -> Iterator[list[Backend]]:
    servers = [RedisServer(server_binary) for _ in range(2)]
    opened = [Backend(server.url) for server in servers]
    yield opened
    for backend in opened:
        backend.close()
    for server in servers:
        server.stop()
