"""The rule of docs/acl.md, read from there so that it stays true: all that is needed, and nothing more."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
import redis

from interval_scheduler import AsyncScheduler, Retry, Scheduler, current_execution
from interval_scheduler.doctor import diagnose
from tests.integration.diagnosis import message, not_ok
from tests.servers import RedisServer
from tests.tasks import Job, Uniform, eventually
from tests.unit.test_doctor import ACL, Lines

[RULE] = [line.split() for line in re.findall(r"<!-- acl-rule -->\s+(ACL SETUSER .*)\n", ACL.read_text())]
USER, PASSWORD = RULE[2], next(part[1:] for part in RULE if part.startswith(">"))
RIGHTS = [part for part in RULE if part[0] in "+~&"]


@pytest.fixture
def user_url(server: RedisServer, admin: Any) -> str:
    """The server, as the user of docs/acl.md."""
    assert admin.execute_command(*RULE) == "OK"
    return server.url.replace("//", f"//{USER}:{PASSWORD}@")


def refusals(admin: Any) -> set[str]:
    """What ACL LOG tells, but for redis-py's CLIENT SETINFO, of which docs/acl.md speaks."""
    return {entry["object"] for entry in admin.acl_log(count=1000)} - {"client", "client|setinfo"}


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


@pytest.mark.parametrize("kind", [Scheduler, AsyncScheduler])
async def test_a_user_without_info_works_with_a_warning(server: RedisServer, admin: Any, kind: Any) -> None:
    admin.execute_command(*(part for part in RULE if part != "+info"))
    logger = Lines()
    done: list[Any] = []
    scheduler = Uniform(kind(server.url.replace("//", f"//{USER}:{PASSWORD}@"), logger, evicting_servers="refuse"))
    try:
        await scheduler.start_task_accept()
        await scheduler.start_task_execute(done.append)
        await scheduler.assign_task(Job("one"))
        await eventually(lambda: done == ["one"])
    finally:
        await scheduler.close()
    assert logger.checks == [("warning", f"127.0.0.1:{server.port}/0", "info")]
    assert "+info" in logger.lines[0][2]["fix"]


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
    level = "warning" if right in ("+acl|whoami", "+info") else "error"
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
        finding.fix.split(f"ACL SETUSER {USER} ")[1].split()[0] for finding in findings if finding.level == "error"
    }
    assert named == gone


def test_a_pattern_for_some_partitions_only(server: RedisServer, admin: Any) -> None:
    some = ["~{interval-scheduler:?}:*", "~{interval-scheduler:doctor-*}:*"]
    admin.execute_command(*(p for p in RULE if p != "~{interval-scheduler:*}:*"), *some)
    findings = diagnose(server.url.replace("//", f"//{USER}:{PASSWORD}@"))
    assert "~{interval-scheduler:*}:*" in message(findings, "rights")


def test_another_database(user_url: str, admin: Any) -> None:
    findings = diagnose(user_url.removesuffix("/0") + "/3")
    assert not_ok(findings) == [("error", "reachable")]
    assert "+select" in message(findings, "reachable")
    admin.execute_command("ACL", "SETUSER", USER, "+select")
    assert not_ok(diagnose(user_url.removesuffix("/0") + "/3")) == []
