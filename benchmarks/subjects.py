"""What is measured: the scheduler itself, its limits, and its peers, all behind the same adapters."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from .peers.registry import PEERS, Peer

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Subject:
    """Something with an adapter. `name` is what the tables call it."""

    name: str
    adapter: str
    peer: Peer | None = None

    def command(self, *words: str) -> list[str]:
        """How to start a process of it."""
        if self.peer is None:
            return [sys.executable, "-m", "benchmarks.subject", self.adapter, *words]
        if self.peer.node:
            return [self.peer.program, str(ROOT / "benchmarks" / "peers" / f"{self.peer.name}.js"), *words]
        return [self.peer.program, "-m", "benchmarks.subject", self.adapter, *words]

    def environment(self) -> dict[str, str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        if self.peer is not None and self.peer.node:
            environment["BENCHMARK_MODULES"] = str(self.peer.folder / "node_modules")
        return environment


COROUTINE = Subject("interval_scheduler", "benchmarks.ours.coroutine")
PLAIN = Subject("interval_scheduler (blocking)", "benchmarks.ours.plain")
UVLOOP = Subject("interval_scheduler on uvloop", "benchmarks.ours.uvloop")
EVALSHA = Subject("bare EVALSHA", "benchmarks.limits.evalsha")
EVALSHA_ASYNC = Subject("bare EVALSHA, asyncio", "benchmarks.limits.evalsha_async")
GATHER = Subject("gather of bare futures", "benchmarks.limits.gather")
RAW_SOCKET = Subject("HSET + SADD on a raw socket", "benchmarks.limits.raw_socket")
TIMER = Subject("bare event-loop timer", "benchmarks.limits.timer")


TIMERS_IN_MEMORY = Subject("apscheduler in memory", "benchmarks.peers.apscheduler_memory", PEERS["apscheduler"])


def peer_subject(peer: Peer) -> Subject:
    return Subject(peer.name, f"benchmarks.peers.{peer.name}", peer)
