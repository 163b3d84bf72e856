"""A scheduler in virtual time, for the tests of applications: a month passes in the time its tasks take."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeVar, Unpack

from ..async_scheduler import AsyncScheduler
from ..core.definition import Definition, decode_body
from ..core.record import RUNNING, Header, parse_header, split_record
from ..core.schedule import next_slot
from ..model.errors import InvalidOptions, SchedulerError
from ..model.options import OptionFields, OptionsGiven, load_options
from ..model.times import grace_seconds, to_datetime
from ..protocol import calls, keys
from ..scheduler import Scheduler
from ..support.text import short_repr, type_with_article
from ..worker.handlers import Handler, check_handler, on_loop
from ..worker.run import current_execution
from ..worker.worker import Confirm
from .kernel import Kernel, Process
from .network import Network
from .servers import Backend, SimulatedServer

T = TypeVar("T")

_GAP_SECONDS = 600.0
"""From such a pause on, the worker is put to sleep, which costs less than its being awake."""
_DAY_SECONDS = 86_400.0
_CENTURY_SECONDS = 100 * 365 * _DAY_SECONDS


@dataclass(eq=False)
class SimulatedRun:
    """One run of the handler. Times are aware, in UTC; `ended` is None while it goes on."""

    id: str
    payload: Any
    due: datetime
    started: datetime
    attempt: int
    ended: datetime | None = None
    exception: BaseException | None = None
    """What the handler raised."""

    @property
    def succeeded(self) -> bool:
        """Whether the handler returned."""
        return self.ended is not None and self.exception is None


@dataclass(frozen=True, slots=True)
class Occurrence:
    """When a task is going to be due (aware, UTC)."""

    id: str
    due: datetime


class _Faultless(Process):
    def routine(self, seconds: float) -> float:
        return 3600.0


class SimulatedScheduler(Scheduler):
    """A `Scheduler` whose time passes only in `advance` and `run_due`.

    Everything is real but time and the servers: the same scripts and the same worker run, on memory that is gone with
    `close`. Give it to the code under test in the place of a `Scheduler` (or `async_scheduler` for an
    `AsyncScheduler`), set the handler by `start_task_execute`, and let time pass::

        with SimulatedScheduler(start=datetime(2026, 3, 1, tzinfo=UTC)) as scheduler:
            scheduler.start_task_accept()
            scheduler.start_task_execute(handler)
            sign_up(scheduler, "ada")
            runs = scheduler.advance(days=30)
            assert [run.id for run in runs] == ["trial-ends:ada"]

    Handlers run one after another in the thread that lets time pass. In a coroutine handler ``asyncio.sleep`` and
    timeouts take virtual time; sockets, files and threads do not exist on that loop. ``datetime.now()`` is still the
    real time: ask `now`, or let a library such as time-machine follow it. Needs ``interval-scheduler[memory]``.
    """

    def __init__(
        self,
        options: OptionsGiven = None,
        logger: Any = None,
        *,
        start: datetime | None = None,
        seed: int = 0,
        **fields: Unpack[OptionFields],
    ) -> None:
        """Takes the options of a `Scheduler`. Instances are no more than names here, and have one partition each.

        Args:
            options, logger: see `Scheduler`.
            start: the first instant (aware); the present by default.
            seed: of everything that is left to chance, such as the jitter of retries.
            **fields: single options by name.

        Raises:
            InvalidOptions: for wrong options, a naive `start`, or where fakeredis is not installed.
        """
        start = datetime.now(UTC) if start is None else start
        if not isinstance(start, datetime):
            raise InvalidOptions([f"start is {type_with_article(start)}: use an aware datetime"])
        if start.utcoffset() is None:
            raise InvalidOptions([f"start is {start!r}, without a time zone: use one, such as tzinfo=UTC"])
        # Whole milliseconds of one and the same clock, like due times: so that a run starts exactly when it is due.
        self._kernel = Kernel(seed, 0.0, ticks=1000)
        self._kernel.now = math.floor(start.timestamp() * 1000) / 1000
        self._network = Network([])
        self._backends: list[Backend] = []
        self._process = _Faultless(self._kernel, "application", self._network.endpoint)
        self._passing = False
        self._async: AsyncScheduler | None = None
        self._handler: tuple[Handler, Confirm] | None = None
        self._live: set[SimulatedRun] = set()
        self.runs: list[SimulatedRun] = []
        """Every run so far, in the order they started."""
        given = load_options(options, fields)  # more partitions would change nothing but the time it takes
        super().__init__(given, logger, runtime=self._process, partitions=len(given.instances))
        for name in self._engine.endpoints:
            self._backends.append(Backend(f"memory://simulated-{secrets.token_hex(8)}"))
            self._network.servers[name] = SimulatedServer(self._kernel, name, self._backends[-1])

    def __enter__(self) -> SimulatedScheduler:
        return self

    def close(self) -> None:
        """Ends it all. A run that goes on is cut off, as if its process had died."""
        if self._closed:
            return
        self._accepting = False
        self._closed = True
        self._kernel.close()
        for backend in self._backends:
            backend.close()

    # -- time --------------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The virtual time (aware, UTC)."""
        return datetime.fromtimestamp(self._process.time(), UTC)

    def advance(self, by: float | timedelta = 0, **parts: float) -> list[SimulatedRun]:
        """Lets time pass, in seconds or as a timedelta, and returns the runs that were started meanwhile.

        ``advance(days=30)`` is short for ``advance(timedelta(days=30))``. Runs that last longer go on at the next call.

        Raises:
            InvalidOptions: for a time that goes back, or is none.
        """
        self._refuse_nesting()
        known = len(self.runs)
        self._advance(self._kernel.now + _seconds(by, parts))
        return self.runs[known:]

    def run_due(self) -> list[SimulatedRun]:
        """Runs what is due now, to its end, and returns these runs. Time passes only as far as handlers take any.

        Raises:
            SchedulerError: where nothing is executing tasks, or a handler does not come to an end within a day.
        """
        if self._handler is None:
            raise SchedulerError("nothing runs due tasks yet: call start_task_execute(handler) first.")
        known, now_ms = len(self.runs), self._server_ms()
        self._refuse_nesting()
        self._pass(self._kernel.now + _DAY_SECONDS, lambda: not self._is_busy(now_ms))
        self._raise_errors()
        if self._is_busy(now_ms):
            raise SchedulerError("a handler has not come to an end within a day: use advance() for longer ones.")
        self._pass(self._kernel.now)
        return [run for run in self.runs[known:] if _milliseconds(run.due) <= now_ms]

    def would_run(self, within: float | timedelta = 0, **parts: float) -> list[Occurrence]:
        """What is going to be due within so many seconds, in order, if all goes well; nothing is run.

        Everything overdue is included; recurring tasks come with every one of their occurrences.

        Raises:
            InvalidOptions: for a time that goes back, or is none.
        """
        self._open()
        end = self._server_ms() + round(1000 * _seconds(within, parts))
        found = [occurrence for task in self._stored() for occurrence in _occurrences(*task, end)]
        return sorted(found, key=lambda occurrence: (occurrence.due, occurrence.id))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in virtual time until it is done, such as one that uses `async_scheduler`.

        Raises:
            SchedulerError: where it waits for something that does not happen within a hundred years.
        """
        self._refuse_nesting(coroutine)
        task = self._process.spawn(coroutine)
        self._advance(self._kernel.now + _CENTURY_SECONDS, task.done)
        result: T = self._result(task)
        return result

    @property
    def async_scheduler(self) -> AsyncScheduler:
        """An `AsyncScheduler` of the same time and the same tasks, to be used in `run` and in handlers."""
        if self._async is None:
            self._async = AsyncScheduler(self._engine.options, runtime=self._process)
        return self._async

    # -- executing ---------------------------------------------------------------------------------------------------

    def start_task_execute(self, handler: Handler, confirm: Confirm = "auto") -> None:
        check_handler(handler)
        super().start_task_execute(self._recorded(handler), confirm)
        self._handler = self._recorded(handler), confirm

    def stop_task_execute(self, grace: float | timedelta | None = None) -> None:
        seconds = grace_seconds(grace, "stop_task_execute")
        self._handler = None
        self._on_loop(self._engine.stop_worker(seconds))

    def _set_concurrency(self, value: int) -> None:
        if self._engine.worker is not None:
            self._engine.worker.slots.concurrency = value

    def wait(self, grace: float | timedelta | None = None) -> NoReturn:
        """Not here: nobody else lets time pass meanwhile."""
        raise SchedulerError("wait() would wait for ever in virtual time: use advance() or run_due().")

    def _recorded(self, handler: Handler) -> Handler:
        call = on_loop(handler)

        async def record(payload: Any) -> None:
            execution = current_execution()
            run = SimulatedRun(execution.id, payload, execution.due, self.now(), execution.attempt)
            self.runs.append(run)
            self._live.add(run)
            try:
                await call(payload)
            except BaseException as error:
                run.exception = error
                raise
            finally:
                run.ended = self.now()
                self._live.discard(run)

        return record

    # -- parts -------------------------------------------------------------------------------------------------------

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        self._refuse_nesting(coroutine)
        task = self._process.spawn(coroutine)
        self._pass(self._kernel.now + _DAY_SECONDS, task.done)
        result: T = self._result(task)
        return result

    def _notice_event_loop(self) -> None:
        """Warns of nothing: handlers run on the simulated loop, where a real one would be in a thread of its own."""

    def _refuse_nesting(self, coroutine: Coroutine[Any, Any, Any] | None = None) -> None:
        if (self._closed or self._passing) and coroutine is not None:
            coroutine.close()
        self._open()
        if self._passing:
            raise SchedulerError(
                "time passes already: call this between two calls of advance() or run_due(), not in a handler."
            )

    def _result(self, task: asyncio.Task[Any]) -> Any:
        if not task.done():
            task.cancel()
            raise SchedulerError("a coroutine waits for something that never happens in virtual time.")
        # It is raised here, and not as one of those that nobody waited for.
        self._kernel.errors = [error for error in self._kernel.errors if error is not task.exception()]
        self._raise_errors()
        return task.result()

    def _raise_errors(self) -> None:
        if self._kernel.errors:
            raise self._kernel.errors.pop(0)

    def _advance(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Lets time pass up to `until`, or until `done()`; pauses cost nothing."""
        while self._kernel.now < until and not done():
            pause = min(until, self._kernel.now + self._quiet_seconds())
            if pause - self._kernel.now > _GAP_SECONDS:
                self._skip(pause, done)
            else:
                self._pass(min(until, self._kernel.now + _GAP_SECONDS), done)
        if not done():
            self._pass(until)
        self._raise_errors()

    def _pass(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Lets things happen up to a time of the kernel, or until `done()`."""
        self._passing = True
        try:
            self._kernel.run(until, done)
        finally:
            self._passing = False

    def _skip(self, until: float, done: Callable[[], bool]) -> None:
        """Lets a pause pass up to `until`, or until somebody does something, with nobody watching for it."""
        engines = [self._engine, *([self._async._engine] if self._async is not None else [])]
        sleeping = [engine for engine in engines if engine is self._engine or engine.worker is None]
        for engine in sleeping:
            self._on_loop(engine.close())
        server_calls = self._calls()
        self._pass(until, lambda: self._calls() != server_calls or done())
        for engine in sleeping:
            self._on_loop(engine.watch())
        if self._handler is not None:
            self._on_loop(self._engine.start_worker(*self._handler))

    def _calls(self) -> int:
        return sum(len(server.executed) for server in self._network.servers.values())

    def _is_busy(self, now_ms: int) -> bool:
        """Whether something that was due at `now_ms` has not been run and settled yet."""
        if self._next_ms() <= now_ms or any(_milliseconds(run.due) <= now_ms for run in self._live):
            return True
        # What has just ended is settled before anything else is looked at.
        return not self._live and self._engine.worker is not None and not self._engine.worker.slots.is_idle

    def _quiet_seconds(self) -> float:
        """For how long nothing is going to happen by itself."""
        worker = self._engine.worker
        return (self._next_ms() - self._server_ms()) / 1000 if worker is None or worker.slots.is_idle else 0.0

    def _next_ms(self) -> float:
        """When the next thing happens by itself, by the servers' clock: something is due, or a lease ends."""
        layout = self._engine.layout
        if layout is None:
            return float("inf")
        now = str(self._server_ms())
        requests = [calls.look(layout.of_instance(name), now) for name in layout.instances]
        looks = [calls.read_look(reply) for reply in self._transport.execute(requests)]
        times = [time for look in looks for next in look.partitions for time in (next.due, next.lapse)]
        return min((time for time in times if time is not None), default=float("inf"))

    def _server_ms(self) -> int:
        return round((self._kernel.start + self._kernel.now) * 1000)

    def _stored(self) -> Iterator[tuple[str, Header, Definition]]:
        """Every live task."""
        if self._engine.layout is None:
            return  # nothing was ever assigned
        for partition in self._engine.layout.partitions:
            tasks = keys.of_partition(partition.meta, keys.TASKS)
            flat = self._network.servers[partition.instance].read(b"HGETALL", tasks)
            for task_id, record in calls.pairs(flat):
                header, body = split_record(record)
                yield task_id.decode(), parse_header(header), decode_body(body)


def _occurrences(task_id: str, header: Header, definition: Definition, end_ms: int) -> Iterator[Occurrence]:
    schedule, slot, due = definition.schedule, header.grid, header.due
    if header.state == RUNNING:
        # What runs has begun: only what follows is still to come.
        if schedule is None:
            return
        slot = next_slot(schedule, slot)
        due = slot + definition.delay(task_id, slot)
    while due <= end_ms:
        yield Occurrence(task_id, to_datetime(due))
        if schedule is None:
            return
        slot = next_slot(schedule, slot)
        due = slot + definition.delay(task_id, slot)


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _seconds(by: float | timedelta, parts: dict[str, float]) -> float:
    try:
        span = timedelta(seconds=by if isinstance(by, float | int) else timedelta.total_seconds(by))
        span += timedelta(**parts)
    except (TypeError, ValueError, OverflowError) as error:
        given = ", ".join([short_repr(by)] * bool(by) + [f"{name}={short_repr(part)}" for name, part in parts.items()])
        fix = "use seconds, a timedelta, or days=, hours=, minutes= and seconds= with numbers"
        raise InvalidOptions([f"the time to pass is {given}: {fix}"]) from error
    if span < timedelta(0):
        raise InvalidOptions([f"the time to pass is {span}: time cannot go back, use zero or more"])
    return span.total_seconds()
