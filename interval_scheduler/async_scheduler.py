"""The asyncio scheduler."""

from __future__ import annotations

import inspect
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from .base import BaseScheduler, explain_post, lock_milliseconds, posted_task, token_for
from .model.errors import AlreadyExecuting, InvalidTask, LockNotAcquired, SchedulerError
from .model.locks import MANUAL_LOCK_SECONDS, AsyncLock, check_lock, check_name, new_holder
from .model.results import AssignResult, DeadTask, ScheduledTask, Stats
from .model.task import Task
from .model.times import grace_seconds
from .protocol.operation import Operation, drive_async
from .support.forks import held_back
from .support.signals import forget_previous, keep_previous
from .support.threads import in_thread

if TYPE_CHECKING:
    import asyncio
    from typing import Unpack

    from .model.options import OptionFields, OptionsGiven
    from .protocol.audit import Audit
    from .protocol.tasks import Operations
    from .support.runtime import Runtime
    from .worker.handlers import Handler
    from .worker.worker import Confirm

T = TypeVar("T")


def _import_asyncio() -> None:
    """Imports asyncio, with the first scheduler: that takes longer than importing everything of this package."""
    global asyncio
    import asyncio


def _mark_as_coroutine_function(function: Any) -> None:
    """Marks a function that returns an awaitable. Otherwise frameworks call it in a thread and drop what it returns."""
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(function)
    else:
        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]


class AsyncScheduler(BaseScheduler):
    """Assigns tasks and runs handlers for those that are due. Methods are coroutines on the application's event loop.

    Calls that are made in the same turn of the loop are sent together. `Scheduler` has the same methods, which block.

    Durations are seconds (int or float) or a timedelta. Where a method takes ``Task | str``, give a task or its id.
    Methods connect when they are first used. Besides the errors that they name, methods that talk to Redis raise
    `PartitionUnavailable` (an instance does not answer), `TopologyMismatch` (an instance is not the one that has the
    data), `SchedulerClosed` and, for a wrong argument, `InvalidTask`. Methods that change tasks raise
    `NotAcceptingTasks` before `start_task_accept`. A call that is refused has changed nothing.
    """

    def __init__(
        self,
        options: OptionsGiven = None,
        logger: Any = None,
        *,
        runtime: Runtime | None = None,
        **fields: Unpack[OptionFields],
    ) -> None:
        """Checks the options. Nothing is connected yet.

        Args:
            options: nothing (``redis://localhost:6379/0``), a URL, a list of URLs or mappings, a nested mapping
                ``{"namespace": …, "storage": {"instances": […]}}``, or an `Options` value.
            logger: a structlog or standard library logger, or an object with their methods; structlog's by default.
            runtime: only for tests and simulations.
            **fields: single options by name, which override `options`, such as ``namespace="shop"``.

        Raises:
            InvalidOptions: naming every wrong field, and what is allowed.
        """
        super().__init__(options, logger, runtime=runtime, **fields)
        _import_asyncio()
        _mark_as_coroutine_function(AsyncScheduler.assign_task)
        self._use_no_loop_yet()

    def _use_no_loop_yet(self) -> None:
        """Makes what belongs to an event loop: to that on which it is used first."""
        from .transport.aio import AsyncTransport
        from .transport.batching import Batcher

        self._transport = AsyncTransport(self._engine.endpoints)
        self._batcher = Batcher(self._transport)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._joining = asyncio.Lock()
        self._closing = asyncio.Lock()
        self._stopped = asyncio.Event()

    def _forked(self) -> None:
        super()._forked()
        self._use_no_loop_yet()

    async def __aenter__(self) -> AsyncScheduler:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stops executing (waiting for running handlers) and accepting, and closes every connection.

        The scheduler cannot be used afterwards. Closing it again does nothing. An ``async with`` block closes it at its
        end.

        Raises:
            SchedulerError: inside a handler, which would wait for itself. Nothing is closed then.
        """
        self._engine.refuse_to_wait_for_itself()
        async with self._closing:
            if self._closed:
                return
            self._accepting = False
            await self._engine.close()
            self._closed = True
            self._stopped.set()
            await self._transport.close()
            await in_thread(self._engine.release)

    # -- state -------------------------------------------------------------------------------------------------------

    async def start_task_accept(self) -> None:
        """Connects, and accepts tasks from now on. Calling it again does nothing.

        Raises:
            PartitionUnavailable: where the master instance cannot be reached.
            TopologyMismatch: where the options do not fit the namespace.
            EmbeddedServerError: where a private server cannot be started.
        """
        await self._connected()
        self._accepting = True

    async def stop_task_accept(self) -> None:
        """Accepts no tasks from now on. Handlers go on."""
        self._accepting = False

    async def start_task_execute(self, handler: Handler, confirm: Confirm = "auto") -> None:
        """Runs ``handler(payload)`` for every task that comes due, until `stop_task_execute`.

        `handler` is a plain function (run in threads) or a coroutine function (run on the application's event loop).
        What it returns is ignored. If it raises, the run failed and is repeated as the task's `Retry` says. With
        ``confirm="manual"`` a run counts as done only when `confirm_task` is called for it.

        Raises:
            AlreadyExecuting: where a handler is running tasks already.
            InvalidOptions: where `handler` cannot be called with one payload, or `confirm` is another word.
            PartitionUnavailable: where the master instance cannot be reached.
            TopologyMismatch: where the options do not fit the namespace.
        """
        if self.executing_tasks:
            raise AlreadyExecuting
        await self._connected()
        self._stopped.clear()
        await self._engine.start_worker(handler, confirm)

    async def stop_task_execute(self, grace: float | timedelta | None = None) -> None:
        """Stops claiming, releases claimed tasks that have not started, and waits for running handlers.

        It waits at most `grace` (seconds or a timedelta); None waits without limit. A handler that still runs then
        keeps its lease until it ends, or the process does. Calling it while nothing executes does nothing. Accepting
        goes on.

        Raises:
            InvalidTask: for a `grace` that is no duration. Nothing is stopped then.
            SchedulerError: inside a handler, which would wait for itself.
        """
        seconds = grace_seconds(grace, "stop_task_execute")
        await self._engine.stop_worker(seconds)
        self._stopped.set()

    async def wait(self, grace: float | timedelta | None = None) -> None:
        """Waits until `stop_task_execute`, SIGTERM or SIGINT. A signal stops executing, with `grace` seconds.

        In the main thread only; elsewhere signals do not end the wait. A second signal has the effect that it would
        have without this method.

        Raises:
            InvalidTask: for a `grace` that is no duration, at once.
        """
        seconds = grace_seconds(grace, "wait")
        loop = asyncio.get_running_loop()
        signalled = False

        def stop() -> None:
            nonlocal signalled
            signalled = True
            self._stopped.set()

        handled = []
        # In other threads there are no signals: only `stop_task_execute` ends the wait.
        if threading.current_thread() is threading.main_thread():
            keep_previous()
            for number in (signal.SIGTERM, signal.SIGINT):
                try:
                    loop.add_signal_handler(number, stop)
                except NotImplementedError:
                    break  # this event loop has no signals, as on Windows
                handled.append(number)
        try:
            await self._stopped.wait()
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
            if handled:
                forget_previous()
        if signalled:
            await self.stop_task_execute(seconds)

    def _set_concurrency(self, value: int) -> None:
        if self._engine.worker is not None:
            self._engine.worker.slots.concurrency = value

    # -- tasks -------------------------------------------------------------------------------------------------------

    def assign_task(self, task: Task, if_version: str | None = None) -> Coroutine[Any, Any, bool]:
        """Schedules a task, in one atomic step. True: the task is new; False: it existed and was updated.

        An update replaces payload, interval and options. The pending occurrence keeps its time, and the new interval
        counts from there. If the task is running, the update takes effect after the run.

        With `if_version`, the task is written only if it is still at this version (`ScheduledTask.version` from
        `peek_task`); with ``""``, only if no live task has this id.

        The command is sent in this turn of the loop, whether the call is awaited or not: at once while calls come one
        at a time, else together with all others of the turn. What it returns is awaitable; only ``asyncio.wait`` needs
        a task.

        Raises:
            NotAcceptingTasks: before `start_task_accept`.
            InvalidTask: naming the wrong member; nothing was written.
            PayloadTooLarge: an `InvalidTask`, for a payload above ``max_payload_bytes``.
            TaskChanged: `if_version` does not hold; nothing was written.
            PartitionUnavailable: its instance cannot be reached; repeating is safe.
        """
        operations, loop = self._engine.operations, self._loop
        # Another thread may call this and give the coroutine to the loop afterwards.
        if loop is None or asyncio._get_running_loop() is not loop:
            return self._assign_task(task, if_version)
        if operations is not None and self._accepting and if_version is None:
            return self._batcher.assign(operations, task, loop)
        return self._assign_task(task, if_version)

    async def _assign_task(self, task: Task, if_version: str | None) -> bool:
        self._require_accepting()
        self._require_loop()
        operations = await self._operations()
        if if_version is not None:
            return await self._run(operations.assign_task(task, if_version))
        return await self._batcher.assign(operations, task, asyncio.get_running_loop())

    async def assign_tasks(self, tasks: Iterable[Task]) -> AssignResult:
        """Schedules any number of tasks, in batches as they come. Each batch is written, or refused, as a whole.

        Raises:
            InvalidTask: its attributes `created`, `updated` and `not_written` say what was written before it.
            AssignFailed: an instance could not be reached; assigning all of them again is safe.
        """
        self._require_accepting()
        return await self._run((await self._operations()).assign_tasks(tasks))

    async def post(
        self, payload: Any, delay: float | timedelta, id: str | None = None, max_retries: int | None = 0
    ) -> str:
        """Schedules a one-off task `delay` from now and returns its id; without `id`, one of 32 letters is made up.

        `max_retries` is how often a failed run is repeated: 0 never, None without limit. "Now" is the time of this
        machine. Everything else, and what is raised, is as with `assign_task`.
        """
        try:
            task = posted_task(payload, delay, id, max_retries, self._engine.runtime)
            await self.assign_task(task)
        except InvalidTask as error:
            explain_post(error)
            raise
        return task.id

    async def remove_task(self, task: Task | str) -> bool:
        """Removes a task in any state, and its dead letter. If it is running, nothing follows the run.

        False where nothing of this id existed.
        """
        return await self.remove_tasks([task]) > 0

    async def remove_tasks(self, tasks: Iterable[Task | str]) -> int:
        """Removes tasks, in batches, and returns how many existed. Each task is removed in one atomic step.

        Raises:
            PartitionUnavailable: some may have been removed; repeating is safe.
        """
        self._require_accepting()
        return await self._run((await self._operations()).remove_tasks(tasks))

    async def reschedule_task(
        self,
        task: Task | str,
        delay: float | timedelta | None = None,
        execute_on: datetime | float | None = None,
    ) -> bool:
        """Moves the pending occurrence to `delay` seconds from now, or to `execute_on`. Its grid stays.

        Give exactly one of the two; `execute_on` is an aware datetime or unix seconds. False for an unknown id; nothing
        is created then. If the task is running, the move wins over the outcome of the run.
        """
        self._require_accepting()
        return await self._run((await self._operations()).reschedule_task(task, delay, execute_on))

    async def run_task_now(self, task: Task | str) -> bool:
        """Asks for an extra run. The pending occurrence and the grid stay; a live run ends first.

        A task that is already due, or waits for a retry, runs now instead. False for an unknown id.
        """
        self._require_accepting()
        return await self._run((await self._operations()).run_task_now(task))

    async def confirm_task(self, id: str, fencing_token: int | None = None) -> bool:
        """Confirms that a run is done, under ``confirm="manual"``. False where the run does not own the task any more.

        Without `fencing_token` it must be called inside the handler of this task. Works without `start_task_accept`.
        """
        self._open()
        return await self._run((await self._operations()).confirm_task(id, token_for(id, fencing_token)))

    async def clear_all_tasks(self, progress: Callable[[int], None] | None = None) -> int:
        """Deletes all tasks and dead letters, in bounded steps, and returns the number of tasks.

        `progress` is called with the number so far. Locks, topology and the token sequences stay.
        """
        self._open()
        return await self._run((await self._operations()).clear_all_tasks(progress))

    # -- reading -----------------------------------------------------------------------------------------------------

    async def is_scheduled(self, task: Task | str) -> bool:
        """Whether a live task of this id exists: waiting, running, or waiting for a retry."""
        return await self._run((await self._operations()).is_scheduled(task))

    async def peek_task(self, task: Task | str) -> ScheduledTask | None:
        """What is stored of a task. Its dead letter if it is not live; None for an unknown id."""
        return await self._run((await self._operations()).peek_task(task))

    async def upcoming(
        self, offset: float | timedelta = 0, duration: float | timedelta | None = None, limit: int | None = None
    ) -> AsyncIterator[ScheduledTask]:
        """Waiting tasks (those that wait for a retry too) in the order of their due times; iterate with ``async for``.

        They are read page by page, from `offset` seconds after now (0: overdue tasks too), for `duration` seconds
        (None: all), at most `limit` tasks.
        """
        reader = (await self._operations()).upcoming(offset, duration, limit)
        while True:
            await self._run(reader.fill())
            tasks = reader.take()
            if not tasks:
                return
            for task in tasks:
                yield task

    async def queue_size(self) -> int:
        """The number of buckets in use, over all partitions."""
        return (await self._run((await self._operations()).counts()))[0]

    async def task_size(self) -> int:
        """The number of live tasks: waiting, running, or waiting for a retry."""
        return (await self._run((await self._operations()).counts()))[1]

    async def stats(self) -> Stats:
        """Counts, lateness and next due time of every partition. Where one cannot be reached, its `error` says why."""
        return await self._run((await self._operations()).stats())

    async def dead_tasks(self) -> list[DeadTask]:
        """The dead letters, oldest first."""
        return await self._run((await self._operations()).dead_tasks())

    async def retry_dead_tasks(self, ids: Iterable[str] | None = None) -> int:
        """Makes dead letters (those of `ids`, or all) due now, with all their retries. Returns how many."""
        self._require_accepting()
        return await self._run((await self._operations()).retry_dead_tasks(ids))

    async def purge_dead_tasks(self, before: datetime | float | None = None) -> int:
        """Deletes all dead letters, or those whose last failure was `before` a time. Returns how many."""
        self._require_accepting()
        return await self._run((await self._operations()).purge_dead_tasks(before))

    async def verify(self, progress: Callable[[int], None] | None = None) -> Audit:
        """Checks every invariant of what is stored, in bounded steps, on a live system. Changes nothing.

        `progress` is called with the number of entries checked so far.

        Raises:
            PartitionUnavailable: where an instance cannot be reached.
            TopologyMismatch: where the namespace is not there; it is not created.
        """
        return await self._audit(False, progress)

    async def repair(self, progress: Callable[[int], None] | None = None) -> Audit:
        """Checks as `verify` does, and repairs what it finds without losing a task.

        A task that is out of place is put where its record says. A task whose record cannot be read becomes due now. A
        run without a lease gets one. Entries without a task are deleted.

        Raises:
            PartitionUnavailable: where an instance cannot be reached; repeating is safe.
            TopologyMismatch: where the namespace is not there; it is not created.
        """
        return await self._audit(True, progress)

    async def _audit(self, repair: bool, progress: Callable[[int], None] | None) -> Audit:
        with held_back:
            from .protocol.audit import audit
        await self._connected(create=False)
        assert self._engine.layout is not None
        return await self._run(audit(self._engine.layout, self.options, self._engine.runtime, repair, progress))

    # -- locks -------------------------------------------------------------------------------------------------------

    async def try_lock(self, name: str) -> AsyncLock | None:
        """Takes a lock; None where somebody else holds it. Redis releases it after 24 h (see `AsyncLock.extend`).

        `name` is text of 1 to 1,024 bytes; it has nothing to do with task ids. Locks are on the master instance.
        """
        return await self._take(name, lock_milliseconds(MANUAL_LOCK_SECONDS, "seconds"))

    async def unlock(self, lock: AsyncLock) -> bool:
        """Releases a lock. False where this `lock` does not hold it any more.

        Raises:
            InvalidTask: for anything but what `try_lock` or `lock` gave.
        """
        return bool(await self._run((await self._operations()).lock(check_lock(lock).name, "release", lock.holder, 0)))

    async def try_auto_lock(self, name: str, seconds: float | timedelta) -> bool:
        """Takes a lock that Redis releases after `seconds` (1 ms to a year). False where somebody else holds it."""
        return await self._take(name, lock_milliseconds(seconds, "seconds")) is not None

    @asynccontextmanager
    async def lock(self, name: str) -> AsyncIterator[AsyncLock]:
        """Holds a lock during an ``async with`` block, at most 24 h; `AsyncLock.extend` makes it longer.

        Raises:
            LockNotAcquired: where somebody else holds it.
        """
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

    def _require_loop(self) -> None:
        """
        Raises:
            SchedulerError: on another event loop than the one that this scheduler lives on.
        """
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise SchedulerError(
                "this AsyncScheduler belongs to another event loop, the one on which it was used first: make one for "
                "each event loop, or use Scheduler, which works in every thread. Nothing was written."
            )

    async def _connected(self, *, create: bool = True) -> Operations:
        self._open()
        self._require_loop()
        async with self._joining:
            operations = self._engine.operations
            if operations is None:
                operations = await self._run(self._engine.join(create=create))
                self._loop = asyncio.get_running_loop()
                await self._engine.watch()
            return operations

    async def _run(self, operation: Operation[T]) -> T:
        self._open()
        self._require_loop()
        if self._engine.operations is not None:
            self._batcher.send(self._engine.operations)
        return await drive_async(operation, self._transport.execute, self._transport.begin)
