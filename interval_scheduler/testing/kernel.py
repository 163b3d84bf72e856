"""Virtual time: any number of processes, each with an event loop of its own, in one thread and one reproducible order.

A process is a `Runtime`: schedulers and workers that are given one run their real code in it, and every wait of theirs
is an event of the kernel. Nothing ever waits for real, and two runs with the same seed do the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import math
import random
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from ..support.runtime import Runtime

_Callback = Callable[..., object]


class Event:
    """Something to be done at a virtual time; what asyncio knows as a timer handle."""

    __slots__ = ("args", "callback", "context", "process", "time")

    def __init__(
        self,
        time: float,
        process: Process | None,
        callback: _Callback,
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        self.time = time
        self.process = process
        self.callback: _Callback | None = callback
        self.args = args
        self.context = context

    def cancel(self) -> None:
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.time


class Kernel:
    """The virtual time, `now` in seconds from 0, and what is going to happen. `start` is the unix time of its 0.

    With `ticks` in a second, things happen only at these.
    """

    def __init__(self, seed: object, start: float, ticks: int = 0) -> None:
        self.seed = seed
        self.start = start
        self._ticks = ticks
        self.now = 0.0
        self.random = random.Random(f"{seed}")
        self.errors: list[BaseException] = []
        """What escaped from callbacks and tasks that nobody waited for."""
        self.processes: list[Process] = []
        self._events: list[tuple[float, int, Event]] = []
        self._left: list[Event] = []
        """What processes that died had before them: it holds their coroutines until they are buried."""
        self._order = itertools.count()

    def at(
        self,
        time: float,
        process: Process | None,
        callback: _Callback,
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Event:
        """Calls `callback` at a virtual time, on the loop of a `process` if there is one."""
        event = Event(max(self._at_tick(time), self.now), process, callback, args, context)
        heapq.heappush(self._events, (event.time, next(self._order), event))
        return event

    def after(self, seconds: float, callback: _Callback, *args: Any) -> Event:
        """Calls `callback` in so many virtual seconds, outside all processes."""
        return self.at(self.now + seconds, None, callback, *args)

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Lets things happen up to a virtual time, or until `done()`."""
        until = self._at_tick(until)
        while self._events and self._events[0][0] <= until and not done():
            time, _, event = heapq.heappop(self._events)
            self.now = max(self.now, time)
            self._happen(event)
        if not done():
            self.now = max(self.now, until)

    def _at_tick(self, time: float) -> float:
        if not self._ticks or not self.now < time < float("inf"):
            return time
        # A thousandth of a tick is the error of a sum; but what is later than now comes later, or waits never end.
        tick = math.ceil(time * self._ticks - 0.001)
        return (tick if tick / self._ticks > self.now else tick + 1) / self._ticks

    def _happen(self, event: Event) -> None:
        callback, process = event.callback, event.process
        if callback is None:
            return
        if process is None:
            callback(*event.args)
            return
        if not process.alive:
            self._left.append(event)
            return
        if process.stalled_until > self.now:
            # It goes on where it stopped: what was to happen meanwhile happens then, in the same order.
            heapq.heappush(self._events, (process.stalled_until, next(self._order), event))
            return
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(process.loop)
        try:
            if event.context is None:
                callback(*event.args)
            else:
                event.context.run(callback, *event.args)
        except ProcessCrashed:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            asyncio._set_running_loop(outer)

    def close(self) -> None:
        """Ends every process, and what is left of its coroutines, so that nothing of them runs at a later time."""
        for process in self.processes:
            process.crash()
        for process in self.processes:
            process.loop.bury()
        self._events.clear()
        self._left.clear()


class ProcessCrashed(BaseException):
    """Unwinds the code of a process that has just crashed; nothing it does on the way has an effect."""


class Process(Runtime):
    """A process, and the runtime its code sees. `clock` is how far the clock of its machine is ahead, in seconds."""

    threads = False
    kernel_timers = False

    def __init__(self, kernel: Kernel, name: str, endpoint: Callable[[Process, Any], Any], clock: float = 0.0) -> None:
        super().__init__()
        kernel.processes.append(self)
        self.kernel = kernel
        self.name = name
        self.random = random.Random(f"{kernel.seed}-{name}")
        self.clock = clock
        self.alive = True
        self.ended_at: float | None = None
        self.stalled_until = 0.0
        self.loop: Any = VirtualLoop(self)
        self.endpoint = lambda instance: endpoint(self, instance)

    def monotonic(self) -> float:
        return self.kernel.now

    def suspended(self) -> float:
        return 0.0

    def zone_data(self) -> str:
        return ""

    def time(self) -> float:
        return self.kernel.start + self.kernel.now + self.clock

    def random_id(self) -> str:
        return f"{self.random.getrandbits(48):012x}"

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Starts a coroutine in this process."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self.loop)
        try:
            task: asyncio.Task[Any] = self.loop.create_task(coroutine)
        finally:
            asyncio._set_running_loop(outer)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if self.alive and error is not None:
            self.kernel.errors.append(error)

    def crash(self) -> None:
        """Ends it at this very instruction, as SIGKILL does."""
        if self.alive:
            self.alive = False
            self.ended_at = self.kernel.now

    def stall(self, seconds: float) -> None:
        """Lets it do nothing for a while, as SIGSTOP or a long garbage collection does."""
        self.stalled_until = max(self.stalled_until, self.kernel.now + seconds)


class VirtualLoop:
    """What asyncio needs of an event loop, in virtual time. It has no files, sockets, signals or threads."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._tasks: list[tuple[weakref.ref[asyncio.Task[Any]], contextvars.Context]] = []

    def time(self) -> float:
        return self._process.kernel.now

    def call_soon(self, callback: _Callback, *args: Any, context: Any = None) -> Any:
        return self.call_at(self._process.kernel.now, callback, *args, context=context)

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: _Callback, *args: Any, context: Any = None) -> Any:
        return self.call_at(self._process.kernel.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: _Callback, *args: Any, context: Any = None) -> Any:
        context = contextvars.copy_context() if context is None else context
        return self._process.kernel.at(when, self._process, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        loop: Any = self
        return asyncio.Future(loop=loop)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None, **_: Any) -> Any:
        context = contextvars.copy_context() if context is None else context
        loop: Any = self
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, name=name, context=context)
        self._tasks.append((weakref.ref(task), context))
        return task

    def bury(self) -> None:
        """Unwinds what a dead process has left, without any effect."""
        for reference, context in self._tasks:
            task = reference()
            coroutine: Any = None if task is None or task.done() else task.get_coro()
            if coroutine is not None:
                # It may wait for something on its way out: nothing will come of that.
                with contextlib.suppress(RuntimeError):
                    context.run(coroutine.close)
        self._tasks.clear()

    def run_in_executor(self, executor: Any, func: _Callback, *args: Any) -> Any:
        """Runs `func` at once: there is no thread, and nothing that it could wait for."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def is_running(self) -> bool:
        return self._process.alive

    def is_closed(self) -> bool:
        return not self._process.alive

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self._process.alive and isinstance(error, Exception):
            self._process.kernel.errors.append(error)
