"""The blocking scheduler."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from .base import BaseScheduler, explain_post, lock_milliseconds, posted_task, token_for
from .model.errors import AlreadyExecuting, InvalidTask, LockNotAcquired
from .model.locks import MANUAL_LOCK_SECONDS, Lock, check_lock, check_name, new_holder
from .model.results import AssignResult, DeadTask, ScheduledTask, Stats
from .model.task import Task
from .model.times import grace_seconds
from .protocol.operation import Operation, drive
from .support import forks
from .support.signals import stop_signals
from .support.warning import warn_caller

if TYPE_CHECKING:
    from typing import Unpack

    from .loop_thread import LoopThread
    from .model.options import OptionFields, OptionsGiven
    from .protocol.audit import Audit
    from .protocol.tasks import Operations
    from .support.runtime import Runtime
    from .worker.handlers import Handler
    from .worker.worker import Confirm

T = TypeVar("T")


class Scheduler(BaseScheduler):
    """Assigns tasks and runs handlers for those that are due. Methods block; any thread may call them.

    Workers, and the watch over the instances, run on an event loop in a thread of their own. Assigning, removing and
    reading do not use that loop. `AsyncScheduler` has the same methods as coroutines.

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
        from .loop_thread import blocks_event_loop
        from .transport.blocking import BlockingTransport

        self._blocks_event_loop = blocks_event_loop
        self._warned = False
        self._transport = BlockingTransport(self._engine.endpoints)
        self._loop: LoopThread | None = None
        self._joining = forks.Lock()
        self._closing = forks.Lock()
        self._stopped = threading.Event()

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops executing (waiting for running handlers) and accepting, and closes every connection.

        The scheduler cannot be used afterwards. Closing it again does nothing. A ``with`` block closes it at its end.

        Raises:
            SchedulerError: inside a handler or a callback, which would wait for itself. Nothing is closed then.
        """
        if sys.is_finalizing():
            return  # the thread of the loop has ended in its middle: whoever waited for it would wait for ever
        loop = self._loop
        if loop is not None:
            self._engine.refuse_to_wait_for_itself()
            loop.refuse_to_wait_for_itself()
        self._notice_event_loop()
        with self._closing:
            if self._closed:
                return
            self._accepting = False
            if self._loop is not None:
                self._loop.run(self._engine.close())
                self._loop.close()
                self._loop = None
            self._closed = True
        self._stopped.set()
        self._transport.close()
        self._engine.release()

    # -- state -------------------------------------------------------------------------------------------------------

    def start_task_accept(self) -> None:
        """Connects, and accepts tasks from now on. Calling it again does nothing.

        Raises:
            PartitionUnavailable: where the master instance cannot be reached.
            TopologyMismatch: where the options do not fit the namespace.
            EmbeddedServerError: where a private server cannot be started.
        """
        self._connected()
        self._accepting = True

    def stop_task_accept(self) -> None:
        """Accepts no tasks from now on. Handlers go on."""
        self._accepting = False

    def start_task_execute(self, handler: Handler, confirm: Confirm = "auto") -> None:
        """Runs ``handler(payload)`` for every task that comes due, until `stop_task_execute`.

        `handler` is a plain function (run in threads) or a coroutine function (run on the scheduler's event loop). What
        it returns is ignored. If it raises, the run failed and is repeated as the task's `Retry` says. With
        ``confirm="manual"`` a run counts as done only when `confirm_task` is called for it.

        Raises:
            AlreadyExecuting: where a handler is running tasks already.
            InvalidOptions: where `handler` cannot be called with one payload, or `confirm` is another word.
            PartitionUnavailable: where the master instance cannot be reached.
            TopologyMismatch: where the options do not fit the namespace.
        """
        if self.executing_tasks:
            raise AlreadyExecuting
        self._connected()
        self._stopped.clear()
        self._on_loop(self._engine.start_worker(handler, confirm))

    def stop_task_execute(self, grace: float | timedelta | None = None) -> None:
        """Stops claiming, releases claimed tasks that have not started, and waits for running handlers.

        It waits at most `grace` (seconds or a timedelta); None waits without limit. A handler that still runs then
        keeps its lease until it ends, or the process does. Calling it while nothing executes does nothing. Accepting
        goes on.

        Raises:
            InvalidTask: for a `grace` that is no duration. Nothing is stopped then.
            SchedulerError: inside a handler, which would wait for itself.
        """
        seconds = grace_seconds(grace, "stop_task_execute")
        self._engine.refuse_to_wait_for_itself()
        if self._loop is not None:
            self._on_loop(self._engine.stop_worker(seconds))
        self._stopped.set()

    def wait(self, grace: float | timedelta | None = None) -> None:
        """Blocks until `stop_task_execute`, SIGTERM or SIGINT. A signal stops executing, with `grace` seconds.

        In the main thread only; elsewhere signals do not end the wait. A second signal has the effect that it would
        have without this method.

        Raises:
            InvalidTask: for a `grace` that is no duration, at once.
        """
        self._notice_event_loop()
        seconds = grace_seconds(grace, "wait")
        signalled = threading.Event()

        def stop() -> None:
            signalled.set()
            self._stopped.set()

        with stop_signals(stop):
            # The timeout only lets the main thread run its signal handlers, which some platforms need.
            while not self._stopped.wait(1.0):
                continue
        if signalled.is_set():
            self.stop_task_execute(seconds)

    def _set_concurrency(self, value: int) -> None:
        def change() -> None:
            if self._engine.worker is not None:
                self._engine.worker.slots.concurrency = value

        if self._loop is not None:
            self._loop.call(change)

    # -- tasks -------------------------------------------------------------------------------------------------------

    def assign_task(self, task: Task, if_version: str | None = None) -> bool:
        """Schedules a task, in one atomic step. True: the task is new; False: it existed and was updated.

        An update replaces payload, interval and options. The pending occurrence keeps its time, and the new interval
        counts from there. If the task is running, the update takes effect after the run.

        With `if_version`, the task is written only if it is still at this version (`ScheduledTask.version` from
        `peek_task`); with ``""``, only if no live task has this id.

        Raises:
            NotAcceptingTasks: before `start_task_accept`.
            InvalidTask: naming the wrong member; nothing was written.
            PayloadTooLarge: an `InvalidTask`, for a payload above ``max_payload_bytes``.
            TaskChanged: `if_version` does not hold; nothing was written.
            PartitionUnavailable: its instance cannot be reached; repeating is safe.
        """
        self._require_accepting()
        return self._run(self._operations.assign_task(task, if_version))

    def assign_tasks(self, tasks: Iterable[Task]) -> AssignResult:
        """Schedules any number of tasks, in batches as they come. Each batch is written, or refused, as a whole.

        Raises:
            InvalidTask: its attributes `created`, `updated` and `not_written` say what was written before it.
            AssignFailed: an instance could not be reached; assigning all of them again is safe.
        """
        self._require_accepting()
        self._notice_event_loop()
        operation = self._operations.assign_tasks(tasks)
        with self._transport.stream() as begin:
            return drive(operation, self._transport.execute, begin)

    def post(self, payload: Any, delay: float | timedelta, id: str | None = None, max_retries: int | None = 0) -> str:
        """Schedules a one-off task `delay` from now and returns its id; without `id`, one of 32 letters is made up.

        `max_retries` is how often a failed run is repeated: 0 never, None without limit. "Now" is the time of this
        machine. Everything else, and what is raised, is as with `assign_task`.
        """
        try:
            task = posted_task(payload, delay, id, max_retries, self._engine.runtime)
            self.assign_task(task)
        except InvalidTask as error:
            explain_post(error)
            raise
        return task.id

    def remove_task(self, task: Task | str) -> bool:
        """Removes a task in any state, and its dead letter. If it is running, nothing follows the run.

        False where nothing of this id existed.
        """
        return self.remove_tasks([task]) > 0

    def remove_tasks(self, tasks: Iterable[Task | str]) -> int:
        """Removes tasks, in batches, and returns how many existed. Each task is removed in one atomic step.

        Raises:
            PartitionUnavailable: some may have been removed; repeating is safe.
        """
        self._require_accepting()
        return self._run(self._operations.remove_tasks(tasks))

    def reschedule_task(
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
        return self._run(self._operations.reschedule_task(task, delay, execute_on))

    def run_task_now(self, task: Task | str) -> bool:
        """Asks for an extra run. The pending occurrence and the grid stay; a live run ends first.

        A task that is already due, or waits for a retry, runs now instead. False for an unknown id.
        """
        self._require_accepting()
        return self._run(self._operations.run_task_now(task))

    def confirm_task(self, id: str, fencing_token: int | None = None) -> bool:
        """Confirms that a run is done, under ``confirm="manual"``. False where the run does not own the task any more.

        Without `fencing_token` it must be called inside the handler of this task. Works without `start_task_accept`.
        """
        self._open()
        return self._run(self._operations.confirm_task(id, token_for(id, fencing_token)))

    def clear_all_tasks(self, progress: Callable[[int], None] | None = None) -> int:
        """Deletes all tasks and dead letters, in bounded steps, and returns the number of tasks.

        `progress` is called with the number so far. Locks, topology and the token sequences stay.
        """
        self._open()
        return self._run(self._operations.clear_all_tasks(progress))

    # -- reading -----------------------------------------------------------------------------------------------------

    def is_scheduled(self, task: Task | str) -> bool:
        """Whether a live task of this id exists: waiting, running, or waiting for a retry."""
        return self._run(self._operations.is_scheduled(task))

    def peek_task(self, task: Task | str) -> ScheduledTask | None:
        """What is stored of a task. Its dead letter if it is not live; None for an unknown id."""
        return self._run(self._operations.peek_task(task))

    def upcoming(
        self, offset: float | timedelta = 0, duration: float | timedelta | None = None, limit: int | None = None
    ) -> Iterator[ScheduledTask]:
        """Waiting tasks (those that wait for a retry too) in the order of their due times.

        They are read page by page, from `offset` seconds after now (0: overdue tasks too), for `duration` seconds
        (None: all), at most `limit` tasks.
        """
        reader = self._operations.upcoming(offset, duration, limit)

        def read() -> Iterator[ScheduledTask]:
            while True:
                self._run(reader.fill())
                tasks = reader.take()
                if not tasks:
                    return
                yield from tasks

        return read()

    def queue_size(self) -> int:
        """The number of buckets in use, over all partitions."""
        return self._run(self._operations.counts())[0]

    def task_size(self) -> int:
        """The number of live tasks: waiting, running, or waiting for a retry."""
        return self._run(self._operations.counts())[1]

    def stats(self) -> Stats:
        """Counts, lateness and next due time of every partition. Where one cannot be reached, its `error` says why."""
        return self._run(self._operations.stats())

    def dead_tasks(self) -> list[DeadTask]:
        """The dead letters, oldest first."""
        return self._run(self._operations.dead_tasks())

    def retry_dead_tasks(self, ids: Iterable[str] | None = None) -> int:
        """Makes dead letters (those of `ids`, or all) due now, with all their retries. Returns how many."""
        self._require_accepting()
        return self._run(self._operations.retry_dead_tasks(ids))

    def purge_dead_tasks(self, before: datetime | float | None = None) -> int:
        """Deletes all dead letters, or those whose last failure was `before` a time. Returns how many."""
        self._require_accepting()
        return self._run(self._operations.purge_dead_tasks(before))

    def verify(self, progress: Callable[[int], None] | None = None) -> Audit:
        """Checks every invariant of what is stored, in bounded steps, on a live system. Changes nothing.

        `progress` is called with the number of entries checked so far.

        Raises:
            PartitionUnavailable: where an instance cannot be reached.
            TopologyMismatch: where the namespace is not there; it is not created.
        """
        return self._audit(False, progress)

    def repair(self, progress: Callable[[int], None] | None = None) -> Audit:
        """Checks as `verify` does, and repairs what it finds without losing a task.

        A task that is out of place is put where its record says. A task whose record cannot be read becomes due now. A
        run without a lease gets one. Entries without a task are deleted.

        Raises:
            PartitionUnavailable: where an instance cannot be reached; repeating is safe.
            TopologyMismatch: where the namespace is not there; it is not created.
        """
        return self._audit(True, progress)

    def _audit(self, repair: bool, progress: Callable[[int], None] | None) -> Audit:
        with forks.held_back:
            from .protocol.audit import audit
        self._connected(create=False)
        assert self._engine.layout is not None
        return self._run(audit(self._engine.layout, self.options, self._engine.runtime, repair, progress))

    # -- locks -------------------------------------------------------------------------------------------------------

    def try_lock(self, name: str) -> Lock | None:
        """Takes a lock; None where somebody else holds it. Redis releases it after 24 h (see `Lock.extend`).

        `name` is text of 1 to 1,024 bytes; it has nothing to do with task ids. Locks are on the master instance.
        """
        return self._take(name, lock_milliseconds(MANUAL_LOCK_SECONDS, "seconds"))

    def unlock(self, lock: Lock) -> bool:
        """Releases a lock. False where this `lock` does not hold it any more.

        Raises:
            InvalidTask: for anything but what `try_lock` or `lock` gave.
        """
        return bool(self._run(self._operations.lock(check_lock(lock).name, "release", lock.holder, 0)))

    def try_auto_lock(self, name: str, seconds: float | timedelta) -> bool:
        """Takes a lock that Redis releases after `seconds` (1 ms to a year). False where somebody else holds it."""
        return self._take(name, lock_milliseconds(seconds, "seconds")) is not None

    @contextmanager
    def lock(self, name: str) -> Iterator[Lock]:
        """Holds a lock during a ``with`` block, at most 24 h; `Lock.extend` makes it longer.

        Raises:
            LockNotAcquired: where somebody else holds it.
        """
        held = self.try_lock(name)
        if held is None:
            raise LockNotAcquired(name)
        try:
            yield held
        finally:
            self.unlock(held)

    def _take(self, name: str, ttl_ms: int) -> Lock | None:
        holder = new_holder()
        token = self._run(self._operations.lock(check_name(name), "take", holder, ttl_ms))
        return Lock(name, token, holder, self._extend_lock) if token else None

    def _extend_lock(self, lock: Lock, seconds: float | timedelta) -> bool:
        ttl_ms = lock_milliseconds(seconds, "seconds")
        return bool(self._run(self._operations.lock(lock.name, "extend", lock.holder, ttl_ms)))

    # -- parts -------------------------------------------------------------------------------------------------------

    @property
    def _operations(self) -> Operations:
        return self._engine.operations or self._connected()

    def _connected(self, *, create: bool = True) -> Operations:
        self._open()
        with self._joining:
            operations = self._engine.operations
            if operations is None:
                operations = self._run(self._engine.join(create=create))
                self._on_loop(self._engine.watch())
            return operations

    def _run(self, operation: Operation[T]) -> T:
        self._open()
        self._notice_event_loop()
        return drive(operation, self._transport.execute)

    def _notice_event_loop(self) -> None:
        """Warns once of a call that holds up an event loop: nothing else there goes on meanwhile."""
        if self._blocks_event_loop() and not self._warned:
            self._warned = True
            warn_caller(
                "a method of Scheduler was called on an event loop, and nothing else runs there until it returns: use "
                "AsyncScheduler, or call it by asyncio.to_thread(). Other such calls are not warned of.",
                RuntimeWarning,
            )

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self._notice_event_loop()
        if self._loop is None:
            from .loop_thread import LoopThread  # imported here: importing asyncio takes longer than all of ours

            self._loop = LoopThread(self._engine.log)
        return self._loop.run(coroutine)

    def _forked(self) -> None:
        self._loop = None
        self._stopped = threading.Event()
        super()._forked()
