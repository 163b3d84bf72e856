"""The asyncio transport: calls made in the same loop turn, or while an earlier one is under way, travel together.

Each instance has a few lanes, one connection each. A lane sends everything that is queued in one write, reads all
answers, and starts over: the longer a round trip takes, the more the next one carries.
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
from . import replies as answers
from .aio_connection import Wire, open_wire, response
from .endpoint import Endpoint, aclose_pool

Done = Callable[["list[Reply] | Exception"], None]
"""Takes the replies to commands; an error in their place says what is wrong with this machine."""

_MAIN = "main"
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Bytes one write may carry, so that a flood of calls neither grows a buffer nor delays an answer without end."""
MOST_EXTENSIONS = 16
"""How often a round trip may be extended while it is under way: until its end nobody hears of it."""


class AsyncTransport:
    """Executes commands on the running event loop."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._trust = {name: answers.Trust() for name in endpoints}
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._closed = False

    async def execute(self, commands: Sequence[Command], lane: str = _MAIN) -> list[Reply]:
        """The reply of every command, in order; where an instance failed, the `PartitionUnavailable` in its place.

        Commands of one `lane` and instance are carried out in the order of the calls; lanes are independent. Those of
        the main one leave at the end of this turn of the loop, together; another one belongs to a single caller, who
        sends one thing after another.

        Raises:
            EmbeddedServerError, InvalidOptions: where this machine cannot start, or lacks the software for, a private
                server. Waiting mends neither; one that ran and is down is like any instance.
        """
        if len(commands) == 1:
            return await self._submit(commands[0].instance, lane, commands)
        replies: list[Reply] = [None] * len(commands)
        groups = by_instance(commands)
        waiting = [
            self._submit(name, lane, [commands[position] for position in positions])
            for name, positions in groups.items()
        ]
        for positions, waiter in zip(groups.values(), waiting, strict=True):
            for position, reply in zip(positions, await waiter, strict=True):
                replies[position] = reply
        return replies

    def send(self, command: Command, done: Done) -> None:
        """Sends a command now, or right after what is under way; `done` takes the reply."""
        lane = self._lane(command.instance, _MAIN)
        lane.put([command], done)
        lane.flush()

    def put(self, command: Command, done: Done) -> None:
        """Has a command sent by the next `flush`; `done` takes the reply."""
        self._lane(command.instance, _MAIN).put([command], done)

    def is_idle(self, instance: str) -> bool:
        """Whether nothing is under way to an instance, nor waits for that."""
        return self._lane(instance, _MAIN).is_idle

    def flush(self) -> None:
        """Sends what was put, and what else waits for the end of this turn of the loop."""
        for lane in self._lanes.values():
            lane.flush()

    def flush_ahead(self) -> None:
        """`flush` that does not wait for the end of what is under way: servers work on a part of many calls."""
        for lane in self._lanes.values():
            lane.flush_ahead()

    def begin(self, command: Command) -> Callable[[], Awaitable[list[Reply]]]:
        """Sends a command, in the next turn of the loop, and returns what waits for its reply."""
        waiter = self._submit(command.instance, _MAIN, [command])

        async def reply() -> list[Reply]:
            return await waiter

        return reply

    def _submit(self, instance: str, lane: str, commands: Sequence[Command]) -> asyncio.Future[list[Reply]]:
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        found = self._lane(instance, lane)
        found.put(commands, partial(_resolve, future))
        if lane == _MAIN:
            found.flush_soon()
        else:
            found.flush()
        return future

    def _lane(self, instance: str, name: str) -> _Lane:
        found = self._lanes.get((instance, name))
        if found is None:
            found = _Lane(self._endpoints[instance], self._trust[instance])
            if self._closed:
                found.closing = True  # a connection made now would never be closed
            self._lanes[instance, name] = found
        return found

    async def close(self) -> None:
        """Lets go of every connection. What waits for a reply is told that it may not come."""
        self._closed = True
        for lane in list(self._lanes.values()):  # who calls meanwhile is refused by a lane, maybe a new one
            await lane.close()


def _resolve(future: asyncio.Future[list[Reply]], outcome: list[Reply] | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
        future.exception()  # seen: who waits for several instances stops at the first error
    else:
        future.set_result(outcome)


class _Call:
    """Commands of one caller, and who takes their replies."""

    __slots__ = ("_done", "commands", "packed")

    def __init__(self, commands: Sequence[Command], done: Done) -> None:
        self.commands = commands
        self.packed = b"".join(map(answers.pack, commands)) if len(commands) > 1 else answers.pack(commands[0])
        self._done: Done | None = done

    def answer(self, outcome: list[Reply] | Exception) -> None:
        """Hands out the replies, or what is raised instead. Only the first answer counts."""
        done, self._done = self._done, None
        if done is not None:
            done(outcome)

    def fail(self, failure: PartitionUnavailable) -> None:
        """Whoever waits hears why. A cancellation would look like one of their own, and a group would drop it."""
        self.answer([failure] * len(self.commands))


class _Lane:
    """One connection, and the calls that wait for it.

    Where nothing goes wrong everything happens in callbacks; a task is made only to connect and to mend.
    """

    def __init__(self, endpoint: Endpoint, trust: answers.Trust) -> None:
        self.closing = False
        self._endpoint = endpoint
        self._trust = trust
        self._opened_at = 0
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Call] = deque()
        self._woken = False
        self._under_way: list[_Call] = []
        self._commands: list[Command] = []
        self._extensions = 0
        """How often what is under way may still be extended."""
        self._mending: asyncio.Task[None] | None = None
        self._pool: Any = None
        self._wire: Wire | None = None
        self._run_id = ""
        # What the server of this connection was seen to know.
        self._scripts: set[Script] = set()

    @property
    def is_idle(self) -> bool:
        return not (self._under_way or self._queue)

    def put(self, commands: Sequence[Command], done: Done) -> None:
        """Has commands sent by the next `flush`; `done` gets their replies."""
        call = _Call(commands, done)
        if self.closing:
            call.fail(answers.closed(self._endpoint.name, sent=False))
        else:
            self._queue.append(call)

    def flush_soon(self) -> None:
        """Sends what was put in this turn of the loop, together, at its end."""
        if not self._under_way and not self._woken:
            self._woken = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Sends what is queued, unless something is under way: its end is followed by another look at the queue."""
        self._woken = False
        if self._under_way or self.closing or not self._queue:
            return
        self._under_way = self._next_batch()
        if self._is_ready():
            self._exchange()
        else:
            self._mend(self._deliver(self._under_way))

    def flush_ahead(self) -> None:
        """Sends what is queued behind what is under way, as a part of it, where that can be."""
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
        return self._wire is not None and self._wire.is_open and self._opened_at == self._trust.losses

    def _finished(self) -> None:
        self._under_way = []
        self.flush()

    # -- where all is well -------------------------------------------------------------------------------------------

    def _exchange(self) -> None:
        assert self._wire is not None
        commands, ahead, packed = self._packed(self._under_way)
        self._commands = commands
        # A lone command may still have to bring its script, and nothing may overtake it.
        self._extensions = MOST_EXTENSIONS if len(commands) > 1 else 0
        self._wire.exchange(packed, ahead + len(commands), partial(self._answered, ahead))

    def _extend(self) -> None:
        assert self._wire is not None
        batch = self._next_batch()
        commands = [command for call in batch for command in call.commands]
        if self._wire.extend(b"".join([call.packed for call in batch]), len(commands)):
            self._under_way += batch
            self._commands += commands
            self._extensions -= 1
        else:
            self._queue.extendleft(reversed(batch))

    def _packed(self, batch: Sequence[_Call]) -> tuple[list[Command], int, bytes]:
        """What a batch consists of, how many scripts are loaded ahead of it, and the bytes of both."""
        if len(batch) == 1 and len(batch[0].commands) == 1:
            # A lone command need not carry its script: nothing can overtake it.
            return [*batch[0].commands], 0, batch[0].packed
        commands = [command for call in batch for command in call.commands]
        # One that is unknown would be carried out after those behind it. In order, so that simulations repeat.
        scripts = dict.fromkeys(command.script for command in commands)
        ahead = [script for script in scripts if script not in self._scripts]
        return commands, len(ahead), b"".join([*map(answers.pack_load, ahead), *(call.packed for call in batch)])

    def _answered(self, ahead: int, outcome: list[Any] | BaseException) -> None:
        batch, commands, self._extensions = self._under_way, self._commands, 0
        if isinstance(outcome, list):
            replies = outcome[ahead:] if ahead else outcome
            if answers.has_errors(outcome):
                self._mend(self._sort_out(batch, commands, replies))
                return
            try:
                self._hand_out(batch, commands, replies)
            except BaseException:  # a callback for lost data may raise on purpose, to end the program
                self._abandon(batch)
                raise
            finally:
                self._finished()
        elif isinstance(outcome, Exception):
            self._mend(self._recover(batch, outcome))
        else:
            self._abandon(batch)
            self._finished()

    def _hand_out(self, batch: Sequence[_Call], commands: Sequence[Command], replies: list[Reply]) -> None:
        for command in commands:
            self._scripts.add(command.script)
        answers.learn(self._endpoint.loss_detector, self._run_id, commands, replies)
        start = 0
        for call in batch:
            end = start + len(call.commands)
            call.answer(replies[start:end])
            start = end

    # -- where something is not ------------------------------------------------------------------------------------

    def _mend(self, work: Coroutine[Any, Any, None]) -> None:
        self._mending = self._loop.create_task(work)
        self._mending.add_done_callback(self._mended)

    def _mended(self, _: asyncio.Task[None]) -> None:
        # Somebody who cancels all tasks of a loop, as at its end, may go on to call: nobody must wait for ever.
        self._mending = None
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
        """The connection broke with calls under way: those that are safe to repeat are sent once more."""
        await self._lost()
        failure = answers.lost(self._endpoint.name, error, sent=True)
        again = [call for call in batch if all(command.repeatable for command in call.commands)]
        if again:
            try:
                await self._connect()
                await self._ask(again)
            except PartitionUnavailable as unavailable:
                unavailable.unknown_outcome = True
                failure = unavailable
            except Exception as another:
                await self._lost()
                failure = answers.lost(self._endpoint.name, another, sent=True)
        for call in batch:
            call.fail(failure)  # which has no effect on those that were answered

    async def _ask(self, batch: Sequence[_Call]) -> None:
        commands, ahead, packed = self._packed(batch)
        replies = await self._read(packed, ahead + len(commands))
        await self._complete(batch, commands, replies[ahead:])

    async def _read(self, packed: bytes, count: int) -> list[Any]:
        assert self._wire is not None
        outcome: asyncio.Future[list[Any] | BaseException] = self._loop.create_future()
        self._wire.exchange(packed, count, outcome.set_result)
        try:
            replies = await outcome
        except BaseException:
            # Cancelled: the replies are still to come, and would be taken for those to what is sent next.
            await self._disconnect()
            raise
        if isinstance(replies, BaseException):
            raise replies
        return replies

    async def _sort_out(self, batch: Sequence[_Call], commands: Sequence[Command], replies: list[Any]) -> None:
        """Takes replies with errors of the server among them."""
        try:
            await self._complete(batch, commands, replies)
        except Exception as error:
            await self._recover(batch, error)

    async def _complete(self, batch: Sequence[_Call], commands: Sequence[Command], replies: list[Any]) -> None:
        """Hands out replies, once none of them is missing because its script was."""
        answers.raise_lost(replies)
        missing, loads, packed = answers.missing_scripts(commands, replies)
        if missing:
            self._scripts.clear()  # whoever took these away may have taken others too
            again = (await self._read(packed, loads + len(missing)))[loads:]
            answers.raise_lost(again)
            for position, reply in zip(missing, again, strict=True):
                replies[position] = reply
        if answers.wants_new_connection(replies):
            await self._disconnect()
        self._hand_out(batch, commands, answers.finished(self._endpoint.name, replies))

    def _abandon(self, calls: Iterable[_Call], *, sent: bool = True) -> None:
        for call in calls:
            call.fail(answers.closed(self._endpoint.name, sent=sent))

    # -- the connection ----------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        if self._is_ready():
            return
        await self._disconnect()
        try:
            await self._open_connection()
        except (PartitionUnavailable, EmbeddedServerError, InvalidOptions):
            raise
        except Exception as first:
            try:
                await asyncio.to_thread(self._endpoint.revive)
                await self._open_connection()
            except PartitionUnavailable:
                raise
            except Exception as error:
                raise answers.lost(self._endpoint.name, error, sent=False) from first

    async def _open_connection(self) -> None:
        if self._pool is None:
            await asyncio.to_thread(self._endpoint.open)
            self._pool = self._endpoint.connection_pool(asynchronous=True)
        connection = self._pool.make_connection()
        self._opened_at = self._trust.losses
        self._scripts.clear()
        await connection.connect()
        try:
            greeting = await self._meet(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._wire = open_wire(connection)
        if greeting is not None:
            try:
                await self._greet(greeting)
            except BaseException:
                await self._disconnect()
                raise

    async def _meet(self, connection: Any) -> Command | None:
        """Learns which run of the server this is, and how it is set up; what must be sent first, if anything."""
        if self._endpoint.loss_detector is None:
            return None
        await connection.send_packed_command([answers.INFO], check_health=False)
        self._run_id, greeting = answers.met(self._endpoint, await response(connection))
        return greeting

    async def _greet(self, greeting: Command) -> None:
        assert self._endpoint.loss_detector is not None
        answer: asyncio.Future[list[Reply]] = self._loop.create_future()
        await self._ask([_Call([greeting], partial(_resolve, answer))])
        [reply] = await answer
        if self._wire is None:
            raise reply  # a replica answered
        self._endpoint.loss_detector.greeted(greeting, reply)

    async def _lost(self) -> None:
        self._trust.lose(self._opened_at)
        await self._disconnect()

    async def _disconnect(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()

    async def close(self) -> None:
        """Gives up the connection, and refuses what comes from now on."""
        self.closing = True
        if self._mending is not None:
            await cancel_all([self._mending])
        self._abandon(self._under_way)
        self._abandon(self._queue, sent=False)
        self._queue.clear()
        await self._disconnect()
        await aclose_pool(self._pool)
