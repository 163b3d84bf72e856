"""The blocking transport: usable from any number of threads; every thread in a call has a connection of its own."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..model.errors import EmbeddedServerError, InvalidOptions, PartitionUnavailable
from ..protocol.commands import Command, Reply, by_instance
from . import replies as answers
from .blocking_connection import Link, open_link, response
from .endpoint import ANSWER_SECONDS, Endpoint, close_pool

_IDLE_SECONDS = 1.0
"""A connection unused for longer is checked for a server that has hung up."""


class BlockingTransport:
    """Executes commands: those for one instance in one round trip, several instances at the same time."""

    def __init__(self, endpoints: Mapping[str, Endpoint], answer_seconds: float = ANSWER_SECONDS) -> None:
        """`answer_seconds` is the longest time to an answer."""
        self._lines = {
            name: _Line(endpoint, min(answer_seconds, ANSWER_SECONDS)) for name, endpoint in endpoints.items()
        }

    def execute(self, commands: Sequence[Command]) -> list[Reply]:
        """The reply of every command, in order; where an instance failed, the `PartitionUnavailable` in its place.

        Raises:
            EmbeddedServerError, InvalidOptions: where this machine cannot start, or lacks the software for, a private
                server. Waiting mends neither; one that ran and is down is like any instance.
        """
        if len(commands) == 1:
            return self._lines[commands[0].instance].execute(commands)
        replies: list[Reply] = [None] * len(commands)
        started = []
        for name, positions in by_instance(commands).items():
            batch = [commands[position] for position in positions]
            line = self._lines[name]
            started.append((line, batch, positions, line.send(batch)))
        for line, batch, positions, sent in started:
            for position, reply in zip(positions, line.receive(batch, sent), strict=True):
                replies[position] = reply
        return replies

    @contextmanager
    def stream(self) -> Iterator[Callable[[Command], Callable[[], list[Reply]]]]:
        """Gives what sends one command after another, and returns what waits for its reply; in the order of sending."""
        ways: dict[str, _Way] = {}

        def begin(command: Command) -> Callable[[], list[Reply]]:
            way = ways.get(command.instance)
            if way is None:
                way = ways[command.instance] = _Way(self._lines[command.instance])
            way.send(command)
            return partial(way.reply, command)

        try:
            yield begin
        finally:
            for way in ways.values():
                way.close()

    def close(self) -> None:
        for line in self._lines.values():
            line.close()


class _Line:
    """The connections to one instance. Those not in use wait on a stack, the warmest on top."""

    def __init__(self, endpoint: Endpoint, answer_seconds: float) -> None:
        self._endpoint = endpoint
        self._answer_seconds = answer_seconds
        self._trust = answers.Trust()
        self._pool: Any = None
        self._idle: deque[tuple[float, Link]] = deque()
        self._pid = os.getpid()

    def execute(self, commands: Sequence[Command]) -> list[Reply]:
        return self.receive(commands, self.send(commands))

    def send(self, commands: Sequence[Command]) -> Link | PartitionUnavailable:
        """A connection on which the commands are under way, or the error that came instead."""
        try:
            connection = self.take()
        except PartitionUnavailable as error:
            return error
        try:
            connection.send(b"".join(map(answers.pack, commands)))
        except Exception as error:
            return self.drop(connection, error)
        return connection

    def receive(self, commands: Sequence[Command], sent: Link | PartitionUnavailable) -> list[Reply]:
        """The replies; commands that are safe to repeat are repeated once where the connection broke under them."""
        if not isinstance(sent, PartitionUnavailable):
            try:
                return self._read(commands, sent)
            except Exception as error:
                sent = self.drop(sent, error)
        return self.repeat(commands, sent)

    def repeat(self, commands: Sequence[Command], failure: PartitionUnavailable) -> list[Reply]:
        """Sends commands once more that the connection broke under, where that is safe; else the failure of each."""
        if not failure.unknown_outcome or not all(command.repeatable for command in commands):
            return [failure] * len(commands)
        again = self.send(commands)
        if isinstance(again, PartitionUnavailable):
            # What was sent before may still have been carried out.
            again.unknown_outcome = True
            return [again] * len(commands)
        try:
            return self._read(commands, again)
        except Exception as error:
            return [self.drop(again, error)] * len(commands)

    def _read(self, commands: Sequence[Command], connection: Any) -> list[Reply]:
        replies = self._exchange(commands, connection)
        self.put_back(connection)
        return replies

    def _exchange(self, commands: Sequence[Command], connection: Link) -> list[Reply]:
        """Reads the replies to what was sent."""
        replies = [connection.read() for _ in commands]
        if answers.has_errors(replies):
            missing, loads, packed = answers.missing_scripts(commands, replies)
            if missing:
                connection.send(packed)
                for _ in range(loads):
                    connection.read()
                for position in missing:
                    replies[position] = connection.read()
            replies = self._finished(replies, connection)
        answers.learn(self._endpoint.loss_detector, connection.run_id, commands, replies)
        return replies

    def _finished(self, replies: list[Any], connection: Link) -> list[Reply]:
        if answers.wants_new_connection(replies):
            connection.close()
        return answers.finished(self._endpoint.name, replies)

    def take(self) -> Link:
        """A connection to send on; it must be put back or dropped.

        Raises:
            PartitionUnavailable: where none can be made.
        """
        if self._pid != os.getpid():
            # After a fork the sockets belong to the parent.
            self._pool, self._idle, self._pid = None, deque(), os.getpid()
        while True:
            try:
                since, connection = self._idle.pop()
            except IndexError:
                return self._connect()
            trusted = connection.opened_at == self._trust.losses
            if trusted and (time.monotonic() - since < _IDLE_SECONDS or not connection.has_hung_up()):
                return connection
            connection.close()

    def put_back(self, connection: Link) -> None:
        """Takes a connection back on which nothing is under way."""
        if connection.is_open:
            self._idle.append((time.monotonic(), connection))

    def drop(self, connection: Link, error: Exception) -> PartitionUnavailable:
        """Gives up a connection that broke under a command; the error for that."""
        self._lost(connection)
        return answers.lost(self._endpoint.name, error, sent=True)

    def read(self, command: Command, connection: Link) -> Reply:
        """The next reply, which is that of `command`."""
        reply = connection.read()
        if answers.is_missing_script(reply):
            # Elsewhere, because more replies are on their way here.
            return self.execute([command])[0]
        if isinstance(reply, Exception):
            [reply] = self._finished([reply], connection)
        answers.learn(self._endpoint.loss_detector, connection.run_id, [command], [reply])
        return reply

    def _lost(self, connection: Link) -> None:
        self._trust.lose(connection.opened_at)
        connection.close()

    def _connect(self) -> Link:
        try:
            return self._open_connection()
        except (PartitionUnavailable, EmbeddedServerError, InvalidOptions):
            raise
        except Exception as first:
            try:
                self._endpoint.revive()
                return self._open_connection()
            except PartitionUnavailable:
                raise
            except Exception as error:
                raise answers.lost(self._endpoint.name, error, sent=False) from first

    def _open_connection(self) -> Link:
        if self._pool is None:
            self._endpoint.open()
            self._pool = self._endpoint.connection_pool(asynchronous=False, answer_seconds=self._answer_seconds)
        connection = self._pool.make_connection()
        losses = self._trust.losses
        connection.connect()
        try:
            run_id, greeting = self._meet(connection)
        except BaseException:
            connection.disconnect()
            raise
        opened = open_link(connection)
        opened.opened_at, opened.run_id = losses, run_id
        if greeting is not None:
            try:
                self._greet(opened, greeting)
            except BaseException:
                opened.close()
                raise
        return opened

    def _meet(self, connection: Any) -> tuple[str, Command | None]:
        """Learns which run of the server this is, and how it is set up; what must be sent first, if anything."""
        if self._endpoint.loss_detector is None:
            return "", None
        connection.send_packed_command([answers.INFO], check_health=False)
        return answers.met(self._endpoint, response(connection))

    def _greet(self, connection: Link, greeting: Command) -> None:
        assert self._endpoint.loss_detector is not None
        connection.send(answers.pack(greeting))
        [reply] = self._exchange([greeting], connection)
        if not connection.is_open:
            raise reply  # a replica answered
        self._endpoint.loss_detector.greeted(greeting, reply)

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()
        close_pool(self._pool)


class _Way:
    """Commands on their way to one instance, on a connection of their own."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._connection: Link | None = None
        self._sent: deque[Command] = deque()
        self._replies: dict[int, Reply] = {}

    def send(self, command: Command) -> None:
        if self._connection is None:
            try:
                self._connection = self._line.take()
            except PartitionUnavailable as error:
                self._replies[id(command)] = error
                return
        self._sent.append(command)
        try:
            self._connection.send(answers.pack(command))
        except Exception as error:
            self._broke(error)

    def reply(self, command: Command) -> list[Reply]:
        while id(command) not in self._replies:
            assert self._connection is not None
            oldest = self._sent[0]
            try:
                reply = self._line.read(oldest, self._connection)
            except Exception as error:
                self._broke(error)
            else:
                self._replies[id(oldest)] = reply
                self._sent.popleft()
                if not self._connection.is_open:
                    self._broke(ConnectionError("the server became a replica"))
        return [self._replies.pop(id(command))]

    def _broke(self, error: Exception) -> None:
        assert self._connection is not None
        failure = self._line.drop(self._connection, error)
        self._connection = None
        commands = list(self._sent)
        self._sent.clear()
        if commands:
            for command, reply in zip(commands, self._line.repeat(commands, failure), strict=True):
                self._replies[id(command)] = reply

    def close(self) -> None:
        if self._connection is not None and self._sent:
            self._connection.close()  # nobody waits for what is still to come on it
        elif self._connection is not None:
            self._line.put_back(self._connection)
