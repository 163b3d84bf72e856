"""A connection of the doctor's own, for commands outside of scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Connection:
    """A connection to one instance. An answer that is an error is returned, not raised; a lost connection raises."""

    def __init__(self, pool: Any) -> None:
        """Connects; `pool` is what `Endpoint.connection_pool` makes for blocking use."""
        self._pool = pool
        self._connection = pool.make_connection()
        self._connection.connect()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.disconnect()

    def another(self) -> Connection:
        """A second connection to the same instance."""
        return Connection(self._pool)

    def ask(self, *requests: Sequence[str]) -> list[Any]:
        """The answers to the requests, all sent in one go."""
        for request in requests:
            self._connection.send_command(*request)
        return [self._answer() for _ in requests]

    def one(self, *request: str) -> Any:
        """The answer to one request."""
        return self.ask(request)[0]

    def hear(self, seconds: float) -> Any:
        """A message that comes within `seconds` unasked, as to a channel; None where none comes."""
        return self._answer() if self._connection.can_read(seconds) else None

    def _answer(self) -> Any:
        from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

        try:
            return self._connection.read_response(disable_decoding=True)
        except (ResponseError, AuthenticationError, BusyLoadingError) as error:
            return error


def lacks_right(answer: object) -> bool:
    """Whether the user lacks a right for what was asked."""
    from redis.exceptions import NoPermissionError

    return isinstance(answer, NoPermissionError)


def is_unknown(answer: object) -> bool:
    """Whether the server does not know the command."""
    return isinstance(answer, Exception) and "unknown command" in str(answer).lower()
