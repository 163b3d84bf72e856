"""Work that blocks, done in another thread; also where an interpreter that ends gives none any more."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[[], T]) -> T:
    """Calls a function in another thread and waits for it on the running event loop.

    While the interpreter ends, as in an ``atexit`` function, no thread can be had: it is called right here then.
    """
    import asyncio  # whoever calls this has loaded it; who only imports the schedulers need not

    context = contextvars.copy_context()
    try:
        result = asyncio.get_running_loop().run_in_executor(None, context.run, function)
    except RuntimeError:
        return function()
    return await result
