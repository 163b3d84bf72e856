"""The clock of an instance jumps: it is told once, by every worker, and work goes on by that clock."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from interval_scheduler import AsyncScheduler, Event
from interval_scheduler.doctor import diagnose
from interval_scheduler.support.runtime import Runtime
from tests.clocks import ClockServer, clock_server
from tests.proxy import Proxy
from tests.servers import Binary, RedisServer
from tests.tasks import Job, after, eventually

HOUR = 3600.0


@pytest.fixture
def server(server_binary: Binary) -> Iterator[ClockServer]:
    made = clock_server(server_binary)
    yield made
    made.stop()


class ShiftedRuntime(Runtime):
    """A machine on which scripts are told a time that can be set, in the place of the clock of their server."""

    ahead = 0.0

    def script_now(self) -> str:
        return str(round((time.time() + self.ahead) * 1000))


class Watcher:
    """A worker on one instance, and what it tells of clocks."""

    def __init__(self, url: str, runtime: Runtime | None = None, ran: list[Any] | None = None) -> None:
        """`ran` takes the payloads of all runs, also of another watcher that shares the work."""
        self.events: list[Event] = []
        self.lines: list[str] = []
        self.ran: list[Any] = [] if ran is None else ran
        options = {
            "storage": {"instances": [{"url": url, "name": "redis-0"}], "reconnect_interval_seconds": 0.2},
            "partitions": 4,
            "check_tasks_every_seconds": 0.2,
            "namespace": "clocks",
        }
        self.scheduler = AsyncScheduler(options, self, runtime=runtime)
        self.scheduler.on("clock-jump", self.events.append)

    async def start(self) -> Watcher:
        await self.scheduler.start_task_accept()
        await self.scheduler.start_task_execute(self._handle)
        await self.scheduler.assign_task(Job("first"))
        await eventually(lambda: "first" in self.ran)
        return self

    async def _handle(self, payload: Any) -> None:
        self.ran.append(payload)

    async def looks(self, count: int = 3) -> None:
        """So many tasks are claimed one after another."""
        for number in range(count):
            await self.scheduler.assign_task(Job(f"look-{number}"))
            await eventually(lambda: self.ran[-1].startswith("look"))
            self.ran.pop()

    def told(self) -> list[tuple[float, str, bool]]:
        """Seconds, direction, and whether another server answers, of each jump."""
        return [
            (event.details["seconds"], event.details["direction"], event.details["new_server"]) for event in self.events
        ]

    def warning(self, line: str) -> None: ...

    def error(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
async def watchers() -> AsyncIterator[list[Watcher]]:
    made: list[Watcher] = []
    yield made
    for watcher in made:
        await watcher.scheduler.close()


async def test_a_jump_forward_makes_everything_due_and_is_told(server: ClockServer, watchers: list[Watcher]) -> None:
    """fault-clock-forward."""
    first = await Watcher(server.url).start()
    second = await Watcher(server.url, ran=first.ran).start()
    watchers += [first, second]
    await first.scheduler.assign_tasks([Job(f"{n}", after(HOUR)) for n in range(20)])
    await first.looks()
    assert not first.events + second.events
    server.set_ahead(2 * HOUR)
    await eventually(lambda: len(set(first.ran)) >= 21, 10)
    await eventually(lambda: first.events and second.events)
    for watcher in watchers:
        await watcher.looks()
        [(seconds, direction, new_server)] = watcher.told()
        assert abs(seconds - 2 * HOUR) < 1
        assert (direction, new_server) == ("forward", False)
        [line] = [line for line in watcher.lines if "clock" in line]
        assert "the clock of an instance jumped forward" in line
        assert "redis-0" in line
        assert "due now" in line
        assert "interval-scheduler doctor" in line


async def test_a_jump_back_makes_everything_late_and_is_told(server: ClockServer, watchers: list[Watcher]) -> None:
    """fault-clock-back."""
    server.set_ahead(HOUR)
    watchers.append(await Watcher(server.url).start())
    [watcher] = watchers
    await watcher.scheduler.assign_task(Job("later", after(HOUR + 1)))
    server.set_ahead(0)
    await eventually(lambda: watcher.events)
    [(seconds, direction, new_server)] = watcher.told()
    assert abs(seconds - HOUR) < 1
    assert (direction, new_server) == ("back", False)
    assert "later" not in watcher.ran
    server.set_ahead(HOUR + 2)
    await eventually(lambda: "later" in watcher.ran)
    assert [told[1] for told in watcher.told()] == ["back", "forward"], "each jump is told once"


async def test_a_server_that_stands_still_has_not_jumped(server: ClockServer, watchers: list[Watcher]) -> None:
    watchers.append(await Watcher(server.url).start())
    server.pause()
    time.sleep(2.5)  # this process stands still too, which is what it looks like
    server.resume()
    await watchers[0].looks()
    assert watchers[0].events == []


async def test_another_server_with_another_clock(server_binary: Binary, watchers: list[Watcher]) -> None:
    """fault-clock-failover: the difference is told as what it is."""
    old = RedisServer(server_binary)
    new = clock_server(server_binary, 60.0)
    proxy = Proxy(old.port)
    try:
        watchers.append(await Watcher(f"redis://127.0.0.1:{proxy.port}").start())
        [watcher] = watchers
        with redis.Redis.from_url(new.url, decode_responses=True) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(old.port))
            await eventually(lambda: client.info("replication")["master_link_status"] == "up")
            client.execute_command("REPLICAOF", "NO", "ONE")
        proxy.retarget(new.port)
        old.kill()
        await eventually(lambda: watcher.events)
        [(seconds, direction, new_server)] = watcher.told()
        assert abs(seconds - 60) < 1
        assert (direction, new_server) == ("forward", True)
        [line] = [line for line in watcher.lines if "clock" in line]
        assert "another server answers" in line
        assert "ahead of the one before" in line
    finally:
        proxy.stop()
        old.stop()
        new.stop()


async def test_another_server_with_the_same_clock(server_binary: Binary, watchers: list[Watcher]) -> None:
    server = RedisServer(server_binary, {"appendonly": "yes", "appendfsync": "always"})
    watchers.append(await Watcher(server.url).start())
    server.restart()
    await eventually(lambda: _answers(watchers[0]), 20)
    assert watchers[0].events == []
    server.stop()


async def _answers(watcher: Watcher) -> bool:
    try:
        await watcher.looks()
    except Exception:
        return False
    return True


async def test_it_is_told_too_where_no_clock_can_be_set(redis_servers: list[RedisServer], namespace: str) -> None:
    """The same on any machine, by the time that scripts are told."""
    runtime = ShiftedRuntime()
    watcher = Watcher(redis_servers[0].url, runtime)
    try:
        await watcher.start()
        await watcher.scheduler.assign_task(Job("later", after(HOUR)))
        runtime.ahead = HOUR + 10
        await eventually(lambda: "later" in watcher.ran)
        [(seconds, direction, _)] = watcher.told()
        assert abs(seconds - HOUR - 10) < 1
        assert direction == "forward"
    finally:
        await watcher.scheduler.close()
        with redis.Redis.from_url(redis_servers[0].url) as client:
            for key in client.scan_iter(match="{clocks*"):
                client.delete(key)


def test_the_doctor_tells_whose_clock_differs(server: ClockServer, redis_servers: list[RedisServer]) -> None:
    urls = {"redis-0": redis_servers[0].url, "redis-1": server.url}
    options = {"storage": {"instances": [{"name": name, "url": url} for name, url in urls.items()]}, "namespace": "new"}
    for ahead, level in ((0.0, "ok"), (30.0, "warning"), (-HOUR, "error")):
        server.set_ahead(ahead)
        findings = [finding for finding in diagnose(options) if finding.check == "clock"]
        assert {finding.level for finding in findings if finding.instance == "redis-1"} == {level}
        messages = " ".join(finding.message for finding in findings if finding.level != "ok")
        assert not ahead or "that of this machine" in messages
        assert not ahead or "that of instance" in messages
