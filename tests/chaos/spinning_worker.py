"""A worker whose every pause on the event loop is none: what a busy loop looks like, see `test_chaos`."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.chaos import worker

_sleep = asyncio.sleep


async def _no_pause(_seconds: float, result: Any = None) -> Any:
    return await _sleep(0, result)


if __name__ == "__main__":
    setattr(asyncio, "sleep", _no_pause)  # noqa: B010 - sabotage, which no type checker lets pass
    worker.main()
