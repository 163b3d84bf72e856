"""Runs handlers: coroutine functions on the event loop, plain functions in threads.

Both sorts keep a set of runners (asyncio tasks, or threads), and each runner takes one run after another. An asyncio
task or a future for each run would cost more than many handlers do.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from ..core.settlement import End, Outcome
from ..model.errors import GiveUp, Postpone, RetryAfter
from ..model.times import YEAR_MS, parse_duration
from ..support.text import error_text, is_of, type_name, valid_text
from .handlers import Handler, is_coroutine_function, on_loop
from .run import Run
from .run_context import RunContexts

_DONE = Outcome(End.DONE)
_TOO_LATE = Outcome(End.RELEASED)
_GROW_SECONDS = 0.2
"""How long to wait before another thread is asked for, after the system gave none."""
_CLEANUP_SECONDS = 1.0
"""How long after its timeout a handler may take to end before that is told."""
CANCELLED = Outcome(End.FAILED, "cancelled")
"""The asyncio task of the handler was cancelled, and not by the worker: perhaps by the handler itself."""


class Runner(Protocol):
    """What both sorts can do."""

    def submit(self, run: Run) -> None:
        """Starts a run as soon as a runner is free. If its lease has ended by then, the handler is not called."""
        ...

    def withdraw(self) -> list[Run]:
        """Takes back the runs that have not begun."""
        ...

    def close(self) -> None: ...


class Observer(Protocol):
    """Who is told of every run."""

    def handler_begins(self, run: Run) -> None:
        """A handler is about to begin. Called in its thread, where it has one."""

    def handler_ended(self, run: Run, outcome: Outcome) -> None:
        """A handler has ended, or its run was too late to begin. Called on the loop."""


def make_runner(handler: Handler, observer: Observer, *, threads: bool) -> Runner:
    """What runs a handler: on the loop if it is a coroutine function, or if there are no `threads`, else in threads."""
    if is_coroutine_function(handler):
        return CoroutineRunners(handler, observer)
    return ThreadRunners(handler, observer) if threads else CoroutineRunners(on_loop(handler), observer)


class CoroutineRunners:
    """Asyncio tasks that take runs from one queue. There are as many as were ever busy at once."""

    def __init__(self, handler: Handler, observer: Observer) -> None:
        self._contexts = RunContexts(handler)
        self._begins = observer.handler_begins
        self._ended = observer.handler_ended
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Run] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._waking = False
        self._closed = False

    def submit(self, run: Run) -> None:
        self._queue.append(run)
        if not self._waking:
            self._wake_one()

    def _wake_one(self) -> None:
        # One runner at a time is woken; it wakes the next one before it starts, in case its handler waits. A flood of
        # handlers that do not wait is then run by one task, without switches.
        self._waking = True
        while self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
                return
        task = self._loop.create_task(self._run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not self._closed:
            self._waking = False
            while self._queue:
                run = self._queue.popleft()
                if self._queue and not self._waking:
                    self._wake_one()
                if _is_too_late(run, self._loop):
                    self._ended(run, _TOO_LATE)
                elif not await self._run_one(run, task):
                    if self._queue and not self._waking:
                        self._wake_one()
                    return
            waiter = self._loop.create_future()
            self._idle.append(waiter)
            await waiter

    async def _run_one(self, run: Run, task: asyncio.Task[None]) -> bool:
        """Runs one handler. Returns whether the runner goes on: not if others cancelled its asyncio task, as at the end
        of a loop, which waits for it."""
        timer, goes_on = None, True
        if run.definition.timeout is not None:
            timer = self._loop.call_later(run.definition.timeout / 1000, _time_out, run)
            run.should_have_ended = self._loop.time() + run.definition.timeout / 1000 + _CLEANUP_SECONDS
        run.owner = task
        self._begins(run)
        outcome, steps = _DONE, None
        try:
            steps = self._contexts.start(run)
            if steps is not None:
                await steps
        except asyncio.CancelledError:
            if self._closed:
                raise
            outcome = Outcome(End.FAILED, _timeout_text(run)) if run.timed_out else CANCELLED
        except BaseException as error:  # SystemExit too: a handler hurts only its own task
            if steps is not None and steps.is_abandoned:
                raise
            outcome = _verdict(error)
        finally:
            run.owner = None
            if timer is not None:
                timer.cancel()
            # The worker cancels a run, not the runner. A cancellation that came too late must not hit the next run.
            if task.cancelling():
                goes_on = task.cancelling() <= run.cancellations
                await _take_cancellation(task)
        self._ended(run, outcome)
        return goes_on

    def withdraw(self) -> list[Run]:
        runs = list(self._queue)
        self._queue.clear()
        return runs

    def close(self) -> None:
        self._closed = True
        for task in self._tasks:
            task.cancel()


async def _take_cancellation(task: asyncio.Task[None]) -> None:
    """Takes a cancellation that has not arrived yet, as when a handler cancels itself and returns."""
    with contextlib.suppress(asyncio.CancelledError):  # before Python 3.13 `uncancel` does not call it back
        await asyncio.sleep(0)
    while task.cancelling():
        task.uncancel()


def _time_out(run: Run) -> None:
    run.timed_out = True
    run.cancel()


class ThreadRunners:
    """Daemon threads that take runs from one queue. There are as many as were ever busy at once.

    A thread cannot be stopped: one that hangs keeps its slot, but does not keep the process from ending.
    """

    def __init__(self, handler: Handler, observer: Observer) -> None:
        self._contexts = RunContexts(handler)
        self._begins = observer.handler_begins
        self._ended = observer.handler_ended
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Run | None] = SimpleQueue()
        self._results: deque[tuple[Run, Outcome]] = deque()
        self._reporting = False
        self._threads = 0
        self._busy = 0
        self._growing = False

    def submit(self, run: Run) -> None:
        self._queue.put(run)
        self._busy += 1
        if self._busy > self._threads and not self._growing:
            self._grow()

    def _grow(self) -> None:
        """Starts a thread for each run that waits for one. Where the system has none to give, tries again later."""
        self._growing = False
        while self._busy > self._threads:
            name = f"interval-scheduler-handler-{self._threads + 1}"
            try:
                threading.Thread(target=self._work, name=name, daemon=True).start()
            except RuntimeError:  # the limit of the system: the run waits, under its lease
                self._growing = True
                self._loop.call_later(_GROW_SECONDS, self._grow)
                return
            self._threads += 1

    def _work(self) -> None:
        while (run := self._queue.get()) is not None:
            outcome = _TOO_LATE if _is_too_late(run, self._loop) else self._run_one(run)
            self._results.append((run, outcome))
            # The loop is woken once for all results until it looks. It clears the flag before it looks.
            if not self._reporting:
                self._reporting = True
                try:
                    self._loop.call_soon_threadsafe(self._report)
                except RuntimeError:  # the loop is closed: the process ends, and the lease lapses
                    return
            del run

    def _run_one(self, run: Run) -> Outcome:
        run.owner = threading.get_ident()
        self._begins(run)
        begin, limit = self._loop.time(), run.definition.timeout
        if limit is not None:
            run.should_have_ended = begin + limit / 1000 + _CLEANUP_SECONDS
        outcome = _DONE
        try:
            self._contexts.call(run)
        except BaseException as error:
            outcome = _verdict(error)
        finally:
            run.owner = None
        if limit is not None and self._loop.time() - begin > limit / 1000:
            outcome = Outcome(End.FAILED, _timeout_text(run))
        return outcome

    def _report(self) -> None:
        self._reporting = False
        while self._results:
            run, outcome = self._results.popleft()
            self._busy -= 1
            self._ended(run, outcome)

    def withdraw(self) -> list[Run]:
        runs = []
        while not self._queue.empty():
            try:
                run = self._queue.get_nowait()
            except Empty:  # a thread was quicker
                break
            if run is not None:
                runs.append(run)
        self._busy -= len(runs)
        return runs

    def close(self) -> None:
        for _ in range(self._threads):
            self._queue.put(None)


def _is_too_late(run: Run, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a run lost its lease before it began: its task was removed, the reply to the claim took longer than the
    lease, or this process stood still."""
    return run.lost or run.deadline <= loop.time()


def _verdict(error: BaseException) -> Outcome:
    """The outcome of a run whose handler raised `error`.

    It may raise anything whatever it is asked for, even its class: what cannot be had is left out, and a pause that is
    none is that of the retry policy.
    """
    if is_of(error, GiveUp):
        return Outcome(End.ABANDONED, _text(error), exception=error)
    if is_of(error, Postpone, RetryAfter):
        pause = _milliseconds(error)
        if is_of(error, Postpone) and pause is not None:
            return Outcome(End.RELEASED, delay=max(1, pause))
        return Outcome(End.FAILED, _text(error), exception=error, pause=pause)
    return Outcome(End.FAILED, error_text(error), exception=error)


def _milliseconds(verdict: Any) -> int | None:
    """How long a verdict says to wait; None where it says nothing that can be meant."""
    try:
        return parse_duration(verdict.seconds, type_name(verdict), "seconds", maximum_ms=YEAR_MS)
    except BaseException:  # it may be missing, or a property that raises anything
        return None


def _text(verdict: BaseException) -> str:
    """What a verdict says, or else what it is."""
    try:
        return valid_text(str(verdict)) or type_name(verdict)
    except BaseException:  # its __str__ may raise anything
        return type_name(verdict)


def _timeout_text(run: Run) -> str:
    return f"TimeoutError: ran longer than its timeout of {(run.definition.timeout or 0) / 1000:g} s"
