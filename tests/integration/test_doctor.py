"""The start-up checks on real servers, and the least rights, read from docs/acl.md so that it stays true."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from interval_scheduler import AsyncScheduler, InvalidOptions, Retry, Scheduler, current_execution
from interval_scheduler.doctor import SCRIPT_COMMANDS, Finding, diagnose
from interval_scheduler.scripts import script
from interval_scheduler.world import World
from tests.integration.conftest import storage
from tests.servers import Binary, RedisServer
from tests.tasks import Job, Uniform, eventually
from tests.unit.test_lua_headers import LUA

ACL = Path(__file__).parents[2] / "docs" / "acl.md"
[RULE] = [line.split() for line in re.findall(r"<!-- acl-rule -->\s+(ACL SETUSER .*)\n", ACL.read_text())]
USER, PASSWORD = RULE[2], next(part[1:] for part in RULE if part.startswith(">"))
RIGHTS = [part for part in RULE if part[0] in "+~&"]


@pytest.fixture
def server(server_binary: Binary) -> Iterator[RedisServer]:
    """A server to be configured at will, with AOF, so that a healthy one has nothing but good findings."""
    made = RedisServer(server_binary, {"appendonly": "yes", "appendfsync": "no"})
    yield made
    made.stop()


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


def not_ok(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.check) for finding in findings if finding.level != "ok"]


def message(findings: list[Finding], check: str) -> str:
    """What the worst findings of a check say."""
    return "\n".join(finding.message for finding in findings if finding.check == check and finding.level != "ok")


def contents(server: RedisServer) -> dict[bytes, bytes | None]:
    with redis.Redis.from_url(server.url) as client:
        return {key: client.dump(key) for key in client.scan_iter()}


# -- servers -----------------------------------------------------------------------------------------------------------


def test_a_healthy_server_is_left_as_it_was(server: RedisServer, admin: Any) -> None:
    findings = diagnose(server.url)
    assert not_ok(findings) == []
    assert {finding.check for finding in findings} == {
        *("reachable", "version", "role", "eviction", "persistence", "memory"),
        *("rights", "scripts", "hints", "clock", "topology"),
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
    while admin.info("persistence")["rdb_bgsave_in_progress"]:
        time.sleep(0.01)  # the end of a save cannot be awaited
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
        while client.info("replication")["master_link_status"] != "up":
            time.sleep(0.01)  # the end of a synchronisation cannot be awaited
    findings = diagnose({"storage": storage(own_servers[:2])})
    assert [(f.instance, f.level, f.check) for f in findings if f.level != "ok"] == [
        ("redis-1", "error", "role"),
        ("redis-1", "warning", "scripts"),
    ]
    assert "READONLY" in message(findings, "role")


class Shifted(World):
    """A machine whose clock is wrong."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def time(self) -> float:
        return super().time() + self._seconds


@pytest.mark.parametrize(("seconds", "level"), [(0.5, "ok"), (-5.0, "warning"), (300.0, "error")])
def test_clock(server: RedisServer, admin: Any, seconds: float, level: str) -> None:
    findings = diagnose(server.url, world=Shifted(seconds))
    assert not_ok(findings) == ([] if level == "ok" else [(level, "clock")])
    [clock] = [finding.message for finding in findings if finding.check == "clock"]
    assert f"{abs(seconds):.1f}" in clock
    assert admin.keys() == []


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


def test_a_step_that_fails_is_named_and_nothing_is_left(
    server: RedisServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a proxy that changes what it passes on."""
    from interval_scheduler.transport.blocking import BlockingTransport

    real = BlockingTransport.execute

    def execute(self: BlockingTransport, requests: Any) -> Any:
        replies = real(self, requests)
        return [
            [*reply[:2], 7] if r.script.name == "purge" else reply for r, reply in zip(requests, replies, strict=True)
        ]

    monkeypatch.setattr(BlockingTransport, "execute", execute)
    findings = diagnose(server.url)
    assert not_ok(findings) == [("error", "scripts")]
    assert "purging dead letters failed" in message(findings, "scripts")
    assert admin.keys() == []


def test_hints_that_do_not_arrive(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a proxy that does not pass pub/sub on."""
    monkeypatch.setattr("interval_scheduler.doctor._Line.hear", lambda *_: None)
    findings = diagnose(server.url)
    assert not_ok(findings) == [("warning", "hints")]


def test_an_embedded_and_a_memory_server(tmp_path: Path) -> None:
    assert not [f for f in diagnose([f"embedded://{tmp_path}", "memory://doctor"]) if f.level == "error"]


def test_options_are_checked_first() -> None:
    with pytest.raises(InvalidOptions, match="partitions"):
        diagnose("redis://127.0.0.1:1", partitions=0)


# -- namespaces --------------------------------------------------------------------------------------------------------


def test_a_namespace_in_use_is_not_changed(own_servers: list[RedisServer]) -> None:
    options = {"storage": storage(own_servers)}
    with Scheduler(options) as scheduler:
        scheduler.start_task_accept()
        scheduler.assign_tasks(Job(str(n), time.time() + 1000 + n) for n in range(100))
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
    *lines, empty, summary = result.stdout.splitlines()
    assert empty == ""
    assert summary == f"{len(lines)} ok, 0 warnings, 0 errors"
    assert all(re.match(r"OK       one  [a-z]+ +\S", line) for line in lines)
    assert "namespace 'shop' is new: the first scheduler creates it, with 4 partitions" in lines[-1]

    admin.config_set("maxmemory-policy", "allkeys-lru")
    assert doctor("--url", server.url).returncode == 0, "a warning is no failure"
    admin.config_set("maxmemory", "1gb")
    result = doctor("--url", server.url, "--json")
    assert result.returncode == 1
    [error] = [finding for finding in json.loads(result.stdout) if finding["level"] == "error"]
    assert error["check"] == "eviction"
    assert error["instance"] == f"127.0.0.1:{server.port}/0"
    assert "noeviction" in error["message"]

    result = doctor("--url", "http://x")
    assert result.returncode == 1
    assert "http" in result.stderr
    assert "Traceback" not in result.stderr
    assert doctor().returncode == 2


# -- the least rights --------------------------------------------------------------------------------------------------


@pytest.fixture
def user_url(server: RedisServer, admin: Any) -> str:
    """The server, as the user of docs/acl.md."""
    assert admin.execute_command(*RULE) == "OK"
    return server.url.replace("//", f"//{USER}:{PASSWORD}@")


def refusals(admin: Any) -> set[str]:
    """What ACL LOG tells, but for redis-py's CLIENT SETINFO, of which docs/acl.md speaks."""
    return {entry["object"] for entry in admin.acl_log(count=1000)} - {"client", "client|setinfo"}


def test_the_rule_has_what_is_tried_and_nothing_else() -> None:
    commands = {right[1:] for right in RIGHTS if right[0] == "+"}
    connection = {"ping", "info", "script|load", "evalsha", "subscribe", "unsubscribe", "acl|whoami"}
    assert commands == {command.lower() for command in SCRIPT_COMMANDS} | connection


@pytest.mark.parametrize("kind", [Scheduler, AsyncScheduler])
async def test_everything_runs_with_the_least_rights(user_url: str, admin: Any, kind: Any) -> None:
    runs: list[tuple[str, int]] = []
    tokens: list[int] = []

    async def handler(payload: Any) -> None:
        execution = current_execution()
        runs.append((payload, execution.attempt))
        tokens.append(execution.fencing_token)
        if payload == "slow":
            await asyncio.sleep(1)  # longer than a lease, which therefore must be renewed
        if payload == "dead" or (payload == "retried" and execution.attempt == 1):
            raise RuntimeError("asked to fail")

    made = [Uniform(kind(user_url, lease_seconds=0.6, check_tasks_every_seconds=60)) for _ in range(2)]
    scheduler, other = made
    lost: list[Any] = []
    for each in made:
        each.on("lease-lost", lost.append)
        each.on("error", lost.append)
        await each.start_task_accept()
        await each.start_task_execute(handler)  # two, so that they pass work on to each other
    try:
        await scheduler.set_concurrency(1)
        assert await scheduler.assign_task(Job("once"))
        result = await scheduler.assign_tasks(
            [
                *(Job("slow"), Job("dead"), Job("every", reschedule_interval=0.2)),
                Job("retried", retry=Retry(max_retries=1, backoff=0.05)),
                *(Job(name, time.time() + 1000) for name in ("later", "moved", "asked")),
            ]
        )
        assert result.created == 7
        assert await scheduler.reschedule_task("moved", delay=0.1)
        assert await scheduler.run_task_now("asked")
        wanted = {("once", 1), ("slow", 1), ("dead", 1), ("retried", 2), ("moved", 1), ("asked", 1), ("every", 1)}
        await eventually(lambda: wanted <= set(runs))
        await eventually(lambda: runs.count(("every", 1)) > 3)

        async def buried() -> bool:
            return [letter.id for letter in await scheduler.dead_tasks()] == ["dead"]

        await eventually(buried)
        assert (await scheduler.peek_task("dead")).state == "dead"
        assert await scheduler.retry_dead_tasks() == 1
        await eventually(lambda: runs.count(("dead", 1)) == 2)
        await eventually(buried)
        assert await scheduler.purge_dead_tasks() == 1
        assert {"later", "asked"} <= {task.id for task in await scheduler.upcoming()}
        assert await scheduler.is_scheduled("later")
        assert await scheduler.remove_task("later")
        assert await scheduler.task_size() >= 1
        assert await scheduler.queue_size() >= 1
        assert len((await scheduler.stats()).partitions) == 64
        lock, extended = await scheduler.try_lock_then_extend("lock", 5)
        assert extended
        assert await other.try_lock("lock") is None
        assert await scheduler.unlock(lock)
        assert await scheduler.try_auto_lock("auto", 5)
        for each in made:
            await each.stop_task_execute()
        await scheduler.start_task_execute(handler, confirm="manual")
        await scheduler.assign_task(Job("confirmed"))
        await eventually(lambda: ("confirmed", 1) in runs)
        assert await scheduler.confirm_task("confirmed", tokens[runs.index(("confirmed", 1))])
        await scheduler.stop_task_execute()
        assert await scheduler.clear_all_tasks() >= 1
    finally:
        for each in made:
            await each.close()
    assert not lost
    assert not not_ok(await asyncio.to_thread(diagnose, user_url))
    assert refusals(admin) == set()


def test_other_keys_and_channels_are_out_of_reach(user_url: str) -> None:
    with redis.Redis.from_url(user_url) as client:
        for name in ("other", "{interval-scheduler-2}:topology", "{interval-scheduler.x:0}:tasks"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.get(name)
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.publish(name, "")
        for command in ("KEYS *", "SCAN 0", "FLUSHALL", "CONFIG GET *", "SCRIPT FLUSH", "ACL LIST", "EVAL x 0"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split())


@pytest.mark.parametrize("right", RIGHTS)
def test_a_missing_right_is_named(server: RedisServer, admin: Any, right: str) -> None:
    admin.execute_command(*(part for part in RULE if part != right))
    url = server.url.replace("//", f"//{USER}:{PASSWORD}@")
    findings = diagnose(url)
    rights = [finding for finding in findings if finding.check == "rights"]
    level = "warning" if right == "+acl|whoami" else "error"
    assert [finding.level for finding in rights if finding.level != "ok"] == [level]
    text = message(findings, "rights")
    assert f"ACL SETUSER {USER} {right}" in text
    assert f" {right[1:].replace('|', ' ').upper() if right[0] == '+' else right[1:]}:" in text
    assert admin.keys() == []
    # What it says to do is all there is to do.
    fix = re.search(r"run (ACL SETUSER \S+ [^\s;]+)", text)
    assert fix is not None
    admin.execute_command(*fix[1].split())
    assert not_ok(diagnose(url)) == []


def test_several_missing_rights_are_all_named(server: RedisServer, admin: Any) -> None:
    gone = {"+zrank", "&{interval-scheduler}:*", "~{interval-scheduler:*}:*", "+publish"}
    admin.execute_command(*(part for part in RULE if part not in gone))
    findings = diagnose(server.url.replace("//", f"//{USER}:{PASSWORD}@"))
    named = {
        finding.message.split(f"ACL SETUSER {USER} ")[1].split()[0] for finding in findings if finding.level == "error"
    }
    assert named == gone


def test_a_pattern_for_some_partitions_only(server: RedisServer, admin: Any) -> None:
    admin.execute_command(*(p.replace("~{interval-scheduler:*}", "~{interval-scheduler:?}") for p in RULE))
    findings = diagnose(server.url.replace("//", f"//{USER}:{PASSWORD}@"))
    assert "~{interval-scheduler:*}:*" in message(findings, "rights")


def test_another_database(user_url: str, admin: Any) -> None:
    findings = diagnose(user_url.removesuffix("/0") + "/3")
    assert not_ok(findings) == [("error", "reachable")]
    assert "+select" in message(findings, "reachable")
    admin.execute_command("ACL", "SETUSER", USER, "+select")
    assert not_ok(diagnose(user_url.removesuffix("/0") + "/3")) == []
