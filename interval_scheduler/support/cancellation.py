"""Cancels asyncio tasks and waits until they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 0.05


def is_cancelled() -> bool:
    """Whether somebody cancelled the running asyncio task, even if its CancelledError was caught."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def cancel_all(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels tasks and waits until all have ended. What they raise is dropped.

    One cancellation is not enough: before Python 3.12, ``asyncio.wait_for`` drops a cancellation that arrives in the
    moment in which it gets its result, and redis-py uses it.
    """
    pending = list(tasks)
    while pending:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
        for task in pending:
            if task.done() and not task.cancelled():
                task.exception()
        pending = [task for task in pending if not task.done()]
