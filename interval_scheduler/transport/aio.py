"""The asyncio transport: calls made in the same loop turn, or while an earlier one is under way, travel together.

Each instance has a few lanes, one connection each. A lane sends everything that is queued in one write, reads all
answers, and starts over: the longer a round trip takes, the more the next one carries.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from ..cancelling import cancel_all
from ..commands import Command, Reply, by_instance
from ..errors import EmbeddedServerError, InvalidOptions, PartitionUnavailable, UnsuitableServer
from ..scripts import Script
from . import answers
from .endpoint import Endpoint, aclose_pool

MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Bytes one write may carry, so that a flood of calls neither grows a buffer nor delays an answer without end."""


class AsyncTransport:
    """Executes commands on the running event loop."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._trust = {name: answers.Trust() for name in endpoints}
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._closed = False

    async def execute(self, commands: Sequence[Command], lane: str = "main") -> list[Reply]:
        """The reply of every command, in order; where an instance failed, the `PartitionUnavailable` in its place.

        Commands of one `lane` and instance are carried out in the order of the calls; lanes are independent.

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

    def submit(self, command: Command) -> asyncio.Future[list[Reply]]:
        """Sends a command, in the next turn of the loop; the future is its reply."""
        return self._submit(command.instance, "main", [command])

    def begin(self, command: Command) -> Callable[[], Awaitable[list[Reply]]]:
        """Sends a command, in the next turn of the loop, and returns what waits for its reply."""
        waiter = self.submit(command)

        async def reply() -> list[Reply]:
            return await waiter

        return reply

    def _submit(self, instance: str, lane: str, commands: Sequence[Command]) -> asyncio.Future[list[Reply]]:
        found = self._lanes.get((instance, lane))
        if found is None:
            if self._closed:
                # A connection made now would never be closed.
                refused: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
                refused.set_result([answers.closed(instance, sent=False)] * len(commands))
                return refused
            found = self._lanes[instance, lane] = _Lane(self._endpoints[instance], self._trust[instance])
        return found.submit(commands)

    async def close(self) -> None:
        """Lets go of every connection. What waits for a reply is told that it may not come."""
        self._closed = True
        lanes, self._lanes = self._lanes, {}
        for lane in lanes.values():
            await lane.close()


class _Call:
    """Commands of one caller, and where their replies go."""

    __slots__ = ("commands", "future", "packed")

    def __init__(self, commands: Sequence[Command], future: asyncio.Future[list[Reply]]) -> None:
        self.commands = commands
        self.packed = b"".join(map(answers.pack, commands))
        self.future = future


class _Lane:
    """One connection, and the calls that wait for it."""

    def __init__(self, endpoint: Endpoint, trust: answers.Trust) -> None:
        self._endpoint = endpoint
        self._trust = trust
        self._opened_at = 0
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Call] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._closing = False
        self._pool: Any = None
        self._connection: Any = None
        self._run_id = ""
        # What the server of this connection was seen to know.
        self._scripts: set[Script] = set()

    def submit(self, commands: Sequence[Command]) -> asyncio.Future[list[Reply]]:
        """The future replies of the commands; they leave with everything else submitted in this loop turn."""
        call = _Call(commands, self._loop.create_future())
        self._queue.append(call)
        if self._pump is None:
            self._start()
        return call.future

    def _start(self) -> None:
        self._pump = self._loop.create_task(self._run())
        self._pump.add_done_callback(self._stopped)

    def _stopped(self, pump: asyncio.Task[None]) -> None:
        """Somebody who cancels all tasks of a loop, as at its end, may go on to call: nobody must wait for ever."""
        if self._pump is pump:  # cancelled before it began
            self._pump = None
        waited_for = any(not call.future.done() for call in self._queue)
        if waited_for and self._pump is None and not self._closing:
            self._start()

    async def _run(self) -> None:
        batch: list[_Call] = []
        try:
            while self._queue:
                batch = self._next_batch()
                try:
                    outcomes = await self._deliver(batch)
                except (EmbeddedServerError, InvalidOptions) as error:
                    _refuse(batch, error)
                    continue
                for call, replies in zip(batch, outcomes, strict=True):
                    if not call.future.done():
                        call.future.set_result(replies)
        finally:
            # Nothing is awaited between the last look at the queue and this line, so no call is left behind.
            self._pump = None
            _abandon(batch, answers.closed(self._endpoint.name, sent=True))  # where it was cancelled

    def _next_batch(self) -> list[_Call]:
        batch: list[_Call] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0].packed) <= MAX_BATCH_BYTES):
            call = self._queue.popleft()
            size += len(call.packed)
            batch.append(call)
        return batch

    async def _deliver(self, batch: Sequence[_Call]) -> list[list[Reply]]:
        try:
            await self._connect()
        except PartitionUnavailable as error:
            return [[error] * len(call.commands) for call in batch]
        try:
            return await self._exchange(batch)
        except Exception as error:
            await self._lost()
            failure = answers.lost(self._endpoint.name, error, sent=True)
        # The connection broke with calls under way: those that are safe to repeat are sent once more.
        again = [call for call in batch if all(command.repeatable for command in call.commands)]
        outcomes: dict[int, list[Reply]] = {}
        if again:
            try:
                await self._connect()
                outcomes = dict(zip(map(id, again), await self._exchange(again), strict=True))
            except PartitionUnavailable as error:
                error.unknown_outcome = True
                failure = error
            except Exception as error:
                await self._lost()
                failure = answers.lost(self._endpoint.name, error, sent=True)
        return [outcomes.get(id(call), [failure] * len(call.commands)) for call in batch]

    async def _exchange(self, batch: Sequence[_Call]) -> list[list[Reply]]:
        connection = self._connection
        commands = [command for call in batch for command in call.commands]
        scripts = {command.script for command in commands}
        # One that is unknown would be carried out after those behind it. A lone command need not carry its script.
        ahead = scripts - self._scripts if len(commands) > 1 else ()
        packed = [*map(answers.pack_load, ahead), *(call.packed for call in batch)]
        await connection.send_packed_command([b"".join(packed)], check_health=False)
        for _ in ahead:
            await _response(connection)
        replies = [await _response(connection) for _ in commands]
        missing = [position for position, reply in enumerate(replies) if answers.is_missing_script(reply)]
        if missing:
            # What answers NOSCRIPT was not carried out: load what is missing, and send just those again.
            loads = {commands[position].script for position in missing}
            packed = [answers.pack_load(script) for script in loads]
            packed += [answers.pack(commands[position]) for position in missing]
            await connection.send_packed_command([b"".join(packed)], check_health=False)
            for _ in loads:
                await _response(connection)
            for position in missing:
                replies[position] = await _response(connection)
        self._scripts |= scripts
        answers.learn(self._endpoint.continuity, self._run_id, commands, replies)
        if answers.wants_new_connection(replies):
            await self._disconnect()
        replies = answers.finished(self._endpoint.name, replies)
        results, start = [], 0
        for call in batch:
            results.append(replies[start : start + len(call.commands)])
            start += len(call.commands)
        return results

    async def _connect(self) -> None:
        trusted = self._opened_at == self._trust.losses
        if trusted and self._connection is not None and self._connection.is_connected:
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
        self._connection = connection
        try:
            await self._greet()
        except UnsuitableServer:
            await self._disconnect()
            raise

    async def _greet(self) -> None:
        """Learns which run of the server this is, and how it is set up, before anything is written to it."""
        continuity = self._endpoint.continuity
        if continuity is None:
            return
        await self._connection.send_packed_command([answers.INFO], check_health=False)
        self._run_id, greeting = answers.met(self._endpoint, await _response(self._connection))
        if greeting is not None:
            [[reply]] = await self._exchange([_Call([greeting], self._loop.create_future())])
            continuity.greeted(greeting, reply)

    async def _lost(self) -> None:
        self._trust.lose(self._opened_at)
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        self._closing = True
        if self._pump is not None:
            await cancel_all([self._pump])
        _abandon(self._queue, answers.closed(self._endpoint.name, sent=False))
        self._queue.clear()
        await self._disconnect()
        await aclose_pool(self._pool)


def _refuse(batch: Sequence[_Call], error: Exception) -> None:
    for call in batch:
        if not call.future.done():
            call.future.set_exception(error)
            call.future.exception()  # seen: who waits for several instances stops at the first error


def _abandon(calls: Iterable[_Call], failure: PartitionUnavailable) -> None:
    """Whoever waits hears why. A cancellation would look like one of their own, and a group of tasks would drop it."""
    for call in calls:
        if not call.future.done():
            call.future.set_result([failure] * len(call.commands))


async def _response(connection: Any) -> Any:
    from redis.exceptions import ResponseError

    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
