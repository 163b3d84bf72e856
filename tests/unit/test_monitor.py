"""The listening connection: no channel is forgotten, whenever it is asked for."""

from __future__ import annotations

import asyncio
from typing import Any

from interval_scheduler.servers.monitor import _Listener
from interval_scheduler.support.runtime import Runtime


class SlowPubSub:
    """A subscription that takes as long as it is told to; the first one also makes the connection."""

    def __init__(self) -> None:
        self.connection: Any = None
        self.subscribed: set[str] = set()
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def subscribe(self, *channels: str) -> None:
        self.asked.set()
        await self.answer.wait()
        self.connection = type("Connection", (), {"is_connected": True})()
        self.subscribed |= set(channels)

    async def unsubscribe(self, *channels: str) -> None:
        self.subscribed -= set(channels)

    async def get_message(self, timeout: float) -> None:
        return None


class Endpoint:
    def __init__(self, pubsub: SlowPubSub) -> None:
        self._pubsub = pubsub

    def open(self) -> None: ...

    def pubsub(self) -> SlowPubSub:
        return self._pubsub


async def test_channels_asked_for_while_the_connection_is_made_are_heard() -> None:
    """A worker that started just then heard no hint until the next reconnect, and found its tasks seconds late."""
    pubsub = SlowPubSub()
    listener = _Listener(Endpoint(pubsub), "base", Runtime())  # type: ignore[arg-type]
    connecting = asyncio.create_task(listener.connect())
    await pubsub.asked.wait()
    await listener.set_channels({"hints", "mine"})
    pubsub.answer.set()
    await connecting
    assert pubsub.subscribed == {"base", "hints", "mine"}
    assert listener._unheard == {"hints", "mine"}, "their confirmation makes the worker look"
    await listener.set_channels({"mine", "more"})
    assert pubsub.subscribed == {"base", "mine", "more"}
