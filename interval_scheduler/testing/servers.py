"""Simulated instances: the real scripts on a Redis without a clock or a network of its own.

What executes the scripts is fakeredis or a real server; time, latency, notifications, crashes and lost writes are the
simulation's. Every command passes through `SimulatedServer.execute`, one after another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Protocol

from redis.exceptions import NoScriptError, ResponseError

from ..model.options import load_options
from ..protocol.commands import Command
from ..protocol.scripts import all_scripts
from ..transport.endpoint import Endpoint
from .kernel import Kernel

_NOW = re.compile(r"^-- ARGV\[(\d+)\] now ", re.MULTILINE)


_INFO = (
    b"run_id:%s-%d\r\nredis_version:7.0.0\r\nrole:master\r\n"
    b"maxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
)


@dataclass(frozen=True)
class KnownScript:
    """What the simulation has to know of a script: where it takes the time, and whether it may publish."""

    name: str
    source: str
    now: int | None
    publishes: bool


@cache
def known_scripts() -> dict[bytes, KnownScript]:
    """All scripts by their SHA."""
    folder = resources.files("interval_scheduler") / "lua"
    found = {}
    for script in all_scripts():
        now = _NOW.search((folder / f"{script.name}.lua").read_text(encoding="utf-8"))
        found[script.sha.encode()] = KnownScript(
            script.name, script.source, int(now[1]) if now else None, "PUBLISH" in script.source
        )
    return found


class Backend:
    """Where the scripts of one instance are executed: ``memory://…`` or the URL of a server that is ours alone."""

    def __init__(self, url: str) -> None:
        self._endpoint = Endpoint(load_options(url, {}, {}).instances[0])
        self._endpoint.open()
        pool = self._endpoint.connection_pool(asynchronous=False)
        self._connection = pool.make_connection()
        self._connection.connect()
        self._listener = pool.make_connection()
        self._listener.connect()
        self._channels: set[str] = set()
        self.call(b"FLUSHALL")

    def call(self, *args: Any) -> Any:
        """The reply, or the error in its place."""
        self._connection.send_command(*args)
        try:
            return self._connection.read_response(disable_decoding=True)
        except ResponseError as error:
            return error

    def listen(self, channels: set[str]) -> None:
        """From now on hears these channels, so that the scripts see somebody listen to them."""
        for verb, changed in (("SUBSCRIBE", channels - self._channels), ("UNSUBSCRIBE", self._channels - channels)):
            if changed:
                self._listener.send_command(verb, *sorted(changed))
                for _ in changed:
                    self._listener.read_response(disable_decoding=True)
        self._channels = channels

    def published(self) -> list[tuple[str, bytes]]:
        """What was published since the last call."""
        if not self._channels:
            return []
        messages: list[tuple[str, bytes]] = []
        self._listener.send_command("PING", check_health=False)
        while True:
            kind, *rest = self._listener.read_response(disable_decoding=True)
            if kind == b"pong":
                return messages
            if kind == b"message":
                messages.append((rest[0].decode(), rest[1]))

    def close(self) -> None:
        self._connection.disconnect()
        self._listener.disconnect()
        self._endpoint.close()


class Subscriber(Protocol):
    """Who listens to channels of a server."""

    channels: set[str]

    def receive(self, channel: str, message: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Executed:
    """One script that a server carried out. Times: `time` virtual seconds, `now_ms` by the server's clock."""

    time: float
    now_ms: int
    script: str
    keys: list[bytes]
    args: list[bytes]
    reply: Any


class SimulatedServer:
    """One instance. `clock` is how far its clock is ahead of the virtual time, in seconds."""

    def __init__(self, kernel: Kernel, name: str, backend: Backend, clock: float = 0.0) -> None:
        self.kernel = kernel
        self.name = name
        self.clock = clock
        self.up = True
        self.starts = 1
        self.executed: list[Executed] = []
        self.observer: Callable[[SimulatedServer, Executed], None] | None = None
        self.altered: dict[str, bytes] = {}
        """Scripts to execute in the place of the real ones, by name: to test that a broken one is noticed."""
        self._backend = backend
        self._journal: list[tuple[float, list[bytes]]] = []
        self._subscribers: list[Subscriber] = []
        self._connections: dict[Callable[[], None], None] = {}
        self._load_all()

    def _load_all(self) -> None:
        for known in known_scripts().values():
            self._backend.call(b"SCRIPT", b"LOAD", known.source)

    def now_ms(self) -> int:
        """The time of its clock, in ms."""
        return round((self.kernel.start + self.kernel.now + self.clock) * 1_000_000) // 1000

    def execute(self, args: list[bytes]) -> Any:
        """Carries out one command; returns the reply or the error in its place."""
        known = known_scripts().get(args[1]) if args[0] == b"EVALSHA" else None
        if args[0] == b"INFO":
            return _INFO % (self.name.encode(), self.starts)
        if known is None:
            return self._backend.call(*args)
        count = int(args[2])
        if known.now is not None and not args[2 + count + known.now]:
            args = [*args]
            args[2 + count + known.now] = b"%d" % self.now_ms()
        reply = self._call(known, args)
        if isinstance(reply, NoScriptError):
            return reply
        self._journal.append((self.kernel.now, args))
        entry = Executed(self.kernel.now, self.now_ms(), known.name, args[3 : 3 + count], args[3 + count :], reply)
        self.executed.append(entry)
        if self.observer is not None:
            self.observer(self, entry)
        if known.publishes:
            for channel, message in self._backend.published():
                for subscriber in tuple(self._subscribers):
                    if channel in subscriber.channels:
                        subscriber.receive(channel, message)
        return reply

    def _call(self, known: KnownScript, args: list[bytes]) -> Any:
        if known.name in self.altered:
            return self._backend.call(b"EVAL", self.altered[known.name], *args[2:])
        return self._backend.call(*args)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Takes a listener, or notices that its channels changed."""
        if subscriber not in self._subscribers:
            self._subscribers.append(subscriber)
        self._hear()

    def unsubscribe(self, subscriber: Subscriber) -> None:
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)
            self._hear()

    def _hear(self) -> None:
        self._backend.listen({channel for subscriber in self._subscribers for channel in subscriber.channels})

    def connected(self, broken: Callable[[], None]) -> None:
        """Takes a connection; `broken()` is called when it ends on this side."""
        self._connections[broken] = None

    def disconnected(self, broken: Callable[[], None]) -> None:
        self._connections.pop(broken, None)

    def stop(self) -> None:
        """It is gone, and every connection to it breaks."""
        self.up = False
        self.break_connections()

    def break_connections(self) -> None:
        """Hangs up on everybody."""
        connections, self._connections = self._connections, {}
        self._subscribers.clear()
        self._hear()
        for broken in connections:
            broken()

    def restart(self, lost_seconds: float = 0.0) -> int:
        """Back again, without the writes of the last seconds, and without scripts; how many commands were lost."""
        kept = [entry for entry in self._journal if entry[0] <= self.kernel.now - lost_seconds or not lost_seconds]
        lost = len(self._journal) - len(kept)
        if lost:
            self._backend.call(b"FLUSHALL")
            self._load_all()
            self._journal = kept
            for _, args in kept:
                self._call(known_scripts()[args[1]], args)
            self._backend.published()
        self.forget_scripts()
        self.up = True
        self.starts += 1
        return lost

    def forget_scripts(self) -> None:
        self._backend.call(b"SCRIPT", b"FLUSH")

    def ask(self, command: Command) -> Any:
        """The reply to a command of the test's own, outside the simulation."""
        return self._backend.call(b"EVAL", command.script.source, len(command.keys), *command.keys, *command.args)

    def read(self, *args: Any) -> Any:
        """A command of the test's own, outside the simulation."""
        return self._backend.call(*args)
