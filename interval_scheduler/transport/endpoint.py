"""Where an instance is reached, and the settings of redis-py's connections to it.

redis-py 8 repeats commands by itself and cuts reads at 5 s. A repeated script would be a second claim. So every such
setting is explicit here: no retries (only our transports retry, and only what is safe), every wait has a deadline,
RESP2, no decoding.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from functools import partial
from typing import Any, Protocol

from ..model.errors import EmbeddedServerError, InvalidOptions, PartitionUnavailable
from ..model.instances import Instance
from ..model.tls import TLS_OPTIONS
from ..protocol.commands import Command, Reply
from ..support.forks import Lock, held_back
from .failures import connection_failed
from .remedies import login_remedy

CONNECT_SECONDS = 2.0
"""Longest time to open a connection."""
ANSWER_SECONDS = 5.0
"""Longest time to an answer. Scripts take milliseconds, so a connection that is silent for longer is given up."""

_LOOK_SECONDS = 5.0
"""How long the outcome of a closer look at a server that hangs up holds."""

_memory_servers: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_memory_users: Counter[str] = Counter()
"""How many endpoints have opened each of them and not closed it."""
_memory_lock = Lock()


class LossDetector(Protocol):
    """What learns from every connection and reply whether a server lost writes: `servers.data_loss`."""

    def connect(self, instance: str, run_id: str) -> Command | None:
        """A new connection leads to this start of the server. Returns what must be sent on it first, if anything."""

    def run_id(self, instance: str) -> str:
        """Which start of the server the last new connection led to; "" where that is not known."""

    def take_handshake(self, command: Command, reply: Reply) -> None:
        """Takes the reply to that."""

    def learn_writes(self, meta: object, run_id: str, writes: int) -> None:
        """A script wrote to the partition of `meta`, which has been written to so many times since it was created."""

    def learn_absence(self, meta: object) -> None:
        """A script did not find the partition of `meta`."""

    def learn_token(self, partition: int, token: int) -> None:
        """A claim gave out a fencing token."""


class Inspection(Protocol):
    """What judges how a server is set up: `servers.inspection`."""

    def examine(self, instance: str, info: object) -> None:
        """Takes the reply to ``INFO`` on a new connection.

        Raises:
            UnsuitableServer: where the connection must not be used.
        """


class Endpoint:
    """One instance, made reachable: an embedded server runs from `open` to `close`."""

    def __init__(self, instance: Instance) -> None:
        self.name = instance.name
        self.loss_detector: LossDetector | None = None
        self.inspection: Inspection | None = None
        self._instance = instance
        self._server: Any = None
        self.has_worked = False
        """Whether a connection was ever opened."""
        self._looked = ("", 0.0)
        """What the last closer look found, and until when that holds."""

    def open(self) -> None:
        """Starts what has to be started. Blocks; does nothing the second time.

        Raises:
            EmbeddedServerError: where a private server cannot be started.
            InvalidOptions: where fakeredis is missing.
        """
        if self._server is not None:
            return
        if self._instance.kind == "embedded":
            with held_back:
                from .embedded import EmbeddedServer
            server = EmbeddedServer(self._instance.settings["path"])
            server.start()
            self._server = server
        elif self._instance.kind == "memory":
            self._server = _memory_server(self._instance.settings["name"])

    def revive(self) -> None:
        """Starts a private server again that was killed. Blocks."""
        if self._server is not None and self._instance.kind == "embedded":
            try:
                self._server.ensure_running()
            except EmbeddedServerError as error:
                raise PartitionUnavailable(self.name, str(error)) from error

    def failure(self, error: BaseException, *, patient: bool = False) -> PartitionUnavailable:
        """The error for a connection that could not be opened: an outage, or something to correct.

        Where the server was reached and then hung up or kept silent, it looks closer, at most every few seconds. That
        may block for a second, in which a lease can be lost. So once a connection has worked, only who is `patient`
        looks, and others are told what was found.
        """
        with held_back:  # imported here: what works need not load ssl
            from .probe import may_be_tls, sentinel_remedy, tls_remedy
        settings, look = self._instance.settings, None
        if type(error).__name__ == "MasterNotFoundError":  # redis-py has one for threads and one for event loops
            manager = self.connection_pool(asynchronous=False).sentinel_manager
            look = partial(sentinel_remedy, manager.sentinels, settings)
        elif "host" in settings and may_be_tls(error, settings):
            look = partial(tls_remedy, settings)
        fix = login_remedy(error, settings)
        if look is not None:
            fix, until = self._looked
            if time.monotonic() > until:
                fix = ""
            if time.monotonic() > until and (patient or not self.has_worked):
                fix = look()
                self._looked = fix, time.monotonic() + _LOOK_SECONDS
        return connection_failed(self.name, error, sent=False, connecting=True, fix=fix)

    def close(self) -> None:
        """Gives up a private server; the last user stops it, and what is in memory is gone. Blocks."""
        server, self._server = self._server, None
        if server is not None and self._instance.kind == "embedded":
            server.stop()
        elif server is not None and self._instance.kind == "memory":
            _give_up_memory_server(self._instance.settings["name"])

    def connection_pool(self, asynchronous: bool, answer_seconds: float = ANSWER_SECONDS) -> Any:
        """A connection pool of redis-py. The transports only use it to make connections."""
        import redis
        import redis.asyncio
        from redis.backoff import NoBackoff

        module: Any = redis.asyncio if asynchronous else redis
        retry_module: Any = redis.asyncio.retry if asynchronous else redis.retry
        settings: dict[str, Any] = {
            "protocol": 2,
            "decode_responses": False,
            "socket_timeout": answer_seconds,
            "socket_connect_timeout": min(CONNECT_SECONDS, answer_seconds),
            "retry": retry_module.Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "max_connections": 2**31,
        }
        given = dict(self._instance.settings)
        if self._instance.kind == "memory":
            import fakeredis

            kind = fakeredis.FakeAsyncRedisConnection if asynchronous else fakeredis.FakeRedisConnection
            return module.ConnectionPool(connection_class=kind, server=self._server, **settings)
        if self._instance.kind == "embedded":
            address = self._server.address
            given = (
                {"path": address.unix_socket} if address.unix_socket else {"host": address.host, "port": address.port}
            )
        elif self._instance.kind == "sentinel":
            return self._sentinel_pool(module, settings, given)
        tls = given.pop("ssl", False)
        settings |= given
        if "path" in given:
            kind = module.UnixDomainSocketConnection
        else:
            settings["socket_keepalive"] = True
            kind = module.SSLConnection if tls else module.Connection
        return module.ConnectionPool(connection_class=kind, **settings)

    def pubsub(self) -> Any:
        """A listening connection of redis-py, on a pool of its own."""
        with held_back:
            import redis.asyncio

            return redis.asyncio.Redis(connection_pool=self.connection_pool(asynchronous=True)).pubsub()

    def _sentinel_pool(self, module: Any, settings: dict[str, Any], given: dict[str, Any]) -> Any:
        import redis.asyncio.sentinel
        import redis.sentinel

        sentinel: Any = redis.asyncio.sentinel if module is redis.asyncio else redis.sentinel
        service, hosts = given.pop("service"), given.pop("sentinels")
        login = {
            name.removeprefix("sentinel_"): given.pop(name)
            for name in ("sentinel_username", "sentinel_password")
            if name in given
        }
        timeouts = {"socket_timeout": CONNECT_SECONDS, "socket_connect_timeout": CONNECT_SECONDS}
        of_tls = {name: given.pop(name) for name in TLS_OPTIONS & given.keys()}
        tls = {"ssl": True, **of_tls} if given.pop("sentinel_ssl", False) else {}
        if given.get("ssl"):
            given |= of_tls
        manager = sentinel.Sentinel(hosts, sentinel_kwargs={**login, **timeouts, **tls, "retry": settings["retry"]})
        return sentinel.SentinelConnectionPool(service, manager, **settings, **given)


def close_pool(pool: Any) -> None:
    """Closes what a blocking pool holds besides the connections it made: those to Sentinels."""
    for client in _sentinels(pool):
        client.close()


async def aclose_pool(pool: Any) -> None:
    """`close_pool` for asyncio."""
    for client in _sentinels(pool):
        await client.aclose()


def _sentinels(pool: Any) -> list[Any]:
    manager = getattr(pool, "sentinel_manager", None)
    return [] if manager is None else list(manager.sentinels)


def _memory_server(name: str) -> Any:
    """The fake server of a name: shared in this process until the last user has given it up, then forgotten."""
    try:
        with held_back:
            import fakeredis
    except ImportError as error:
        raise InvalidOptions(
            ["storage.instances: memory:// needs fakeredis: pip install 'interval-scheduler[memory]'"]
        ) from error
    with _memory_lock:
        server = _memory_servers.get(name)
        if server is None:
            server = _memory_servers[name] = fakeredis.FakeServer()
            _memory_users[name] = 0  # whoever had the one before was deleted without closing it
        _memory_users[name] += 1
        return server


def _give_up_memory_server(name: str) -> None:
    with _memory_lock:
        _memory_users[name] -= 1
        if _memory_users[name] <= 0:
            del _memory_users[name]
            # Not when its memory is freed: its connections refer to each other.
            _memory_servers.pop(name, None)
