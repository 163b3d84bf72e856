"""The asyncio transport: calls made in the same turn of the loop, or while others are under way, travel together.

Each instance has a few pipelines with one connection each. A pipeline sends everything that is queued in one write,
reads all replies, and starts over. So the longer a round trip takes, the more the next one carries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ..model.errors import EmbeddedServerError, InvalidOptions, PartitionUnavailable
from ..protocol.commands import Command, Reply, by_instance
from ..protocol.scripts import Script
from ..support.cancellation import cancel_all
from .aio_connection import Connection, response, take_over
from .connecting import Generation, carry_out_async, connect
from .endpoint import Endpoint, aclose_pool
from .failures import connection_failed, transport_closed
from .replies import (
    come_from_replica,
    has_errors,
    missing_scripts,
    note_writes,
    raise_connection_error,
    with_our_errors,
)
from .resp import pack, pack_load

Done = Callable[["list[Reply] | Exception"], None]
"""Takes the replies to commands, or the error that says what is wrong with this machine."""

_MAIN = "main"
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Most bytes of one write: a flood of calls then neither fills a buffer nor delays a reply without end."""
MOST_EXTENSIONS = 16
"""How often a round trip may be extended while it is under way. Nobody gets a reply before it ends."""


class AsyncTransport:
    """Executes commands on the running event loop."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._generations = {name: Generation() for name in endpoints}
        self._pipelines: dict[tuple[str, str], _Pipeline] = {}
        self._closed = False

    async def execute(self, commands: Sequence[Command], pipeline: str = _MAIN) -> list[Reply]:
        """The reply to every command, in order. If an instance failed, the `PartitionUnavailable` stands in its place.

        Commands of one `pipeline` and instance are carried out in the order of the calls; pipelines are independent.
        Commands on the main pipeline leave together at the end of this turn of the loop. Each other pipeline belongs to
        a single caller, who sends one thing after another.

        Raises:
            EmbeddedServerError, InvalidOptions: this machine cannot start a private server, or lacks the software for
                it. Waiting does not help. A private server that ran and is down is like any other instance.
        """
        if len(commands) == 1:
            return await self._submit(commands[0].instance, pipeline, commands)
        replies: list[Reply] = [None] * len(commands)
        groups = by_instance(commands)
        waiting = [
            self._submit(name, pipeline, [commands[position] for position in positions])
            for name, positions in groups.items()
        ]
        for positions, waiter in zip(groups.values(), waiting, strict=True):
            for position, reply in zip(positions, await waiter, strict=True):
                replies[position] = reply
        return replies

    def send(self, command: Command, done: Done) -> None:
        """Sends a command now, or right after what is under way. `done` takes the reply."""
        pipeline = self._pipeline(command.instance, _MAIN)
        pipeline.put([command], done)
        pipeline.flush()

    def put(self, command: Command, done: Done) -> None:
        """Queues a command for the next `flush`. `done` takes the reply."""
        self._pipeline(command.instance, _MAIN).put([command], done)

    def is_idle(self, instance: str) -> bool:
        """Whether nothing is under way to an instance, and nothing is queued for it."""
        return self._pipeline(instance, _MAIN).is_idle

    def flush(self) -> None:
        """Sends what is queued, also what would leave at the end of this turn of the loop."""
        for pipeline in self._pipelines.values():
            pipeline.flush()

    def flush_ahead(self) -> None:
        """`flush` that does not wait for the end of what is under way: servers begin with a part of many calls."""
        for pipeline in self._pipelines.values():
            pipeline.flush_ahead()

    def begin(self, command: Command) -> Callable[[], Awaitable[list[Reply]]]:
        """Sends a command in the next turn of the loop. Returns a function to await its reply with."""
        waiter = self._submit(command.instance, _MAIN, [command])

        async def reply() -> list[Reply]:
            return await waiter

        return reply

    def _submit(self, instance: str, pipeline: str, commands: Sequence[Command]) -> asyncio.Future[list[Reply]]:
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        found = self._pipeline(instance, pipeline)
        found.put(commands, partial(_resolve, future))
        if pipeline == _MAIN:
            found.flush_soon()
        else:
            found.flush()
        return future

    def _pipeline(self, instance: str, name: str) -> _Pipeline:
        found = self._pipelines.get((instance, name))
        if found is None:
            found = _Pipeline(self._endpoints[instance], self._generations[instance])
            if self._closed:
                found.closing = True  # a connection that is opened now would never be closed
            self._pipelines[instance, name] = found
        return found

    async def close(self) -> None:
        """Closes every connection. Calls that wait for a reply fail."""
        self._closed = True
        for pipeline in list(self._pipelines.values()):  # calls made meanwhile may add pipelines, which refuse them
            await pipeline.close()


def _resolve(future: asyncio.Future[list[Reply]], outcome: list[Reply] | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
        future.exception()  # marked as seen: who waits for several instances stops at the first error
    else:
        future.set_result(outcome)


class _Call:
    """Commands of one caller, and who takes their replies."""

    __slots__ = ("_done", "commands", "packed")

    def __init__(self, commands: Sequence[Command], done: Done) -> None:
        self.commands = commands
        self.packed = b"".join(map(pack, commands)) if len(commands) > 1 else pack(commands[0])
        self._done: Done | None = done

    def answer(self, outcome: list[Reply] | Exception) -> None:
        """Hands out the replies, or the error to raise. Only the first answer counts."""
        done, self._done = self._done, None
        if done is not None:
            done(outcome)

    def fail(self, failure: PartitionUnavailable) -> None:
        """Fails all commands. A cancellation would look to callers like their own, and task groups drop those."""
        self.answer([failure] * len(self.commands))


class _Pipeline:
    """One connection, and the calls that are queued for it.

    As long as nothing goes wrong, everything happens in callbacks. A task is made only to connect and to recover.
    """

    def __init__(self, endpoint: Endpoint, generation: Generation) -> None:
        self.closing = False
        self.endpoint = endpoint
        self.generation = generation
        self.pool: Any = None
        self._opened_in = 0
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Call] = deque()
        self._woken = False
        self._under_way: list[_Call] = []
        self._commands: list[Command] = []
        self._extensions = 0
        """How often what is under way may still be extended."""
        self._recovery: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._run_id = ""
        # The scripts that the server of this connection is known to have.
        self._scripts: set[Script] = set()

    @property
    def is_idle(self) -> bool:
        return not (self._under_way or self._queue)

    def put(self, commands: Sequence[Command], done: Done) -> None:
        """Queues commands for the next `flush`. `done` gets their replies."""
        call = _Call(commands, done)
        if self.closing:
            call.fail(transport_closed(self.endpoint.name, sent=False))
        else:
            self._queue.append(call)

    def flush_soon(self) -> None:
        """Sends what is queued at the end of this turn of the loop, together."""
        if not self._under_way and not self._woken:
            self._woken = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Sends what is queued. If something is under way, the queue follows when that has ended."""
        self._woken = False
        if self._under_way or self.closing or not self._queue:
            return
        self._under_way = self._next_batch()
        if self._is_ready():
            self._exchange()
        else:
            self._in_task(self._deliver(self._under_way))

    def flush_ahead(self) -> None:
        """Sends what is queued right behind what is under way, as a part of it, if that is possible."""
        if not self._under_way:
            self.flush()
        elif self._extensions and self._queue and self._is_ready():
            known = self._scripts | {command.script for command in self._commands}
            if all(command.script in known for call in self._queue for command in call.commands):
                self._extend()

    def _next_batch(self) -> list[_Call]:
        batch: list[_Call] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0].packed) <= MAX_BATCH_BYTES):
            call = self._queue.popleft()
            size += len(call.packed)
            batch.append(call)
        return batch

    def _is_ready(self) -> bool:
        return self._connection is not None and self._connection.is_open and self._opened_in == self.generation.current

    def _finished(self) -> None:
        self._under_way = []
        self.flush()

    # -- while nothing goes wrong ------------------------------------------------------------------------------------

    def _exchange(self) -> None:
        assert self._connection is not None
        commands, ahead, packed = self._packed(self._under_way)
        self._commands = commands
        # A single command may have to bring its script later, and nothing may overtake it.
        self._extensions = MOST_EXTENSIONS if len(commands) > 1 else 0
        self._connection.exchange(packed, ahead + len(commands), partial(self._answered, ahead))

    def _extend(self) -> None:
        assert self._connection is not None
        batch = self._next_batch()
        commands = [command for call in batch for command in call.commands]
        if self._connection.extend(b"".join([call.packed for call in batch]), len(commands)):
            self._under_way += batch
            self._commands += commands
            self._extensions -= 1
        else:
            self._queue.extendleft(reversed(batch))

    def _packed(self, batch: Sequence[_Call]) -> tuple[list[Command], int, bytes]:
        """The commands of a batch, how many scripts are loaded before it, and the bytes of both."""
        if len(batch) == 1 and len(batch[0].commands) == 1:
            # A single command need not bring its script: nothing can overtake it.
            return [*batch[0].commands], 0, batch[0].packed
        commands = [command for call in batch for command in call.commands]
        # Without its script a command would be repeated, after those behind it. In order, so that simulations repeat.
        scripts = dict.fromkeys(command.script for command in commands)
        ahead = [script for script in scripts if script not in self._scripts]
        return commands, len(ahead), b"".join([*map(pack_load, ahead), *(call.packed for call in batch)])

    def _answered(self, ahead: int, outcome: list[Any] | BaseException) -> None:
        batch, commands, self._extensions = self._under_way, self._commands, 0
        if isinstance(outcome, list):
            replies = outcome[ahead:] if ahead else outcome
            if has_errors(outcome):
                self._in_task(self._sort_out(batch, commands, replies))
                return
            try:
                self._hand_out(batch, commands, replies)
            except BaseException:  # a callback of `data-loss` may raise on purpose, to end the program
                self._abandon(batch)
                raise
            finally:
                self._finished()
        elif isinstance(outcome, Exception):
            self._in_task(self._recover(batch, outcome))
        else:
            self._abandon(batch)
            self._finished()

    def _hand_out(self, batch: Sequence[_Call], commands: Sequence[Command], replies: list[Reply]) -> None:
        for command in commands:
            self._scripts.add(command.script)
        note_writes(self.endpoint.loss_detector, self._run_id, commands, replies)
        start = 0
        for call in batch:
            end = start + len(call.commands)
            call.answer(replies[start:end])
            start = end

    # -- when something goes wrong -----------------------------------------------------------------------------------

    def _in_task(self, work: Coroutine[Any, Any, None]) -> None:
        self._recovery = self._loop.create_task(work)
        self._recovery.add_done_callback(self._task_ended)

    def _task_ended(self, _: asyncio.Task[None]) -> None:
        # Who cancels all tasks of a loop, as at its end, may go on to call: nobody must wait for ever.
        self._recovery = None
        self._abandon(self._under_way)
        self._finished()

    async def _deliver(self, batch: Sequence[_Call]) -> None:
        """Sends calls on a new connection."""
        try:
            await self._connect()
        except PartitionUnavailable as failure:
            for call in batch:
                call.fail(failure)
            return
        except (EmbeddedServerError, InvalidOptions) as error:
            for call in batch:
                call.answer(error)
            return
        try:
            await self._ask(batch)
        except Exception as error:
            await self._recover(batch, error)

    async def _recover(self, batch: Sequence[_Call], error: Exception) -> None:
        """The connection broke while calls were under way. Those that are safe to repeat are sent once more."""
        await self._drop()
        failure = connection_failed(self.endpoint.name, error, sent=True)
        again = [call for call in batch if all(command.repeatable for command in call.commands)]
        if again:
            try:
                await self._connect()
                await self._ask(again)
            except PartitionUnavailable as unavailable:
                unavailable.unknown_outcome = True
                failure = unavailable
            except Exception as another:
                await self._drop()
                failure = connection_failed(self.endpoint.name, another, sent=True)
        for call in batch:
            call.fail(failure)  # no effect on those that were answered

    async def _ask(self, batch: Sequence[_Call]) -> None:
        commands, ahead, packed = self._packed(batch)
        replies = await self._read(packed, ahead + len(commands))
        await self._complete(batch, commands, replies[ahead:])

    async def _read(self, packed: bytes, count: int) -> list[Any]:
        assert self._connection is not None
        outcome: asyncio.Future[list[Any] | BaseException] = self._loop.create_future()
        self._connection.exchange(packed, count, outcome.set_result)
        try:
            replies = await outcome
        except BaseException:
            # Cancelled: the replies that are still to come would be taken for those to the next commands.
            await self._disconnect()
            raise
        if isinstance(replies, BaseException):
            raise replies
        return replies

    async def _sort_out(self, batch: Sequence[_Call], commands: Sequence[Command], replies: list[Any]) -> None:
        """Takes replies that have errors of the server among them."""
        try:
            await self._complete(batch, commands, replies)
        except Exception as error:
            await self._recover(batch, error)

    async def _complete(self, batch: Sequence[_Call], commands: Sequence[Command], replies: list[Any]) -> None:
        """Hands out replies, after repeating the commands whose script was missing."""
        raise_connection_error(replies)
        missing, loads, packed = missing_scripts(commands, replies)
        if missing:
            self._scripts.clear()  # others may be missing too
            again = (await self._read(packed, loads + len(missing)))[loads:]
            raise_connection_error(again)
            for position, reply in zip(missing, again, strict=True):
                replies[position] = reply
        if come_from_replica(replies):
            await self._disconnect()
        self._hand_out(batch, commands, with_our_errors(self.endpoint.name, replies))

    def _abandon(self, calls: Iterable[_Call], *, sent: bool = True) -> None:
        for call in calls:
            call.fail(transport_closed(self.endpoint.name, sent=sent))

    # -- the connection: what `connect` asks for ---------------------------------------------------------------------

    async def _connect(self) -> None:
        await self._disconnect()
        await carry_out_async(connect(self))

    def new_pool(self) -> Any:
        return self.endpoint.connection_pool(asynchronous=True)

    async def ask(self, connection: Any, packed: bytes) -> Any:
        await connection.send_packed_command([packed], check_health=False)
        return await response(connection)

    def give_up(self, connection: Any) -> Awaitable[None]:
        closing: Awaitable[None] = connection.disconnect(nowait=True)
        return closing

    def take_over(self, connection: Any, run_id: str, generation: int) -> Connection:
        self._scripts.clear()
        self._run_id, self._opened_in = run_id, generation
        self._connection = take_over(connection)
        return self._connection

    async def execute_first(self, _connection: Connection, command: Command) -> Reply:
        answer: asyncio.Future[list[Reply]] = self._loop.create_future()
        await self._ask([_Call([command], partial(_resolve, answer))])
        return (await answer)[0]

    async def _drop(self) -> None:
        """Closes a connection that broke."""
        self.generation.end(self._opened_in)
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def close(self) -> None:
        """Closes the connection, and refuses all calls from now on."""
        self.closing = True
        if self._recovery is not None:
            await cancel_all([self._recovery])
        self._abandon(self._under_way)
        self._abandon(self._queue, sent=False)
        self._queue.clear()
        await self._disconnect()
        await aclose_pool(self.pool)
