"""How an open connection of redis-py carries many calls at once on an event loop.

redis-py opens it (TLS, login, Sentinel) and sends the first commands. Its own way of sending and reading would cost an
asyncio task and three timeouts for every round trip, more than the rest of a call. So its stream is taken over, where
it has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import hiredis

from .endpoint import ANSWER_SECONDS
from .resp import INCOMPLETE, new_parser

Done = Callable[[list[Any] | BaseException], None]
"""Takes the replies (errors of the server are exceptions among them), or the error that broke the connection; a
cancellation if the event loop is ending."""


class Connection(Protocol):
    """An open connection: one exchange at a time."""

    @property
    def is_open(self) -> bool:
        """Whether it is worth sending anything on it."""

    def exchange(self, packed: bytes, count: int, done: Done) -> None:
        """Sends packed commands and reads `count` replies; `done` is called once, on the loop, unless it is closed
        first."""

    def extend(self, packed: bytes, count: int) -> bool:
        """Adds commands to the exchange that is under way. Returns whether this connection can do that."""

    async def close(self) -> None:
        """Closes the connection. `done` is not called."""


def take_over(connection: Any) -> Connection:
    """What carries calls over a connection of redis-py that was just opened, and on which nothing is under way."""
    stream = stream_of(connection)
    return _MethodConnection(connection) if stream is None else _StreamConnection(connection, stream)


def stream_of(connection: Any) -> asyncio.WriteTransport | None:
    """What an open connection of redis-py writes to, if that is a stream of asyncio.

    Who gives up the connection must abort the stream: an orderly TLS close would wait for the server, perhaps longer
    than the event loop runs.
    """
    writer = getattr(connection, "_writer", None)
    return writer.transport if isinstance(writer, asyncio.StreamWriter) else None


class _StreamConnection(asyncio.Protocol):
    """Uses the stream of a connection directly."""

    def __init__(self, connection: Any, stream: asyncio.WriteTransport) -> None:
        self._connection = connection
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._parser = new_parser()
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
        # One timer serves many exchanges: setting and cancelling one for each costs more than looking now and then.
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
        parser, replies = self._parser, self._replies
        try:
            parser.feed(data)
            while (reply := parser.gets()) is not INCOMPLETE:
                replies.append(reply)
        except hiredis.ProtocolError as error:
            self._broke(error)
            return
        if len(replies) < self._count:
            self._heard = self._loop.time()
        elif self._done is None or len(replies) > self._count:
            self._broke(ConnectionError("unexpected data from the server"))
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


class _MethodConnection:
    """Uses the methods of a connection that has no stream: it is in memory, or simulated."""

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
    """The next reply on a connection of redis-py. An error of the server is returned, not raised."""
    from redis.exceptions import ResponseError

    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error
