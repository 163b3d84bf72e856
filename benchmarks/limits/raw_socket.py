"""The most a process can store: pairs of HSET and SADD, packed by hand, pipelined over a raw socket."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from ..adapter import SETTINGS, Description, Item

DESCRIPTION = Description((), "HSET + SADD a task, 1,000 pairs in one write", "1,000 pairs in one write", "no")
DEPTH = 1000
_PAIR = (
    b"*4\r\n$4\r\nHSET\r\n$1\r\nH\r\n$15\r\nuser:%010d\r\n$64\r\n%b\r\n"
    b"*3\r\n$4\r\nSADD\r\n$1\r\nS\r\n$15\r\nuser:%010d\r\n"
)
_ANSWERS_BYTES = 8
"""Two times ``:1`` and the end of the line."""


class Client:
    def __init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", SETTINGS.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def bulk(self, items: Sequence[Item]) -> None:
        for start in range(0, len(items), DEPTH):
            batch = items[start : start + DEPTH]
            self._socket.sendall(b"".join([_PAIR % (number, payload.encode(), number) for number, payload, _ in batch]))
            left = len(batch) * _ANSWERS_BYTES
            while left:
                left -= len(self._socket.recv(1 << 16))


def client() -> Client:
    return Client()
