"""Servers, workers and producers of one chaos run, as real processes, and what can be measured of them."""

from __future__ import annotations

import json
import os
import random
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from interval_scheduler import Scheduler
from interval_scheduler.testing.history import Stop
from tests.chaos.journal import Observed, Reader
from tests.proxy import Proxy
from tests.servers import Binary, RedisServer, _die_with_parent
from tests.waiting import comes_true

LEASE_SECONDS = 2.0
ALWAYS = {"appendonly": "yes", "appendfsync": "always"}
AT_ONCE = {"repl-diskless-sync-delay": "0"}
"""For a primary: it waits for no second replica before it sends its data to the first one."""
CLIENT_COMMANDS = frozenset(
    {"evalsha", "eval", "script", "script|load", "subscribe", "unsubscribe", "ping", "hello", "select", "auth", "info"}
    | {"client|setinfo", "client|setname"}
)
"""What the library sends; what its scripts do inside is counted by the servers too, and left out here."""


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far; 0 where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Child:
    """A worker or producer process."""

    def __init__(self, module: str, name: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        self.kind: str = settings.get("kind", "producer")
        self._errors = Path(settings["journal"]).with_suffix(".log")
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"tests.chaos.{module}", json.dumps(settings)],
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).parents[2],
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def await_ready(self, seconds: float = 15.0) -> None:
        """Waits for the line that says that it works."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        if not ready or self._process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{self.name} did not become ready: {self.errors}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def await_end(self, seconds: float) -> None:
        """Waits until it has ended by itself, without an error."""
        code = self._process.wait(seconds)
        if code:
            raise RuntimeError(f"{self.name} ended with code {code}: {self.errors}")

    def expect_alive(self) -> None:
        """Fails where it ended by itself."""
        if not self.alive:
            raise RuntimeError(f"{self.name} ended with code {self._process.returncode}: {self.errors}")

    @property
    def errors(self) -> str:
        """The end of what it wrote to its log."""
        return self._errors.read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """SIGKILL, also to a stopped process; it is gone when this returns."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def cpu_seconds(self) -> float:
        """Processor time so far, of all its threads."""
        return cpu_seconds(self.pid)

    def rss_bytes(self) -> int:
        """Memory in use."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class CommandCounter:
    """Counts what clients sent to servers, over restarts."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self.total = 0

    def sample(self, servers: list[RedisServer]) -> None:
        """Adds what came since the last sample; a server that does not answer is counted the next time."""
        for server in servers:
            try:
                with admin(server) as client:
                    stats: dict[str, Any] = client.info("commandstats")
            except redis.RedisError:
                continue
            # "cmdstat_evalsha"; 7.0 splits subcommands off, "cmdstat_script|load".
            count = sum(
                entry["calls"] for name, entry in stats.items() if name.removeprefix("cmdstat_") in CLIENT_COMMANDS
            )
            last = self._last.get(server.port, count if not self._last else 0)
            self.total += count - last if count >= last else count
            self._last[server.port] = count


def admin(server: RedisServer) -> redis.Redis:
    """A client for the hand of the test, past any proxy."""
    return redis.Redis.from_url(server.url, decode_responses=True, socket_timeout=1.0, socket_connect_timeout=1.0)


class Stage:
    """Everything that one run needs; `close` ends it all, by pid."""

    def __init__(
        self,
        binary: Binary,
        *,
        seed: int = 0,
        proxied: bool = False,
        replicated: bool = False,
        server_options: Mapping[str, str] = ALWAYS,
        target: int = 0,
        instances: int = 2,
        **options: Any,
    ) -> None:
        """`target` is the number of the instance that suffers (0 is the master), `proxied` whether it is behind a
        proxy, `replicated` whether it has a replica, the `spare`; `options` go to the schedulers."""
        self.random = random.Random(seed)
        self.folder = Path(tempfile.mkdtemp(prefix="interval-scheduler-chaos-"))
        self.servers: list[RedisServer] = []
        self._retired: list[RedisServer] = []
        self._spare: RedisServer | None = None
        self.proxy: Proxy | None = None
        self.workers: list[Child] = []
        self.producers: list[Child] = []
        self.commands = CommandCounter()
        self._children: list[Child] = []
        self._reader = Reader(self.folder)
        self._target = target
        try:
            for _ in range(instances):
                self.servers.append(RedisServer(binary, {**server_options, **AT_ONCE}))
            urls = [server.url for server in self.servers]
            if replicated:
                self._spare = RedisServer(binary, server_options)
                self._replicate()
            if proxied:
                self.proxy = Proxy(self.target.port)
                urls[target] = self.proxy.url
        except BaseException:
            self.close()
            raise
        self._more = options
        self.options = self._options(urls)

    _namespace: str = ""

    def _replicate(self) -> None:
        with admin(self.spare) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(self.target.port))
            assert comes_true(lambda: client.info("replication")["master_link_status"] == "up", 15), "no replication"

    def _options(self, urls: list[str]) -> dict[str, Any]:
        self._namespace = self._namespace or f"chaos-{secrets.token_hex(4)}"
        return {
            "namespace": self._namespace,
            "partitions": 12,
            "concurrency": 20,
            "lease_seconds": LEASE_SECONDS,
            "check_tasks_every_seconds": 0.5,
            "storage": {
                "instances": [{"url": url, "name": f"redis-{number}"} for number, url in enumerate(urls)],
                "reconnect_interval_seconds": 0.5,
            },
            **self._more,
        }

    @property
    def target(self) -> RedisServer:
        """The server that suffers."""
        return self.servers[self._target]

    @property
    def spare(self) -> RedisServer:
        """The replica of the server that suffers."""
        assert self._spare is not None
        return self._spare

    def promote(self) -> RedisServer:
        """The spare takes the place of the target, and is returned."""
        self._retired.append(self.target)
        self.servers[self._target] = self.spare
        return self.target

    @property
    def lease(self) -> float:
        seconds: float = self.options["lease_seconds"]
        return seconds

    def start_worker(self, kind: str, module: str = "worker") -> Child:
        """Starts a worker of a kind, "plain" or "coroutine"; it is not ready yet."""
        child = self._start(module, "worker", kind=kind)
        self.workers.append(child)
        return child

    def start_producer(self, spread: float, pace: float) -> Child:
        """Starts a producer; it is not ready yet."""
        child = self._start("producer", "producer", spread=spread, pace=pace, seed=self.random.random())
        self.producers.append(child)
        return child

    def _start(self, module: str, prefix: str, **settings: Any) -> Child:
        name = f"{prefix}-{len(self._children)}"
        settings |= {"options": self.options, "name": name, "journal": str(self.folder / f"{name}.jsonl")}
        child = Child(module, name, settings)
        self._children.append(child)
        return child

    def scheduler(self) -> Scheduler:
        """A scheduler of this process, past any proxy."""
        return Scheduler(self._options([server.url for server in self.servers]))

    def kill(self, child: Child) -> None:
        """SIGKILL; the time is noted."""
        at = time.time()
        child.kill()
        self._reader.observed.stops.append(Stop(str(child.pid), at))
        for group in (self.workers, self.producers):
            if child in group:
                group.remove(child)

    def stood_still(self, child: Child, since: float, until: float) -> None:
        """Notes that a process was stopped from `since` to `until`."""
        self._reader.observed.stops.append(Stop(str(child.pid), since, until))

    def read(self) -> Observed:
        """Everything that was noted so far."""
        return self._reader.read()

    def stop_producers(self, seconds: float = 12.0) -> None:
        """Lets producers finish their calls and end."""
        for child in self.producers:
            child.send(signal.SIGTERM)
        for child in self.producers:
            child.await_end(seconds)

    def expect_workers(self) -> None:
        """Fails where a worker ended that nobody killed."""
        for child in self.workers:
            child.expect_alive()

    def close(self) -> None:
        """Ends all processes, by their pid, and deletes what they wrote."""
        for child in self._children:
            child.kill()
        if self.proxy is not None:
            self.proxy.stop()
        for server in {*self.servers, *self._retired, *([self._spare] if self._spare else [])}:
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
