"""Which peers there are, and what to install for each."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

HOME = Path(os.environ.get("BENCHMARK_PEERS", Path(tempfile.gettempdir(), "interval-scheduler-peers")))
"""Where the virtual environments and the node modules of the peers are."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A library to compare with. `requirements` are for pip, or for npm where it runs on Node."""

    name: str
    requirements: tuple[str, ...]
    node: bool = False

    @property
    def folder(self) -> Path:
        return HOME / self.name

    @property
    def program(self) -> str:
        """The interpreter that has the peer installed."""
        return os.environ.get("NODE", "node") if self.node else str(self.folder / "bin" / "python")

    @property
    def installed(self) -> bool:
        return (self.folder / "ready").exists()


PEERS = {
    peer.name: peer
    for peer in (
        Peer("arq", ("arq", "hiredis", "uvloop")),
        Peer("saq", ("saq[hiredis]", "uvloop", "typing_extensions")),
        Peer("streaq", ("streaq", "uvloop")),
        Peer("docket", ("pydocket", "hiredis", "uvloop")),
        Peer("rq", ("rq", "hiredis")),
        Peer("huey", ("huey", "redis", "hiredis", "gevent")),
        Peer("dramatiq", ("dramatiq[redis]", "hiredis")),
        Peer("celery", ("celery[redis]", "hiredis")),
        Peer("apscheduler", ("apscheduler<4", "redis", "hiredis")),
        Peer("bullmq", ("bullmq", "ioredis"), node=True),
    )
}
