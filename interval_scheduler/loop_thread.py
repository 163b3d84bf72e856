"""The event loop of the blocking scheduler, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .model.errors import SchedulerError
from .support.log import Log

T = TypeVar("T")


def blocks_event_loop() -> bool:
    """Whether whoever calls this holds up an event loop in this thread."""
    return asyncio._get_running_loop() is not None  # `get_running_loop` raises where there is none, which takes time


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._loop = asyncio.new_event_loop()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="interval-scheduler", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            try:
                self._loop.run_forever()
            except BaseException as error:  # SystemExit: an asyncio task that a handler started must not end the loop
                self._log.write("error", "a task of a handler tried to end the process", error=repr(error))

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Calls a function on the loop, and does not wait for it."""
        self._loop.call_soon_threadsafe(function, *args)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop, and waits for it in the calling thread.

        Raises:
            SchedulerError: on the loop itself, which would wait for itself.
        """
        try:
            self.refuse_to_wait_for_itself()
        except SchedulerError:
            coroutine.close()
            raise
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def refuse_to_wait_for_itself(self) -> None:
        """To be called by what waits for the loop.

        Raises:
            SchedulerError: on the loop itself.
        """
        if threading.current_thread() is self._thread:
            raise SchedulerError(
                "this was called on the scheduler's own event loop (in a coroutine handler or a callback), which would "
                "wait for itself: call it from another thread, for example by asyncio.to_thread()."
            )

    def close(self) -> None:
        """Ends the loop and its thread, and waits for the thread."""
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
