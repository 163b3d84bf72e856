"""The blocking transport. Any number of threads may use it; each thread in a call has a connection of its own."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from ..model.errors import PartitionUnavailable
from ..protocol.commands import Command, Reply, by_instance
from .blocking_connection import Connection, response, take_over
from .connecting import Generation, carry_out, connect
from .endpoint import ANSWER_SECONDS, Endpoint, close_pool
from .failures import connection_failed, raise_interruption
from .replies import come_from_replica, has_errors, is_missing_script, missing_scripts, note_writes, with_our_errors
from .resp import pack

_IDLE_SECONDS = 1.0
"""A connection that was not used for longer is checked before use: the server may have closed it."""


class BlockingTransport:
    """Executes commands: those for one instance in one round trip, those for several instances at the same time."""

    def __init__(self, endpoints: Mapping[str, Endpoint], answer_seconds: float = ANSWER_SECONDS) -> None:
        """`answer_seconds` is the longest time to an answer."""
        self._pools = {
            name: Pool(endpoint, min(answer_seconds, ANSWER_SECONDS)) for name, endpoint in endpoints.items()
        }

    def execute(self, commands: Sequence[Command]) -> list[Reply]:
        """The reply to every command, in order. If an instance failed, the `PartitionUnavailable` stands in its place.

        Raises:
            EmbeddedServerError, InvalidOptions: this machine cannot start a private server, or lacks the software for
                it. Waiting does not help. A private server that ran and is down is like any other instance.
        """
        if len(commands) == 1:
            return self._pools[commands[0].instance].execute(commands)
        replies: list[Reply] = [None] * len(commands)
        under_way: deque[tuple[Pool, list[Command], list[int], Connection | PartitionUnavailable]] = deque()
        try:
            for name, positions in by_instance(commands).items():
                batch = [commands[position] for position in positions]
                pool = self._pools[name]
                under_way.append((pool, batch, positions, pool.send(batch)))
            while under_way:
                pool, batch, positions, sent = under_way.popleft()
                for position, reply in zip(positions, pool.receive(batch, sent), strict=True):
                    replies[position] = reply
        finally:
            # Where the call was interrupted, nobody waits for the replies that are still to come.
            for _, _, _, sent in under_way:
                if isinstance(sent, Connection):
                    sent.close()
        return replies

    @contextmanager
    def stream(self) -> Iterator[Callable[[Command], Callable[[], list[Reply]]]]:
        """Gives a function that sends a command and returns a function that waits for its reply.

        Commands to one instance are carried out, and their replies must be asked for, in the order of sending.
        """
        pipelines: dict[str, _Pipeline] = {}

        def send(command: Command) -> Callable[[], list[Reply]]:
            pipeline = pipelines.get(command.instance)
            if pipeline is None:
                pipeline = pipelines[command.instance] = _Pipeline(self._pools[command.instance])
            pipeline.send(command)
            return partial(pipeline.reply, command)

        try:
            yield send
        finally:
            for pipeline in pipelines.values():
                pipeline.close()

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


class Pool:
    """The connections to one instance. Those not in use lie on a stack, the one that was used last on top."""

    def __init__(self, endpoint: Endpoint, answer_seconds: float) -> None:
        self.endpoint = endpoint
        self.generation = Generation()
        self.pool: Any = None
        self._answer_seconds = answer_seconds
        self._idle: deque[tuple[float, Connection]] = deque()
        self._pid = os.getpid()

    def execute(self, commands: Sequence[Command]) -> list[Reply]:
        return self.receive(commands, self.send(commands))

    def send(self, commands: Sequence[Command]) -> Connection | PartitionUnavailable:
        """Sends commands, and returns the connection that carries them, or the error instead of it."""
        try:
            connection = self.take()
        except PartitionUnavailable as error:
            return error
        try:
            connection.send(b"".join(map(pack, commands)))
        except BaseException as error:
            return self.drop(connection, error)
        return connection

    def receive(self, commands: Sequence[Command], sent: Connection | PartitionUnavailable) -> list[Reply]:
        """The replies. If the connection broke, commands that are safe to repeat are repeated once."""
        if not isinstance(sent, PartitionUnavailable):
            try:
                return self._read(commands, sent)
            except BaseException as error:
                sent = self.drop(sent, error)
        return self.repeat(commands, sent)

    def repeat(self, commands: Sequence[Command], failure: PartitionUnavailable) -> list[Reply]:
        """Sends commands once more after their connection broke, if that is safe; else gives the failure of each."""
        if not failure.unknown_outcome or not all(command.repeatable for command in commands):
            return [failure] * len(commands)
        again = self.send(commands)
        if isinstance(again, PartitionUnavailable):
            # What was sent first may have been carried out all the same.
            again.unknown_outcome = True
            return [again] * len(commands)
        try:
            return self._read(commands, again)
        except BaseException as error:
            return [self.drop(again, error)] * len(commands)

    def _read(self, commands: Sequence[Command], connection: Any) -> list[Reply]:
        replies = self._exchange(commands, connection)
        self.put_back(connection)
        return replies

    def _exchange(self, commands: Sequence[Command], connection: Connection) -> list[Reply]:
        """Reads the replies to what was sent."""
        replies = [connection.read() for _ in commands]
        if has_errors(replies):
            missing, loads, packed = missing_scripts(commands, replies)
            if missing:
                connection.send(packed)
                for _ in range(loads):
                    connection.read()
                for position in missing:
                    replies[position] = connection.read()
            replies = self._finished(replies, connection)
        note_writes(self.endpoint.loss_detector, connection.run_id, commands, replies)
        return replies

    def _finished(self, replies: list[Any], connection: Connection) -> list[Reply]:
        if come_from_replica(replies):
            connection.close()
        return with_our_errors(self.endpoint.name, replies)

    def take(self) -> Connection:
        """A connection to send on. The caller must put it back, or drop it.

        Raises:
            PartitionUnavailable: where none can be opened.
        """
        if self._pid != os.getpid():
            # After a fork the sockets belong to the parent.
            self.pool, self._idle, self._pid = None, deque(), os.getpid()
        while True:
            try:
                since, connection = self._idle.pop()
            except IndexError:
                return cast("Connection", carry_out(connect(self)))
            is_current = connection.generation == self.generation.current
            if is_current and (time.monotonic() - since < _IDLE_SECONDS or not connection.has_hung_up()):
                return connection
            connection.close()

    def put_back(self, connection: Connection) -> None:
        """Takes back a connection on which nothing is under way."""
        if connection.is_open:
            self._idle.append((time.monotonic(), connection))

    def drop(self, connection: Connection, error: BaseException) -> PartitionUnavailable:
        """Closes a connection that broke during a command, and returns the error for that.

        Raises:
            BaseException: where the connection did not break, but the call was interrupted.
        """
        connection.close()
        raise_interruption(error)
        self.generation.end(connection.generation)
        return connection_failed(self.endpoint.name, error, sent=True)

    def read(self, command: Command, connection: Connection) -> Reply:
        """The next reply, which is that of `command`."""
        reply = connection.read()
        if is_missing_script(reply):
            # On another connection, because more replies are on their way on this one.
            return self.execute([command])[0]
        if isinstance(reply, Exception):
            [reply] = self._finished([reply], connection)
        note_writes(self.endpoint.loss_detector, connection.run_id, [command], [reply])
        return reply

    # -- what `connect` asks for -------------------------------------------------------------------------------------

    def new_pool(self) -> Any:
        return self.endpoint.connection_pool(asynchronous=False, answer_seconds=self._answer_seconds)

    def ask(self, connection: Any, packed: bytes) -> Any:
        connection.send_packed_command([packed], check_health=False)
        return response(connection)

    def give_up(self, connection: Any) -> None:
        connection.disconnect()

    def take_over(self, connection: Any, run_id: str, generation: int) -> Connection:
        opened = take_over(connection)
        opened.run_id, opened.generation = run_id, generation
        return opened

    def execute_first(self, connection: Connection, command: Command) -> Reply:
        connection.send(pack(command))
        return self._exchange([command], connection)[0]

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()
        close_pool(self.pool)


class _Pipeline:
    """Commands that are sent to one instance one after another, before their replies, on a connection of their own."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None
        self._sent: deque[Command] = deque()
        self._replies: dict[int, Reply] = {}

    def send(self, command: Command) -> None:
        if self._connection is None:
            try:
                self._connection = self._pool.take()
            except PartitionUnavailable as error:
                self._replies[id(command)] = error
                return
        self._sent.append(command)
        try:
            self._connection.send(pack(command))
        except Exception as error:
            self._fail(error)

    def reply(self, command: Command) -> list[Reply]:
        while id(command) not in self._replies:
            assert self._connection is not None
            oldest = self._sent[0]
            try:
                reply = self._pool.read(oldest, self._connection)
            except Exception as error:
                self._fail(error)
            else:
                self._replies[id(oldest)] = reply
                self._sent.popleft()
                if not self._connection.is_open:
                    self._fail(ConnectionError("the server became a replica"))
        return [self._replies.pop(id(command))]

    def _fail(self, error: Exception) -> None:
        assert self._connection is not None
        failure = self._pool.drop(self._connection, error)
        self._connection = None
        commands = list(self._sent)
        self._sent.clear()
        if commands:
            for command, reply in zip(commands, self._pool.repeat(commands, failure), strict=True):
                self._replies[id(command)] = reply

    def close(self) -> None:
        if self._connection is not None and self._sent:
            self._connection.close()  # nobody waits for the replies that are still to come
        elif self._connection is not None:
            self._pool.put_back(self._connection)
