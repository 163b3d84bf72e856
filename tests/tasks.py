"""Tasks and helpers that many tests share."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from interval_scheduler import AsyncScheduler, Cron, Retry, Scheduler, Task


@dataclass
class Job(Task):
    """A task with everything settable; the payload names the id by default."""

    id: str
    execute_on: datetime | float | None = None
    reschedule_interval: float | timedelta | Cron | None = None
    payload: Any = None
    retry: Retry = field(default_factory=lambda: Retry(max_retries=0))
    timeout: float | timedelta | None = None
    misfire: Any = "coalesce"
    misfire_limit: int = 100
    delivery: Any = "at_least_once"
    jitter: float | timedelta = 0

    def serialize(self) -> Any:
        return self.id if self.payload is None else self.payload


def after(seconds: float) -> float:
    """The unix time that many seconds from now."""
    return time.time() + seconds


async def eventually(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Waits until `condition()` (or what it returns, awaited) is true, and returns it."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(0.01)  # nothing tells when to look again


class Uniform:
    """Either scheduler, with awaitable methods, so that one suite runs over both."""

    def __init__(self, scheduler: Scheduler | AsyncScheduler) -> None:
        self.real = scheduler
        self.blocking = isinstance(scheduler, Scheduler)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.real, name)
        if not callable(attribute) or name == "on":
            return attribute

        async def call(*args: Any, **fields: Any) -> Any:
            if name == "upcoming":
                if self.blocking:
                    return await asyncio.to_thread(lambda: list(attribute(*args, **fields)))
                return [task async for task in attribute(*args, **fields)]
            if self.blocking:
                return await asyncio.to_thread(attribute, *args, **fields)
            return await attribute(*args, **fields)

        return call

    async def set_concurrency(self, value: int) -> None:
        if self.blocking:
            await asyncio.to_thread(setattr, self.real, "concurrency", value)
        else:
            self.real.concurrency = value

    async def try_lock_then_extend(self, name: str, seconds: float | timedelta) -> tuple[Any, bool]:
        lock = await self.try_lock(name)
        extended = await asyncio.to_thread(lock.extend, seconds) if self.blocking else await lock.extend(seconds)
        return lock, extended

    async def hold(self, name: str, inside: Callable[[Any], Awaitable[None]]) -> None:
        """Runs `inside(lock)` in the context manager of the scheduler."""
        if isinstance(self.real, AsyncScheduler):
            async with self.real.lock(name) as lock:
                await inside(lock)
            return
        loop = asyncio.get_running_loop()
        scheduler = self.real

        def held() -> None:
            with scheduler.lock(name) as lock:
                asyncio.run_coroutine_threadsafe(_coroutine(inside(lock)), loop).result(10)

        await asyncio.to_thread(held)


async def _coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


class Recorder:
    """A handler that notes what it was called with; `slow` seconds and `fail` times as asked."""

    def __init__(self, *, coroutine: bool, seconds: float = 0.0, fail: int = 0) -> None:
        self.calls: list[Seen] = []
        self.seconds = seconds
        self.fail = fail
        self.release = asyncio.Event()
        self.handler: Callable[[Any], Any] = self._coroutine if coroutine else self._plain

    def _note(self, payload: Any) -> None:
        from interval_scheduler import current_execution

        execution = current_execution()
        self.calls.append(
            Seen(
                payload,
                time.time(),
                execution.id,
                execution.due.timestamp(),
                execution.attempt,
                execution.fencing_token,
            )
        )

    def _plain(self, payload: Any) -> None:
        self._note(payload)
        if self.seconds:
            time.sleep(self.seconds)  # the work of the handler, not a wait of the test
        self._maybe_fail()

    async def _coroutine(self, payload: Any) -> None:
        self._note(payload)
        if self.seconds:
            await asyncio.sleep(self.seconds)  # as above
        self._maybe_fail()

    def _maybe_fail(self) -> None:
        if self.fail:
            self.fail -= 1
            raise RuntimeError("asked to fail")

    @property
    def payloads(self) -> list[Any]:
        return [call.payload for call in self.calls]

    def of(self, task_id: str) -> list[Seen]:
        return [call for call in self.calls if call.id == task_id]


@dataclass
class Seen:
    """One call of a handler: when it started and what `current_execution` said."""

    payload: Any
    started: float
    id: str
    due: float
    attempt: int
    token: int


async def size(scheduler: Uniform) -> int:
    """How many tasks are pending."""
    count: int = await scheduler.task_size()
    return count


async def is_empty(scheduler: Uniform) -> bool:
    return await size(scheduler) == 0
