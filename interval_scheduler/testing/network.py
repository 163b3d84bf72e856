"""What stands between processes and servers: connections that take time, break, or lose one direction.

These are the objects that the real transports take from redis-py, with the same few methods.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ..model.errors import PartitionUnavailable
from ..servers.data_loss import LossDetector
from ..servers.inspection import Inspection
from ..transport.endpoint import ANSWER_SECONDS, CONNECT_SECONDS
from ..transport.failures import connection_failed
from .kernel import Process, ProcessCrashed
from .servers import SimulatedServer


class Weather:
    """What the network does to what passes through it. This one is perfect and takes no time; plans override it."""

    def latency(self) -> float:
        """Seconds that something takes one way."""
        return 0.0

    def command(self, process: Process, server: SimulatedServer, args: list[bytes]) -> str:
        """What becomes of one command: "" (nothing special), or one of `FATES`."""
        return ""

    def message(self) -> list[float]:
        """The delays, in seconds, of each copy of a published message that arrives."""
        return [self.latency()]

    def reachable(self, process: Process, server: SimulatedServer) -> bool:
        """Whether a new connection is answered; if not, it hangs until its deadline."""
        return True

    def slowness(self) -> float:
        """Seconds that a slow reply takes."""
        return 1.0


FATES = {
    "crash-before": "the process dies before the command is carried out",
    "crash-after": "the process dies when it was carried out",
    "cut-before": "the connection breaks, and it is not carried out",
    "cut-after": "it is carried out, and the connection breaks before the reply",
    "swallow-before": "it is never carried out nor answered, and the connection stays open",
    "swallow-after": "it is carried out and never answered",
    "slow": "the reply takes long",
}


class Network:
    """All servers by name, and the weather."""

    def __init__(self, servers: list[SimulatedServer], weather: Weather | None = None) -> None:
        self.servers = {server.name: server for server in servers}
        self.weather = weather or Weather()

    def endpoint(self, process: Process, instance: Any) -> SimulatedEndpoint:
        return SimulatedEndpoint(self, process, instance.name)


class SimulatedEndpoint:
    """The way of one process to one server: what `transport.endpoint.Endpoint` is in the real runtime."""

    def __init__(self, network: Network, process: Process, name: str) -> None:
        self.name = name
        self.loss_detector: LossDetector | None = None
        self.inspection: Inspection | None = None
        self.has_worked = False
        self._network = network
        self._process = process

    def open(self) -> None: ...

    def revive(self) -> None: ...

    def failure(self, error: BaseException, *, patient: bool = False) -> PartitionUnavailable:
        return connection_failed(self.name, error, sent=False, connecting=True)

    def close(self) -> None: ...

    def connection_pool(self, asynchronous: bool, answer_seconds: float = ANSWER_SECONDS) -> Any:
        return _Pool(self, _AsyncConnection if asynchronous else _BlockingConnection)

    def pubsub(self) -> _PubSub:
        return _PubSub(self._network, self._process, self._network.servers[self.name])


class _Pool:
    def __init__(self, endpoint: SimulatedEndpoint, kind: Callable[..., Any]) -> None:
        self._endpoint = endpoint
        self._kind = kind

    def make_connection(self) -> Any:
        network = self._endpoint._network
        return self._kind(network, self._endpoint._process, network.servers[self._endpoint.name])


class _Connection:
    """What both kinds of connections share. One is good for as long as the server runs."""

    def __init__(self, network: Network, process: Process, server: SimulatedServer) -> None:
        self._network = network
        self._process = process
        self._server = server
        self._open = False
        self._replies: deque[Any] = deque()

    @property
    def is_connected(self) -> bool:
        return self._open

    def _established(self) -> None:
        if not self._server.up:
            raise RedisConnectionError("Connection refused")
        self._open = True
        self._server.connected(self._broken)

    def _broken(self) -> None:
        self._open = False

    def _hang_up(self) -> None:
        self._open = False
        self._server.disconnected(self._broken)

    def _carry_out(self, args: list[bytes], fate: str) -> Any:
        """The reply of a command that has arrived; raises where there is none."""
        if not self._open or fate == "cut-before":
            raise RedisConnectionError("Connection reset by peer")
        if fate == "crash-before":
            self._process.crash()
            raise ProcessCrashed
        if fate == "swallow-before":
            raise RedisTimeoutError("Timeout reading from socket")
        reply = self._server.execute(args)
        if fate == "crash-after":
            self._process.crash()
            raise ProcessCrashed
        if fate == "cut-after":
            raise RedisConnectionError("Connection reset by peer")
        if fate == "swallow-after":
            raise RedisTimeoutError("Timeout reading from socket")
        return reply


def _parse(chunks: list[bytes]) -> list[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(b"".join(chunks))
    commands = []
    while (args := reader.gets()) is not False:
        commands.append(args)
    return commands


class _BlockingConnection(_Connection):
    """Takes no time: a process in the simulation cannot be left while it blocks."""

    def connect(self) -> None:
        if not self._network.weather.reachable(self._process, self._server):
            raise RedisTimeoutError("Timeout connecting to server")
        self._established()

    def send_packed_command(self, chunks: list[bytes], check_health: bool = True) -> None:
        for args in _parse(chunks):
            fate = self._network.weather.command(self._process, self._server, args)
            try:
                self._replies.append(self._carry_out(args, fate))
            except (RedisConnectionError, RedisTimeoutError) as error:
                self._hang_up()
                self._replies.append(error)
                return

    def read_response(self, disable_decoding: bool = True) -> Any:
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def can_read(self, timeout: float) -> bool:
        return not self._open

    def disconnect(self) -> None:
        self._hang_up()


class _AsyncConnection(_Connection):
    """Commands arrive one after another, some time after they were sent, and so do the replies."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._arrival = 0.0
        self._return = 0.0
        self._reader: asyncio.Future[None] | None = None

    async def connect(self) -> None:
        weather = self._network.weather
        await asyncio.sleep(weather.latency())
        if not weather.reachable(self._process, self._server):
            await asyncio.sleep(CONNECT_SECONDS)
            raise RedisTimeoutError("Timeout connecting to server")
        self._established()

    async def send_packed_command(self, chunks: list[bytes], check_health: bool = True) -> None:
        if not self._open:
            raise RedisConnectionError("Connection closed by server.")
        kernel, weather = self._process.kernel, self._network.weather
        # What was sent arrives, even if the process crashes meanwhile.
        self._arrival = max(self._arrival, kernel.now + weather.latency())
        for args in _parse(chunks):
            kernel.at(self._arrival, None, self._arrive, args)

    def _arrive(self, args: list[bytes]) -> None:
        weather = self._network.weather
        fate = weather.command(self._process, self._server, args) if self._process.alive else ""
        try:
            reply = self._carry_out(args, fate)
        except ProcessCrashed:
            return
        except RedisTimeoutError:
            return  # whoever waits for it has a deadline of its own
        except RedisConnectionError as error:
            self._hang_up()
            reply = error
        delay = weather.latency() + (weather.slowness() if fate == "slow" else 0.0)
        # One connection keeps the order.
        self._return = max(self._return, self._process.kernel.now + delay)
        self._process.kernel.at(self._return, self._process, self._receive, reply)

    def _receive(self, reply: Any) -> None:
        self._replies.append(reply)
        self._wake()

    async def read_response(self, disable_decoding: bool = True) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ANSWER_SECONDS
        while not self._replies:
            if not self._open:
                raise RedisConnectionError("Connection closed by server.")
            self._reader = loop.create_future()
            timer = loop.call_at(deadline, _set, self._reader)
            await self._reader
            timer.cancel()
            if not self._replies and loop.time() >= deadline:
                raise RedisTimeoutError("Timeout reading from socket")
        reply = self._replies.popleft()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _broken(self) -> None:
        super()._broken()
        self._process.kernel.at(self._process.kernel.now, self._process, self._wake)

    def _wake(self) -> None:
        if self._reader is not None:
            _set(self._reader)

    async def disconnect(self, nowait: bool = False) -> None:
        self._hang_up()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _PubSub:
    """A listening connection: the few methods of redis-py's `PubSub` that the monitor uses."""

    def __init__(self, network: Network, process: Process, server: SimulatedServer) -> None:
        self.connection = self
        self.connection_pool = self
        self.channels: set[str] = set()
        self._network = network
        self._process = process
        self._server = server
        self.is_connected = False
        self._messages: deque[dict[str, Any]] = deque()
        self._waiting: asyncio.Future[None] | None = None

    async def _round_trip(self) -> None:
        await asyncio.sleep(2 * self._network.weather.latency())
        if not self.is_connected:
            raise RedisConnectionError("Connection closed by server.")

    async def _connect(self) -> None:
        await asyncio.sleep(self._network.weather.latency())
        if not self._network.weather.reachable(self._process, self._server):
            await asyncio.sleep(CONNECT_SECONDS)
            raise RedisTimeoutError("Timeout connecting to server")
        if not self._server.up:
            raise RedisConnectionError("Connection refused")
        self.is_connected = True
        self._server.connected(self._broken)

    def _broken(self) -> None:
        self.is_connected = False
        self._process.kernel.at(self._process.kernel.now, self._process, self._wake)

    def _wake(self) -> None:
        if self._waiting is not None:
            _set(self._waiting)

    async def subscribe(self, *channels: str) -> None:
        if not self.is_connected:
            await self._connect()
        await self._round_trip()
        self.channels |= set(channels)
        self._server.subscribe(self)
        for channel in sorted(channels):
            self._put({"type": "subscribe", "channel": channel.encode(), "data": 1})

    async def unsubscribe(self, *channels: str) -> None:
        await self._round_trip()
        self.channels -= set(channels)
        self._server.subscribe(self)

    def receive(self, channel: str, message: bytes) -> None:
        if not self._process.alive:
            return
        kernel = self._process.kernel
        for delay in self._network.weather.message():
            event = {"type": "message", "channel": channel.encode(), "data": message}
            kernel.at(kernel.now + delay, self._process, self._put, event)

    def _put(self, event: dict[str, Any]) -> None:
        self._messages.append(event)
        self._wake()

    async def get_message(self, timeout: float) -> dict[str, Any] | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not self._messages:
            if not self.is_connected:
                raise RedisConnectionError("Connection closed by server.")
            if loop.time() >= deadline:
                return None
            self._waiting = loop.create_future()
            timer = loop.call_at(deadline, _set, self._waiting)
            await self._waiting
            timer.cancel()
        return self._messages.popleft()

    async def ping(self) -> None:
        await self._round_trip()
        self._put({"type": "pong", "channel": None, "data": b""})

    async def aclose(self) -> None:
        self.is_connected = False
        self._server.unsubscribe(self)
        self._server.disconnected(self._broken)

    async def disconnect(self) -> None: ...
