"""Hints: what other processes publish when a task becomes due before the time that workers wait for.

A hint is only a hint: a lost one costs at most the time until the next look at all partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..model.times import MAX_MS
from ..protocol import keys
from ..servers.monitor import Monitor
from .claimer import Claimer
from .context import Context
from .roster import Roster


class Hints:
    """Listens on all instances for one worker, and wakes its claimers."""

    def __init__(self, context: Context, monitor: Monitor, roster: Roster, claimers: Mapping[str, Claimer]) -> None:
        self._context = context
        self._layout = context.layout
        self._monitor = monitor
        self._roster = roster
        self._claimers = claimers

    async def subscribe(self) -> None:
        """Listens to the channels that this worker's ranks give it, and to no others."""
        namespace = self._layout.namespace
        for instance, claimer in self._claimers.items():
            channels = {keys.any_hint_channel(namespace), keys.worker_channel(namespace, self._context.worker_id)}
            connected = claimer.look_soon
            if instance == self._layout.master:
                channels.add(keys.workers(namespace))
                connected = self._look_around
            # The first in line for a partition hears its hints, and the second one, who stands in.
            channels |= {
                keys.hint_channel(namespace, partition.number)
                for partition in self._layout.of_instance(instance)
                if self._roster.rank(partition.number) <= 1
            }
            await self._monitor.subscribe(instance, channels, self._receiver(claimer), connected)

    async def unsubscribe(self) -> None:
        """Listens to nothing any more."""
        for instance in self._claimers:
            await self._monitor.subscribe(instance, (), _ignore_message, _ignore_reconnect)

    def _look_around(self) -> None:
        """Hints of the master instance may have been missed, and news of other workers."""
        self._claimers[self._layout.master].look_soon()
        self._roster.news()

    def _receiver(self, claimer: Claimer) -> Callable[[str, bytes], None]:
        news = keys.workers(self._layout.namespace)

        def receive(channel: str, message: bytes) -> None:
            if channel == news:
                self._roster.news()
                return
            first, _, second = message.partition(b" ")
            try:
                partition = int(first) if second else keys.partition_of_hint(channel)
                due_ms = int(second or first)
                if not 0 <= due_ms <= MAX_MS:
                    raise ValueError("no time")
            except ValueError:
                # Anybody may publish here. What is due is found without hints too.
                self._context.log.write("debug", "a hint cannot be read", channel=channel, hint=message[:80])
                return
            claimer.hint(partition, due_ms)

        return receive

    def ranks_changed(self) -> None:
        """Who wakes first for which partition may have changed, and with that the channels to listen to."""
        if not self._context.stopping:
            self._context.start(self.subscribe())
            for claimer in self._claimers.values():
                claimer.look_soon()


def _ignore_message(_channel: str, _message: bytes) -> None:
    """A worker that stops needs no hints."""


def _ignore_reconnect() -> None:
    """A worker that stops misses nothing while it is not connected."""
