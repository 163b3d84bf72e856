"""Listens to every instance on a connection of its own: notices at once when one is lost or back, and brings hints.

A hint is only a hint: nothing is lost with one. A ping finds a connection that went silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ..support.cancellation import cancel_all, is_cancelled
from ..support.runtime import Runtime
from ..support.threads import in_thread
from ..transport.aio_connection import stream_of
from ..transport.endpoint import Endpoint, aclose_pool
from .health import Health

PING_SECONDS = 4.0
"""Time between pings on a quiet connection. With the deadline for the answer below, silence is noticed in seconds."""
PONG_SECONDS = 2.0
FIRST_RETRY_SECONDS = 0.05
"""The first wait before a reconnect. Waits then grow, with jitter, up to the option `reconnect_interval_seconds`."""


class Monitor:
    """Listens to all instances, from `start` to `stop`, on one event loop."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        health: Health,
        channel: str,
        reconnect_seconds: float,
        runtime: Runtime,
        on_return: Callable[[str], Awaitable[None]],
    ) -> None:
        """`channel` is one that nobody publishes to: a connection that listens to nothing cannot wait.

        `on_return(instance)` is awaited whenever an instance is back.
        """
        self._endpoints = endpoints
        self.health = health
        self._channel = channel
        self._reconnect = reconnect_seconds
        self._runtime = runtime
        self._on_return = on_return
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners: dict[str, _Listener] = {}

    def start(self) -> None:
        for name, endpoint in self._endpoints.items():
            listener = self._listeners[name] = _Listener(endpoint, self._channel, self._runtime)
            self._tasks.append(asyncio.get_running_loop().create_task(self._watch(name, listener)))

    async def _watch(self, name: str, listener: _Listener) -> None:
        pause, first = FIRST_RETRY_SECONDS, True
        while not is_cancelled():
            try:
                await listener.connect()
                self.health.up(name)
                if not first:
                    await self._on_return(name)
                pause, first = FIRST_RETRY_SECONDS, False
                await listener.listen()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # a lost connection, or whatever else: it is tried again
                self.health.down(name, await in_thread(partial(self._endpoints[name].failure, error, patient=True)))
            try:
                await listener.disconnect()
            except Exception as error:  # it was given up already, and the next one is a new one
                self.health.down(name, await in_thread(partial(self._endpoints[name].failure, error, patient=True)))
            # It is tried again less and less often, and not by all processes at once.
            await asyncio.sleep(min(pause, self._reconnect) * self._runtime.random.uniform(0.5, 1))
            pause = min(pause * 2, self._reconnect)

    async def subscribe(
        self,
        instance: str,
        channels: Iterable[str],
        receive: Callable[[str, bytes], None],
        connected: Callable[[], None],
    ) -> None:
        """From now on listens to exactly these `channels` of an instance, over reconnects.

        `receive(channel, message)` is called on the loop; `connected()` after each reconnect, when hints were missed.
        """
        listener = self._listeners[instance]
        listener.receive, listener.connected = receive, connected
        await listener.set_channels(set(channels))

    async def stop(self) -> None:
        await cancel_all(self._tasks)
        self._tasks.clear()
        for listener in self._listeners.values():
            await listener.disconnect()
        self._listeners.clear()


class _Listener:
    """One listening connection, rebuilt as often as it takes."""

    def __init__(self, endpoint: Endpoint, base: str, runtime: Runtime) -> None:
        self._runtime = runtime
        self._endpoint = endpoint
        self._base = base
        self._channels: set[str] = set()
        self._unheard: set[str] = set()
        self._pubsub: Any = None
        self._stream: asyncio.WriteTransport | None = None
        self._ready = False
        """Whether the connection is made and takes changes: until then `connect` sees to all channels."""
        self.receive: Callable[[str, bytes], None] | None = None
        self.connected: Callable[[], None] | None = None

    async def connect(self) -> None:
        await in_thread(self._endpoint.open)
        self._pubsub = self._endpoint.pubsub()
        channels = set(self._channels)
        self._unheard = set(channels)
        try:
            await self._pubsub.subscribe(self._base, *channels)
            self._stream = stream_of(self._pubsub.connection)
            # A worker that starts while its connection is being made asks for channels that were not known above.
            while late := self._channels - channels:
                channels |= late
                self._unheard |= late
                await self._pubsub.subscribe(*late)
            self._ready = True
            await asyncio.wait_for(self._pubsub.get_message(timeout=PONG_SECONDS), PONG_SECONDS + 1)
        except Exception:
            await in_thread(self._endpoint.revive)
            raise

    async def listen(self) -> None:
        """Hands out messages until the connection breaks, which raises."""
        loop = asyncio.get_running_loop()
        pubsub = self._pubsub
        asked: float | None = None
        heard = loop.time()
        while not is_cancelled():
            message = await pubsub.get_message(timeout=self._runtime.routine(1.0))
            now = loop.time()
            if message is not None:
                heard, asked = now, None
                self._handle(message)
            elif asked is not None:
                if now - asked > PONG_SECONDS:
                    raise ConnectionError(f"no answer to a ping for {PONG_SECONDS:g} s")
            elif now - heard >= PING_SECONDS:
                await asyncio.wait_for(pubsub.ping(), PONG_SECONDS)
                asked = now

    def _handle(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode() if message["channel"] else ""
        if message["type"] == "message" and self.receive is not None:
            self.receive(channel, message["data"])
        elif message["type"] == "subscribe" and channel in self._unheard:
            self._unheard.discard(channel)
            if not self._unheard and self.connected is not None:
                self.connected()  # what was published before the server had the subscription was missed

    async def set_channels(self, channels: set[str]) -> None:
        gone, new = self._channels - channels, channels - self._channels
        self._channels = channels
        pubsub = self._pubsub
        if not self._ready or pubsub.connection is None or not pubsub.connection.is_connected:
            return  # the connect that is under way, or the next one, subscribes to all channels
        try:
            if new:
                self._unheard |= new
                await pubsub.subscribe(*new)
            if gone:
                await pubsub.unsubscribe(*gone)
        except OSError:
            return  # `listen` notices the broken connection, and the next connect subscribes
        except Exception as error:
            from redis.exceptions import RedisError

            if not isinstance(error, RedisError):
                raise

    async def disconnect(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        stream, self._stream = self._stream, None
        self._ready = False
        if pubsub is not None:
            if stream is not None:
                stream.abort()
            await pubsub.aclose()
            await pubsub.connection_pool.disconnect()
            await aclose_pool(pubsub.connection_pool)
