"""How an open connection of redis-py carries many calls at once on an event loop.

redis-py opens it (TLS, login, Sentinel) and speaks on it first. Afterwards its own way of sending and reading would
cost a task and three timeouts for every round trip, more than all the rest of a call: where it is on a stream of
asyncio, the stream is taken over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import hiredis

from . import replies as answers
from .endpoint import ANSWER_SECONDS

Done = Callable[[list[Any] | BaseException], None]
"""Takes the replies, errors of the server among them as exceptions, or what befell the connection instead; a
cancellation where the event loop is ending."""


class Wire(Protocol):
    """An open connection: one exchange at a time."""

    @property
    def is_open(self) -> bool:
        """Whether it is worth sending anything on it."""

    def exchange(self, packed: bytes, count: int, done: Done) -> None:
        """Sends packed commands and reads `count` replies; `done` is called once, on the loop, unless it is closed
        first."""

    def extend(self, packed: bytes, count: int) -> bool:
        """Adds commands to the exchange that is under way; whether this wire can."""

    async def close(self) -> None:
        """Gives the connection up. Nobody is told."""


def open_wire(connection: Any) -> Wire:
    """What carries calls over a connection of redis-py that was just opened, and on which nothing is under way."""
    stream = stream_of(connection)
    return _CallWire(connection) if stream is None else _StreamWire(connection, stream)


def stream_of(connection: Any) -> asyncio.WriteTransport | None:
    """What an open connection of redis-py writes to, where that is a stream of asyncio.

    Whoever gives up the connection must abort it: closed in order, TLS would wait for the server to say goodbye, for
    longer than the event loop may run.
    """
    writer = getattr(connection, "_writer", None)
    return writer.transport if isinstance(writer, asyncio.StreamWriter) else None


class _StreamWire(asyncio.Protocol):
    """Speaks on the stream of a connection itself."""

    def __init__(self, connection: Any, stream: asyncio.WriteTransport) -> None:
        self._connection = connection
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._reader = answers.reader()
        self._replies: list[Any] = []
        self._count = 0
        self._done: Done | None = None
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        stream.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return not self._stream.is_closing()

    def exchange(self, packed: bytes, count: int, done: Done) -> None:
        self._count, self._done = count, done
        self._heard = self._loop.time()
        # One timer serves many exchanges: to set and cancel one for each would cost more than to look now and then.
        if self._timer is None:
            self._timer = self._loop.call_at(self._heard + ANSWER_SECONDS, self._look)
        self._stream.write(packed)

    def extend(self, packed: bytes, count: int) -> bool:
        self._count += count
        self._stream.write(packed)
        return True

    def _look(self) -> None:
        self._timer = None
        if self._done is None:
            return
        silent = self._loop.time() - self._heard
        if silent >= ANSWER_SECONDS:
            self._broke(TimeoutError(f"no answer for {ANSWER_SECONDS:g} s"))
        else:
            self._timer = self._loop.call_later(ANSWER_SECONDS - silent, self._look)

    def data_received(self, data: bytes) -> None:
        reader, replies = self._reader, self._replies
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not answers.NOTHING:
                replies.append(reply)
        except hiredis.ProtocolError as error:
            self._broke(error)
            return
        if len(replies) < self._count:
            self._heard = self._loop.time()
        elif self._done is None or len(replies) > self._count:
            self._broke(ConnectionError("the server said what nobody had asked for"))
        else:
            done, self._done, self._replies = self._done, None, []
            done(replies)

    def connection_lost(self, error: Exception | None) -> None:
        self._broke(error or ConnectionError("the server hung up"))

    def _broke(self, error: Exception) -> None:
        self._stream.abort()
        done, self._done = self._done, None
        if done is not None:
            done(error)

    async def close(self) -> None:
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
        self._stream.abort()
        await self._connection.disconnect(nowait=True)


class _CallWire:
    """Speaks through the methods of a connection that has no stream: one in memory, or a simulated one."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._done: Done | None = None
        self._task: asyncio.Task[list[Any]] | None = None

    @property
    def is_open(self) -> bool:
        return bool(self._connection.is_connected)

    def exchange(self, packed: bytes, count: int, done: Done) -> None:
        self._done = done
        self._task = asyncio.get_running_loop().create_task(self._exchange(packed, count))
        self._task.add_done_callback(self._ended)

    def extend(self, packed: bytes, count: int) -> bool:
        return False

    async def _exchange(self, packed: bytes, count: int) -> list[Any]:
        await self._connection.send_packed_command([packed], check_health=False)
        return [await response(self._connection) for _ in range(count)]

    def _ended(self, task: asyncio.Task[list[Any]]) -> None:
        done, self._done, self._task = self._done, None, None
        outcome = asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()
        if done is not None:
            done(outcome)

    async def close(self) -> None:
        self._done = None
        if self._task is not None:
            self._task.cancel()
        await self._connection.disconnect(nowait=True)


async def response(connection: Any) -> Any:
    """The next reply on a connection of redis-py; an error of the server as it is, not raised."""
    from redis.exceptions import ResponseError

    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
