"""Calls by which workers know of each other: workers, nudge."""

from __future__ import annotations

from .. import keys
from ..commands import Command, Reply, require_available
from ..scripts import script


def workers(instance: str, namespace: str, now: str, worker: str, ttl_ms: int) -> Command:
    """Reports a worker alive for `ttl_ms`, or gone with 0."""
    return Command(instance, script("workers"), (keys.workers(namespace),), (now, worker, str(ttl_ms)), repeatable=True)


def read_workers(reply: Reply) -> list[str]:
    """The ids of all live workers."""
    _, *ids = require_available(reply)
    return [worker.decode("utf-8", "replace") for worker in ids]


def nudge(instance: str, namespace: str, worker: str, partition: int, due_ms: float) -> Command:
    """Tells one worker that something is due in a partition."""
    args = (worker, f"{partition} {due_ms:.0f}")
    return Command(instance, script("nudge"), (keys.workers(namespace),), args, repeatable=True)


def read_nudge(reply: Reply) -> int:
    """How many have heard it."""
    _, receivers = require_available(reply)
    return receivers  # type: ignore[no-any-return]
