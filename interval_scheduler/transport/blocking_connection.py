"""How an open connection of redis-py carries calls for a thread: `wire` for those who block.

Its own way of sending and reading takes a tenth of the time of a call: where it is on a socket, that is used directly.
"""

from __future__ import annotations

import socket
from typing import Any

from . import replies as answers

_BUFFER_BYTES = 16 * 1024


class Link:
    """A connection that speaks through its own methods, because it has no socket: one in memory, or a simulated one."""

    run_id = ""
    """Which run of its server it leads to."""
    opened_at = 0
    """How many connections were lost before it was opened, see `answers.Trust`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def is_open(self) -> bool:
        return bool(self._connection.is_connected)

    def send(self, packed: bytes) -> None:
        """Sends packed commands."""
        self._connection.send_packed_command([packed], check_health=False)

    def read(self) -> Any:
        """The next reply; an error of the server as it is, not raised.

        Raises:
            Exception: where the connection broke, whatever redis-py or the system says then.
        """
        return response(self._connection)

    def has_hung_up(self) -> bool:
        """Nothing was asked, so anything to read is the end of the connection."""
        try:
            return bool(self._connection.can_read(0))
        except Exception:  # whatever it is, this connection is not to be used again
            return True

    def close(self) -> None:
        self._connection.disconnect()


class _SocketLink(Link):
    """Speaks on the socket of a connection itself. Its timeout is the one that redis-py was given."""

    is_open = True

    def __init__(self, connection: Any, plug: socket.socket) -> None:
        super().__init__(connection)
        self.send = plug.sendall  # type: ignore[method-assign,assignment]
        self._receive_into = plug.recv_into
        self._buffer = bytearray(_BUFFER_BYTES)
        self._reader = answers.reader()

    def read(self) -> Any:
        reader = self._reader
        while (reply := reader.gets()) is answers.NOTHING:
            received = self._receive_into(self._buffer)
            if not received:
                raise ConnectionError("the server hung up")
            reader.feed(self._buffer, 0, received)
        if isinstance(reply, Exception):
            answers.raise_lost([reply])
        return reply

    def close(self) -> None:
        self.is_open = False
        super().close()


def response(connection: Any) -> Any:
    """The next reply on a connection of redis-py; an error of the server as it is, not raised."""
    from redis.exceptions import ResponseError

    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def open_link(connection: Any) -> Link:
    """What carries calls over a connection of redis-py that was just opened, and on which nothing is under way."""
    plug = getattr(connection, "_sock", None)
    return _SocketLink(connection, plug) if isinstance(plug, socket.socket) else Link(connection)
