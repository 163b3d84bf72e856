"""The start-up checks on real servers."""

from __future__ import annotations

import json
import queue
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from interval_scheduler import InvalidOptions, Retry, Scheduler
from interval_scheduler.doctor import diagnose
from interval_scheduler.protocol.scripts import script
from interval_scheduler.support.runtime import Runtime
from tests.integration.conftest import storage
from tests.integration.diagnosis import Altered, as_redis_6_0, message, minutes_ahead, not_ok
from tests.keyspace import contents
from tests.servers import Binary, RedisServer
from tests.tasks import Job
from tests.unit.test_doctor import Lines
from tests.unit.test_lua_headers import LUA
from tests.waiting import wait_until

# -- servers -----------------------------------------------------------------------------------------------------------


def test_a_healthy_server_is_left_as_it_was(server: RedisServer, admin: Any) -> None:
    findings = diagnose(server.url)
    assert not_ok(findings) == []
    assert {finding.check for finding in findings} == {
        *("reachable", "version", "role", "eviction", "persistence", "memory"),
        *("rights", "scripts", "hints", "clock", "topology", "zones"),
    }
    assert "is new" in next(finding.message for finding in findings if finding.check == "topology")
    assert admin.keys() == []


def test_every_script_is_run(server: RedisServer, admin: Any) -> None:
    diagnose(server.url)
    names = [path.stem for path in LUA.glob("*.lua")]
    known = admin.script_exists(*(script(name).sha for name in names))
    assert [name for name, exists in zip(names, known, strict=True) if not exists] == []


def test_a_server_that_is_down_does_not_hide_the_others(own_servers: list[RedisServer]) -> None:
    own_servers[1].kill()
    findings = diagnose({"storage": storage(own_servers)})
    assert [(f.instance, f.level, f.check) for f in findings if f.level != "ok"] == [("redis-1", "error", "reachable")]
    assert "firewall" in message(findings, "reachable")
    assert {f.instance for f in findings if f.check == "scripts"} == {"redis-0", "redis-2"}


@pytest.mark.parametrize("username", ["", "nobody"])
def test_a_missing_or_wrong_login(server: RedisServer, admin: Any, username: str) -> None:
    admin.config_set("requirepass", "secret")
    findings = diagnose(server.url.replace("//", f"//{username}:wrong@") if username else server.url)
    assert not_ok(findings) == [("error", "reachable")]
    assert "password" in message(findings, "reachable")
    assert len(findings) == 1


def test_eviction(server: RedisServer, admin: Any) -> None:
    """redbeat#291: eviction drops entries silently."""
    admin.config_set("maxmemory-policy", "allkeys-lru")
    assert not_ok(diagnose(server.url)) == [("warning", "eviction")]
    admin.config_set("maxmemory", "1gb")
    assert not_ok(diagnose(server.url)) == [("error", "eviction")]


def test_memory_that_is_nearly_or_quite_full(server: RedisServer, admin: Any) -> None:
    admin.config_set("maxmemory", int(admin.info("memory")["used_memory"] * 1.08))
    assert ("warning", "memory") in not_ok(diagnose(server.url))
    admin.config_set("maxmemory", "500kb")
    findings = diagnose(server.url)
    assert not_ok(findings) == [("warning", "memory"), ("error", "scripts")]
    assert "raise maxmemory" in message(findings, "scripts")
    assert admin.keys() == []


def test_persistence(server: RedisServer, admin: Any) -> None:
    admin.config_set("appendonly", "no")
    admin.config_resetstat()
    [finding] = [finding for finding in diagnose(server.url) if finding.check == "persistence"]
    if finding.level == "ok":  # switching AOF on at the start may count as a snapshot
        assert "snapshots only" in finding.message
    shutil.rmtree(server.folder)
    admin.bgsave()
    wait_until(lambda: not admin.info("persistence")["rdb_bgsave_in_progress"])
    findings = diagnose(server.url)
    assert ("error", "persistence") in not_ok(findings)
    assert "rdb_last_bgsave_status" in message(findings, "persistence")


def test_no_persistence(redis_servers: list[RedisServer]) -> None:
    findings = diagnose(redis_servers[0].url)
    assert not_ok(findings) == [("warning", "persistence")]


def test_a_replica(own_servers: list[RedisServer]) -> None:
    with redis.Redis.from_url(own_servers[0].url) as client:
        client.config_set("repl-diskless-sync-delay", 0)
    with redis.Redis.from_url(own_servers[1].url) as client:
        client.replicaof("127.0.0.1", str(own_servers[0].port))
        wait_until(lambda: client.info("replication")["master_link_status"] == "up")
    findings = diagnose({"storage": storage(own_servers[:2])})
    assert [(f.instance, f.level, f.check) for f in findings if f.level != "ok"] == [
        ("redis-1", "error", "role"),
        ("redis-1", "warning", "scripts"),
    ]
    assert "READONLY" in message(findings, "role")


class Shifted(Runtime):
    """A machine whose clock is wrong."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def time(self) -> float:
        return super().time() + self._seconds


@pytest.mark.parametrize(("seconds", "level"), [(0.5, "ok"), (-5.0, "warning"), (300.0, "error")])
def test_clock(server: RedisServer, admin: Any, seconds: float, level: str) -> None:
    findings = diagnose(server.url, runtime=Shifted(seconds))
    assert not_ok(findings) == ([] if level == "ok" else [(level, "clock")])
    [clock] = [finding.message for finding in findings if finding.check == "clock"]
    assert f"{abs(seconds):.1f}" in clock
    assert admin.keys() == []


def test_an_old_version_and_a_clock_apart_are_diagnosed(own_servers: list[RedisServer]) -> None:
    runtime = Altered(**{"redis-0": as_redis_6_0, "redis-1": minutes_ahead})
    findings = diagnose({"storage": storage(own_servers)}, runtime=runtime)
    assert [(f.instance, f.level, f.check) for f in findings if f.level != "ok"] == [
        ("redis-0", "error", "version"),
        ("redis-0", "warning", "scripts"),
        ("redis-1", "error", "clock"),
        ("redis-1", "error", "clock"),
    ]
    assert "that of this machine" in message(findings, "clock")
    assert "that of instance 'redis-" in message(findings, "clock")


def test_a_command_that_is_disabled(server_binary: Binary, tmp_path: Path) -> None:
    more = tmp_path / "more.conf"
    more.write_text('rename-command PEXPIRE ""\n')
    server = RedisServer(server_binary, {"include": str(more)})
    try:
        findings = diagnose(server.url)
        assert ("error", "rights") in not_ok(findings)
        assert "PEXPIRE" in message(findings, "rights")
        assert contents(server) == {}
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("claim", "claiming a task"),
        ("renew", "prolonging a lease"),
        ("settle", "settling a run"),
        ("purge", "purging dead letters"),
    ],
)
def test_a_step_that_fails_is_named_and_nothing_is_left(
    server: RedisServer, admin: Any, monkeypatch: pytest.MonkeyPatch, name: str, step: str
) -> None:
    """As behind a proxy that changes what it passes on."""
    from interval_scheduler.transport.blocking import BlockingTransport

    real = BlockingTransport.execute

    def execute(self: BlockingTransport, requests: Any) -> Any:
        replies = real(self, requests)
        return [[*reply[:2], 7] if r.script.name == name else reply for r, reply in zip(requests, replies, strict=True)]

    monkeypatch.setattr(BlockingTransport, "execute", execute)
    findings = diagnose(server.url)
    assert not_ok(findings) == [("error", "scripts")]
    assert f"{step} failed" in message(findings, "scripts")
    assert admin.keys() == []


def test_hints_that_do_not_arrive(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a proxy that does not pass pub/sub on."""
    monkeypatch.setattr("interval_scheduler.doctor.connection.Connection.hear", lambda *_: None)
    findings = diagnose(server.url)
    assert not_ok(findings) == [("warning", "hints")]


def test_an_embedded_and_a_memory_server(tmp_path: Path) -> None:
    findings = diagnose([f"embedded://{tmp_path}", "memory://doctor"])
    assert not_ok(findings) == [("warning", "persistence")]
    assert "tests and demos" in message(findings, "persistence")
    assert {f.instance for f in findings if f.check == "scripts"} == {f"embedded:{tmp_path}", "memory:doctor"}


def test_options_are_checked_first() -> None:
    with pytest.raises(InvalidOptions, match="partitions"):
        diagnose("redis://127.0.0.1:1", partitions=0)


# -- namespaces --------------------------------------------------------------------------------------------------------


def test_a_namespace_in_use_is_not_changed(own_servers: list[RedisServer]) -> None:
    options = {"storage": storage(own_servers)}

    def fail(payload: Any) -> None:
        raise RuntimeError(payload)

    with Scheduler(options, Lines()) as scheduler:
        buried: queue.SimpleQueue[Any] = queue.SimpleQueue()
        scheduler.on("task-dead", buried.put)
        scheduler.start_task_accept()
        scheduler.start_task_execute(fail)
        scheduler.assign_tasks(Job(str(n), time.time() + 1000 + n) for n in range(100))
        scheduler.assign_tasks([Job("dead"), Job("retried", retry=Retry(max_retries=9, backoff=1000))])
        assert scheduler.try_lock("lock") is not None
        buried.get(timeout=10)
    before = [contents(server) for server in own_servers]
    findings = diagnose(options)
    assert not_ok(findings) == []
    assert [finding.instance for finding in findings if finding.check == "name"] == ["redis-0", "redis-1", "redis-2"]
    assert "the options fit" in next(finding.message for finding in findings if finding.check == "topology")
    assert [contents(server) for server in own_servers] == before


def test_options_that_do_not_fit_the_namespace(own_servers: list[RedisServer]) -> None:
    with Scheduler({"storage": storage(own_servers), "partitions": 8}) as scheduler:
        scheduler.start_task_accept()
    assert "set partitions=8" in message(diagnose({"storage": storage(own_servers)}), "topology")

    swapped = storage([own_servers[0], own_servers[2], own_servers[1]])
    findings = diagnose({"storage": swapped, "partitions": 8})
    assert [(f.level, f.instance) for f in findings if f.check == "name"] == [
        ("ok", "redis-0"),
        ("error", "redis-1"),
        ("error", "redis-2"),
    ]
    assert "swapped" in message(findings, "name")
    assert "swapped" in message(findings, "topology")

    findings = diagnose({"storage": storage(own_servers, master_index=1), "partitions": 8})
    assert not_ok(findings) == [("error", "topology")]
    assert "set storage.master_index" in message(findings, "topology")

    missing = diagnose({"storage": storage(own_servers[:2]), "partitions": 8})
    assert "'redis-2'" in message(missing, "topology")

    with redis.Redis.from_url(own_servers[2].url) as client:
        client.flushall()
    assert "lost its data" in message(diagnose({"storage": storage(own_servers), "partitions": 8}), "topology")

    with redis.Redis.from_url(own_servers[0].url) as client:
        client.flushall()
    findings = diagnose({"storage": storage(own_servers), "partitions": 8})
    assert not_ok(findings) == [("error", "topology")]
    assert "lacks its topology" in message(findings, "topology")
    assert contents(own_servers[0]) == {}, "nothing was created"


def test_a_namespace_whose_creation_was_cut_short(server: RedisServer, admin: Any) -> None:
    with Scheduler(server.url) as scheduler:
        scheduler.start_task_accept()
    admin.hset("{interval-scheduler}:topology", "state", "creating")
    assert not_ok(diagnose(server.url)) == [("warning", "topology")]
    assert admin.hget("{interval-scheduler}:topology", "state") == "creating"


# -- the command -------------------------------------------------------------------------------------------------------


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "interval_scheduler", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_command_line(server: RedisServer, admin: Any) -> None:
    result = doctor("--url", f"one={server.url}", "--namespace", "shop", "--partitions", "4")
    assert result.returncode == 0, result.stdout + result.stderr
    first, *lines, empty, summary = result.stdout.splitlines()
    assert first == "one"
    assert empty == ""
    assert summary == f"{len(lines)} ok, 0 warnings, 0 errors"
    assert all(re.match(r"  OK       [a-z]{4,11} +\S", line) for line in lines)
    assert "namespace 'shop' is new: the first scheduler creates it, with 4 partitions" in lines[-1]

    admin.config_set("maxmemory-policy", "allkeys-lru")
    assert doctor("--url", server.url).returncode == 0, "a warning is no failure"
    admin.config_set("maxmemory", "1gb")
    result = doctor("--url", server.url, "--json")
    assert result.returncode == 1
    [error] = [finding for finding in json.loads(result.stdout) if finding["level"] == "error"]
    assert error["check"] == "eviction"
    assert error["instance"] == f"127.0.0.1:{server.port}/0"
    assert "deletes tasks" in error["message"]
    assert "noeviction" in error["fix"]

    result = doctor("--url", "http://x")
    assert result.returncode == 1
    assert "http" in result.stderr
    assert "Traceback" not in result.stderr
    assert doctor().returncode == 2


def test_command_line_on_servers_that_are_not_what_they_should_be(own_servers: list[RedisServer]) -> None:
    def urls(*order: int) -> list[str]:
        return [part for at, number in enumerate(order) for part in ("--url", f"redis-{at}={own_servers[number].url}")]

    with Scheduler({"storage": storage(own_servers)}) as scheduler:
        scheduler.start_task_accept()
    assert doctor(*urls(0, 1, 2)).returncode == 0

    result = doctor(*urls(0, 2, 1))
    assert result.returncode == 1
    assert "known as 'redis-2'" in result.stdout
    assert "addresses were not swapped" in result.stdout

    own_servers[1].kill()
    result = doctor(*urls(0, 1, 2))
    assert result.returncode == 1
    assert re.search(
        r"^redis-1\n  ERROR    reachable .*\n +fix: check that the server runs", result.stdout, re.MULTILINE
    )
    assert result.stdout.endswith("1 error\n")

    result = doctor("--url", "redis://no-such-host.invalid:6379/0", "--json")
    assert result.returncode == 1
    assert [(f["level"], f["check"]) for f in json.loads(result.stdout)] == [("error", "reachable")]


def test_command_line_help() -> None:
    result = doctor("--help")
    assert result.returncode == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    for word in ("eviction", "persistence", "rights", "exit code", "--json", "throw-away namespace"):
        assert word in result.stdout
