"""What can go wrong, each a small class that brings it about and heals it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import redis

from tests.chaos.stage import ALWAYS, Child, Stage, admin
from tests.proxy import Direction

NOBODY = 1
"""A port on which nothing listens."""


class Fault:
    """One fault. `inject`, then `again` every tenth of a second for `seconds`, then `heal`."""

    name: ClassVar[str]
    seconds: ClassVar[float] = 2.0
    serves: ClassVar[bool] = False
    """Whether due work goes on during the fault, so that lateness counts from its beginning."""
    lapses: ClassVar[bool] = False
    """Whether runs may be out of touch with their server for longer than a lease, and so may be repeated."""
    kills: ClassVar[bool] = False
    """Whether work has to wait for the lease of a worker that is gone."""
    loses: ClassVar[float] = 0.0
    """Seconds before the fault whose acknowledged writes may be lost."""
    proxied: ClassVar[bool] = False
    server_options: ClassVar[Mapping[str, str]] = ALWAYS

    def limit(self, lease: float) -> float:
        """The longest recovery in seconds, with a second of slack for measuring: lease + 1 after a death, else 2."""
        return (lease + 1 if self.kills else 2) + 1

    def prepare(self, stage: Stage) -> None:
        """Called when the fault is near (a second before)."""

    def inject(self, stage: Stage) -> None:
        """Brings the fault about."""
        raise AssertionError(f"{self.name} does nothing")

    def again(self, stage: Stage) -> None:
        """Repeats it, where it is one of repetition."""

    def heal(self, stage: Stage) -> None:
        """Makes everything as before."""


class WorkerKilled(Fault):
    """SIGKILL of one worker; another is started after two seconds."""

    name = "worker SIGKILL"
    kills = True
    serves = True
    _kind = ""

    def inject(self, stage: Stage) -> None:
        victim = stage.random.choice(stage.workers)
        self._kind = victim.kind
        stage.kill(victim)

    def heal(self, stage: Stage) -> None:
        stage.start_worker(self._kind).await_ready()


class WorkerStopped(Fault):
    """SIGSTOP of one worker for longer than its leases, then SIGCONT."""

    name = "worker SIGSTOP"
    kills = True
    serves = True
    seconds = 3.5
    _victim: Child
    _since = 0.0

    def inject(self, stage: Stage) -> None:
        self._victim = stage.random.choice(stage.workers)
        self._since = time.time()
        self._victim.send(signal.SIGSTOP)

    def heal(self, stage: Stage) -> None:
        stage.stood_still(self._victim, self._since, time.time())
        self._victim.send(signal.SIGCONT)


class ProducerKilled(Fault):
    """SIGKILL of one producer in the middle of its calls."""

    name = "producer SIGKILL"
    serves = True
    seconds = 0.5

    def inject(self, stage: Stage) -> None:
        stage.kill(stage.random.choice(stage.producers))


class ServerKilled(Fault):
    """SIGKILL of a server, restarted on its data a second later."""

    name = "server SIGKILL"
    seconds = 1.0
    lapses = True

    def inject(self, stage: Stage) -> None:
        stage.target.kill()

    def heal(self, stage: Stage) -> None:
        stage.target.restart()


class ServerStopped(Fault):
    """SIGSTOP of a server for six seconds: connections stay open and nothing answers."""

    name = "server SIGSTOP"
    seconds = 6.0
    lapses = True

    def inject(self, stage: Stage) -> None:
        stage.target.pause()

    def heal(self, stage: Stage) -> None:
        stage.target.resume()


class ScriptsFlushed(Fault):
    """SCRIPT FLUSH ten times a second, on all servers."""

    name = "SCRIPT FLUSH"
    serves = True

    def inject(self, stage: Stage) -> None:
        for server in stage.servers:
            with admin(server) as client:
                client.script_flush()

    def again(self, stage: Stage) -> None:
        self.inject(stage)


class ClientsKilled(Fault):
    """CLIENT KILL of one type of connection, ten times a second, on all servers."""

    serves = True
    _type: ClassVar[str]

    def inject(self, stage: Stage) -> None:
        for server in stage.servers:
            with admin(server) as client:
                client.client_kill_filter(_type=self._type, skipme=True)

    def again(self, stage: Stage) -> None:
        self.inject(stage)


class CommandsKilled(ClientsKilled):
    """Connections that carry commands."""

    name = "CLIENT KILL normal"
    _type = "normal"


class ListenersKilled(ClientsKilled):
    """Connections that carry hints."""

    name = "CLIENT KILL pubsub"
    _type = "pubsub"


class ReadOnly(Fault):
    """The server becomes a read-only replica, of nobody, so that it keeps its data."""

    name = "READONLY replica"
    seconds = 3.0
    lapses = True

    def inject(self, stage: Stage) -> None:
        with admin(stage.target) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(NOBODY))

    def heal(self, stage: Stage) -> None:
        with admin(stage.target) as client:
            client.execute_command("REPLICAOF", "NO", "ONE")


class MemoryFull(Fault):
    """The memory limit is what is in use: assigning fails, and what is due still runs."""

    name = "memory full"
    serves = True

    def inject(self, stage: Stage) -> None:
        with admin(stage.target) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", client.info("memory")["used_memory"])

    def heal(self, stage: Stage) -> None:
        with admin(stage.target) as client:
            client.config_set("maxmemory", 0)


class ProxyFault(Fault):
    """A fault of the network between the schedulers and one server."""

    proxied = True

    def heal(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.restore()


class NetworkSlow(ProxyFault):
    """Every answer takes 200 ms longer."""

    name = "proxy delays 200 ms"
    serves = True

    def inject(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.delay(0.2)


class NetworkCut(ProxyFault):
    """All connections are reset, ten times a second."""

    name = "proxy cuts all"
    serves = True

    def inject(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.cut()

    def again(self, stage: Stage) -> None:
        self.inject(stage)


class Swallowed(ProxyFault):
    """One direction vanishes silently for longer than a lease."""

    seconds = 3.0
    lapses = True
    _direction: ClassVar[Direction]

    def inject(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.swallow(self._direction)


class RequestsSwallowed(Swallowed):
    """What schedulers send never arrives."""

    name = "proxy swallows requests"
    _direction = "requests"


class AnswersSwallowed(Swallowed):
    """What schedulers send is carried out, and they never hear of it."""

    name = "proxy swallows answers"
    _direction = "answers"


class TailLost(Fault):
    """A crash with ``appendfsync everysec``: the last second or so of the AOF is gone, the rest ends in mid-command."""

    name = "AOF tail truncated"
    seconds = 1.0
    lapses = True
    loses = 2.0
    server_options: ClassVar[Mapping[str, str]] = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
    }
    _size = 0

    def prepare(self, stage: Stage) -> None:
        # Between two iterations of the server's loop, so this is where a command ends.
        self._size = _aof(stage).stat().st_size

    def inject(self, stage: Stage) -> None:
        stage.target.kill()
        path = _aof(stage)
        assert path.stat().st_size > self._size, "nothing was written, so nothing can be lost"
        with path.open("r+b") as file:
            file.truncate(self._size + 5)

    def heal(self, stage: Stage) -> None:
        stage.target.restart()
        with admin(stage.target) as client, contextlib.suppress(redis.RedisError):
            client.ping()


def _aof(stage: Stage) -> Path:
    """The file that the server appends to: one of several since 7.0."""
    folder = Path(stage.target.folder)
    return next(iter([*folder.glob("appendonlydir/*.incr.aof"), folder / "appendonly.aof"]))


FAULTS: tuple[type[Fault], ...] = (
    WorkerKilled,
    WorkerStopped,
    ProducerKilled,
    ServerKilled,
    ServerStopped,
    ScriptsFlushed,
    CommandsKilled,
    ListenersKilled,
    ReadOnly,
    MemoryFull,
    NetworkSlow,
    NetworkCut,
    RequestsSwallowed,
    AnswersSwallowed,
    TailLost,
)
