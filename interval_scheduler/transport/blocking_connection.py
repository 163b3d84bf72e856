"""How an open connection of redis-py carries calls for a thread.

redis-py opens it (TLS, login, Sentinel). Sending and reading by its own methods would take a tenth of the time of a
call, so its socket is used directly where it has one.
"""

from __future__ import annotations

import socket
from typing import Any

from .failures import raise_interruption
from .replies import raise_connection_error
from .resp import INCOMPLETE, new_parser

_BUFFER_BYTES = 16 * 1024


class Connection:
    """Uses the methods of redis-py's connection, because that has no socket: it is in memory, or simulated."""

    run_id = ""
    """Which start of its server it leads to."""
    generation = 0
    """See `connecting.Generation`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def is_open(self) -> bool:
        return bool(self._connection.is_connected)

    def send(self, packed: bytes) -> None:
        """Sends packed commands."""
        self._connection.send_packed_command([packed], check_health=False)

    def read(self) -> Any:
        """The next reply. An error of the server is returned, not raised.

        Raises:
            Exception: where the connection broke; whatever redis-py or the system raises then.
        """
        return response(self._connection)

    def has_hung_up(self) -> bool:
        """Whether the server closed the connection. Nothing was asked, so anything to read means that."""
        try:
            return bool(self._connection.can_read(0))
        except Exception as error:  # whatever it is, this connection must not be used again
            raise_interruption(error)
            return True

    def close(self) -> None:
        self._connection.disconnect()


class _SocketConnection(Connection):
    """Uses the socket of a connection directly. Its timeout is the one that redis-py was given."""

    is_open = True

    def __init__(self, connection: Any, sock: socket.socket) -> None:
        super().__init__(connection)
        self.send = sock.sendall  # type: ignore[method-assign,assignment]
        self._receive_into = sock.recv_into
        self._buffer = bytearray(_BUFFER_BYTES)
        self._parser = new_parser()

    def read(self) -> Any:
        parser = self._parser
        while (reply := parser.gets()) is INCOMPLETE:
            received = self._receive_into(self._buffer)
            if not received:
                raise ConnectionError("the server hung up")
            parser.feed(self._buffer, 0, received)
        if isinstance(reply, Exception):
            raise_connection_error([reply])
        return reply

    def close(self) -> None:
        self.is_open = False
        super().close()


def response(connection: Any) -> Any:
    """The next reply on a connection of redis-py. An error of the server is returned, not raised."""
    from redis.exceptions import ResponseError

    try:
        return connection.read_response(disable_decoding=True)
    except ResponseError as error:
        return error


def take_over(connection: Any) -> Connection:
    """What carries calls over a connection of redis-py that was just opened, and on which nothing is under way."""
    sock = getattr(connection, "_sock", None)
    return _SocketConnection(connection, sock) if isinstance(sock, socket.socket) else Connection(connection)
