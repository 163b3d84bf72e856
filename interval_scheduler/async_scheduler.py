"""The asyncio scheduler."""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from .base import BaseScheduler, lock_milliseconds, posted_task, token_for
from .model.errors import AlreadyExecuting, LockNotAcquired
from .model.locks import MANUAL_LOCK_SECONDS, AsyncLock, check_name, new_holder
from .model.results import AssignResult, DeadTask, ScheduledTask, Stats
from .model.task import Task
from .protocol.operation import Operation, drive_async

if TYPE_CHECKING:
    from .protocol.audit import Audit
    from .protocol.tasks import Operations
    from .support.runtime import Runtime
    from .worker.handlers import Handler
    from .worker.worker import Confirm

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def _coroutine_function(function: F) -> F:
    """Marks what gives something like a coroutine: frameworks would call it in a thread, and drop what it gives."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


class AsyncScheduler(BaseScheduler):
    """`Scheduler` with coroutines, on the application's event loop. What the methods promise stands there.

    Calls made in the same turn of the loop travel together.
    """

    def __init__(
        self, options: Any = None, logger: Any = None, *, runtime: Runtime | None = None, **fields: Any
    ) -> None:
        super().__init__(options, logger, runtime=runtime, **fields)
        from .transport.aio import AsyncTransport
        from .transport.batching import Batcher

        self._transport = AsyncTransport(self._engine.endpoints)
        self._batcher = Batcher(self._transport)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._joining = asyncio.Lock()
        self._closing = asyncio.Lock()
        self._stopped = asyncio.Event()

    __init__.__doc__ = BaseScheduler.__init__.__doc__

    async def __aenter__(self) -> AsyncScheduler:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stops executing (waiting for running handlers) and accepting, and lets go of every connection."""
        self._engine.refuse_to_wait_for_itself()
        async with self._closing:
            if self._closed:
                return
            self._accepting = False
            await self._engine.close()
            self._closed = True
            self._stopped.set()
            await self._transport.close()
            await asyncio.to_thread(self._engine.release)

    # -- state -------------------------------------------------------------------------------------------------------

    async def start_task_accept(self) -> None:
        """See `Scheduler.start_task_accept`."""
        await self._connected()
        self._accepting = True

    async def stop_task_accept(self) -> None:
        """See `Scheduler.stop_task_accept`."""
        self._accepting = False

    async def start_task_execute(self, handler: Handler, confirm: Confirm = "auto") -> None:
        """See `Scheduler.start_task_execute`. Coroutine functions run on the application's event loop."""
        if self.executing_tasks:
            raise AlreadyExecuting
        await self._connected()
        self._stopped.clear()
        await self._engine.start_worker(handler, confirm)

    async def stop_task_execute(self, grace: float | None = None) -> None:
        """See `Scheduler.stop_task_execute`."""
        await self._engine.stop_worker(grace)
        self._stopped.set()

    async def wait(self, grace: float | None = None) -> None:
        """Waits until `stop_task_execute`, SIGTERM or SIGINT; a signal stops executing, with `grace` seconds."""
        loop = asyncio.get_running_loop()
        signalled = False

        def stop() -> None:
            nonlocal signalled
            signalled = True
            self._stopped.set()

        handled = []
        # Elsewhere signals do not come, and `stop_task_execute` ends the wait.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                try:
                    loop.add_signal_handler(number, stop)
                except NotImplementedError:
                    break  # how an event loop says that it has no signals, as on Windows
                handled.append(number)
        try:
            await self._stopped.wait()
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
        if signalled:
            await self.stop_task_execute(grace)

    def _set_concurrency(self, value: int) -> None:
        if self._engine.worker is not None:
            self._engine.worker.slots.concurrency = value

    # -- tasks -------------------------------------------------------------------------------------------------------

    @_coroutine_function
    def assign_task(self, task: Task, if_version: str | None = None) -> Coroutine[Any, Any, bool]:
        """See `Scheduler.assign_task`. Use it like any coroutine; only ``asyncio.wait`` wants it in a task.

        It leaves in this turn of the loop, awaited or not: at once while calls come one at a time, else together with
        all others of the turn.
        """
        operations, loop = self._engine.operations, self._loop
        # In another thread it may be made for this loop, and given to it afterwards.
        if loop is None or asyncio._get_running_loop() is not loop:
            return self._assign_task(task, if_version)
        if operations is not None and self._accepting and if_version is None:
            return self._batcher.assign(operations, task, loop)
        return self._assign_task(task, if_version)

    async def _assign_task(self, task: Task, if_version: str | None) -> bool:
        self._require_accepting()
        operations = await self._operations()
        if if_version is not None:
            return await self._run(operations.assign_task(task, if_version))
        return await self._batcher.assign(operations, task, asyncio.get_running_loop())

    async def assign_tasks(self, tasks: Iterable[Task]) -> AssignResult:
        """See `Scheduler.assign_tasks`."""
        self._require_accepting()
        return await self._run((await self._operations()).assign_tasks(tasks))

    async def post(
        self, payload: Any, delay: float | timedelta, id: str | None = None, max_retries: int | None = 0
    ) -> str:
        """See `Scheduler.post`."""
        task = posted_task(payload, delay, id, max_retries, self._engine.runtime)
        await self.assign_task(task)
        return task.id

    async def remove_task(self, task: Task | str) -> bool:
        """See `Scheduler.remove_task`."""
        return await self.remove_tasks([task]) > 0

    async def remove_tasks(self, tasks: Iterable[Task | str]) -> int:
        """See `Scheduler.remove_tasks`."""
        self._require_accepting()
        return await self._run((await self._operations()).remove_tasks(tasks))

    async def reschedule_task(
        self,
        task: Task | str,
        delay: float | timedelta | None = None,
        execute_on: datetime | float | None = None,
    ) -> bool:
        """See `Scheduler.reschedule_task`."""
        self._require_accepting()
        return await self._run((await self._operations()).reschedule_task(task, delay, execute_on))

    async def run_task_now(self, task: Task | str) -> bool:
        """See `Scheduler.run_task_now`."""
        self._require_accepting()
        return await self._run((await self._operations()).run_task_now(task))

    async def confirm_task(self, id: str, fencing_token: int | None = None) -> bool:
        """See `Scheduler.confirm_task`."""
        self._open()
        return await self._run((await self._operations()).confirm_task(id, token_for(id, fencing_token)))

    async def clear_all_tasks(self, progress: Callable[[int], None] | None = None) -> int:
        """See `Scheduler.clear_all_tasks`."""
        self._open()
        return await self._run((await self._operations()).clear_all_tasks(progress))

    # -- reading -----------------------------------------------------------------------------------------------------

    async def is_scheduled(self, task: Task | str) -> bool:
        """See `Scheduler.is_scheduled`."""
        return await self._run((await self._operations()).is_scheduled(task))

    async def peek_task(self, task: Task | str) -> ScheduledTask | None:
        """See `Scheduler.peek_task`."""
        return await self._run((await self._operations()).peek_task(task))

    async def upcoming(
        self, offset: float | timedelta = 0, duration: float | timedelta | None = None, limit: int | None = None
    ) -> AsyncIterator[ScheduledTask]:
        """See `Scheduler.upcoming`; iterate with ``async for``."""
        reader = (await self._operations()).upcoming(offset, duration, limit)
        while True:
            await self._run(reader.fill())
            tasks = reader.take()
            if not tasks:
                return
            for task in tasks:
                yield task

    async def queue_size(self) -> int:
        """See `Scheduler.queue_size`."""
        return (await self._run((await self._operations()).counts()))[0]

    async def task_size(self) -> int:
        """See `Scheduler.task_size`."""
        return (await self._run((await self._operations()).counts()))[1]

    async def stats(self) -> Stats:
        """See `Scheduler.stats`."""
        return await self._run((await self._operations()).stats())

    async def dead_tasks(self) -> list[DeadTask]:
        """See `Scheduler.dead_tasks`."""
        return await self._run((await self._operations()).dead_tasks())

    async def retry_dead_tasks(self, ids: Iterable[str] | None = None) -> int:
        """See `Scheduler.retry_dead_tasks`."""
        self._require_accepting()
        return await self._run((await self._operations()).retry_dead_tasks(ids))

    async def purge_dead_tasks(self, before: datetime | float | None = None) -> int:
        """See `Scheduler.purge_dead_tasks`."""
        self._require_accepting()
        return await self._run((await self._operations()).purge_dead_tasks(before))

    async def verify(self, progress: Callable[[int], None] | None = None) -> Audit:
        """See `Scheduler.verify`."""
        return await self._audit(False, progress)

    async def repair(self, progress: Callable[[int], None] | None = None) -> Audit:
        """See `Scheduler.repair`."""
        return await self._audit(True, progress)

    async def _audit(self, mend: bool, progress: Callable[[int], None] | None) -> Audit:
        from .protocol.audit import audit

        await self._operations()
        assert self._engine.layout is not None
        return await self._run(audit(self._engine.layout, self.options, self._engine.runtime, mend, progress))

    # -- locks -------------------------------------------------------------------------------------------------------

    async def try_lock(self, name: str) -> AsyncLock | None:
        """See `Scheduler.try_lock`."""
        return await self._take(name, lock_milliseconds(MANUAL_LOCK_SECONDS, "seconds"))

    async def unlock(self, lock: AsyncLock) -> bool:
        """See `Scheduler.unlock`."""
        return bool(await self._run((await self._operations()).lock(lock.name, "release", lock.holder, 0)))

    async def try_auto_lock(self, name: str, seconds: float | timedelta) -> bool:
        """See `Scheduler.try_auto_lock`."""
        return await self._take(name, lock_milliseconds(seconds, "seconds")) is not None

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[AsyncLock]:
        """See `Scheduler.lock`; use ``async with``."""
        held = await self.try_lock(name)
        if held is None:
            raise LockNotAcquired(name)
        try:
            yield held
        finally:
            await self.unlock(held)

    async def _take(self, name: str, ttl_ms: int) -> AsyncLock | None:
        holder = new_holder()
        token = await self._run((await self._operations()).lock(check_name(name), "take", holder, ttl_ms))
        return AsyncLock(name, token, holder, self._extend_lock) if token else None

    async def _extend_lock(self, lock: AsyncLock, seconds: float | timedelta) -> bool:
        ttl_ms = lock_milliseconds(seconds, "seconds")
        return bool(await self._run((await self._operations()).lock(lock.name, "extend", lock.holder, ttl_ms)))

    # -- parts -------------------------------------------------------------------------------------------------------

    async def _operations(self) -> Operations:
        return self._engine.operations or await self._connected()

    async def _connected(self) -> Operations:
        self._open()
        async with self._joining:
            operations = self._engine.operations
            if operations is None:
                operations = await self._run(self._engine.join())
                self._loop = asyncio.get_running_loop()
                await self._engine.watch()
            return operations

    async def _run(self, operation: Operation[T]) -> T:
        self._open()
        if self._engine.operations is not None:
            self._batcher.send(self._engine.operations)
        return await drive_async(operation, self._transport.execute, self._transport.begin)
