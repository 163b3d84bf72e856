"""fault-D6: what lasts until somebody corrects it is an error of its own, which says what to do, and is told once."""

from __future__ import annotations

import asyncio
import http.server
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from interval_scheduler import PartitionUnavailable, UnusableInstance
from interval_scheduler.doctor import diagnose
from tests.integration.conftest import scheduler_of
from tests.servers import Binary, RedisServer
from tests.tasks import Job, Recorder, Uniform, after, eventually

SECRET = "QXZJQXZJ"


class Lines:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Any:
        if level not in ("debug", "info", "warning", "error"):
            raise AttributeError(level)
        return lambda line, *_: self.lines.append((level, line))

    def of(self, level: str) -> list[str]:
        return [line for found, line in self.lines if found == level]


@pytest.fixture
def secured(server: RedisServer, admin: Any) -> RedisServer:
    """A server whose default user has a password, and a user "app" with another one."""
    admin.acl_setuser("app", enabled=True, passwords=[f"+{SECRET}"], commands=["+@all"], keys=["*"], channels=["*"])
    admin.config_set("requirepass", "admin")
    return server


@pytest.fixture
def http_port() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found.server_port
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def without_auth(server_binary: Binary, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that does not know AUTH, and so repeats what it was sent."""
    (tmp_path / "more.conf").write_text('rename-command AUTH ""\n')
    found = RedisServer(server_binary, {"include": str(tmp_path / "more.conf")})
    yield found
    found.stop()


WRONG = [
    (f"redis://:{SECRET}@127.0.0.1:PORT", "correct the username and the password"),
    (f"redis://app:no{SECRET}@127.0.0.1:PORT", "correct the username and the password"),
    (f"redis://nobody:{SECRET}@127.0.0.1:PORT", "correct the username and the password"),
    ("redis://127.0.0.1:PORT", "give the username and the password"),
    (f"redis://app:{SECRET}@127.0.0.1:PORT/99", "smaller number of a database"),
]


@pytest.mark.parametrize(("url", "fix"), WRONG)
async def test_first_calls(flavour: str, secured: RedisServer, url: str, fix: str) -> None:
    await is_told(flavour, url.replace("PORT", str(secured.port)), fix)


@pytest.mark.parametrize("edge", ["{}%0A", "{}%0D%0A", "%20{}", "{}%09"])
async def test_a_password_with_white_space_at_an_edge(flavour: str, secured: RedisServer, edge: str) -> None:
    """node-redis#1591: a line break at the end of a secret, as `echo` and editors write it into a file."""
    url = f"redis://app:{edge.format(SECRET)}@127.0.0.1:{secured.port}"
    await is_told(flavour, url, "remove the white space at the edge of the password")
    await is_told(flavour, url.replace("app", "app%0A"), "at the edge of the username and the password")


async def test_a_password_for_a_server_without(flavour: str, server: RedisServer) -> None:
    await is_told(flavour, server.url.replace("//", f"//:{SECRET}@"), "leave the password out")


async def test_what_is_not_redis(flavour: str, http_port: int) -> None:
    await is_told(flavour, f"redis://:{SECRET}@127.0.0.1:{http_port}", "does not speak the Redis protocol")
    await is_told(flavour, f"rediss://:{SECRET}@127.0.0.1:{http_port}", "port for TLS")


async def test_fault_d4_what_a_server_repeats_is_not_shown(flavour: str, without_auth: RedisServer) -> None:
    """The server answers AUTH with ``unknown command 'AUTH', with args beginning with: 'app' '…'``."""
    await is_told(flavour, without_auth.url.replace("//", f"//app:{SECRET}@"), "has this command")


async def is_told(flavour: str, url: str, fix: str) -> None:
    lines = Lines()
    scheduler = scheduler_of(flavour, {"url": url, "name": "one"}, logger=lines)
    for _ in range(2):
        with pytest.raises(
            UnusableInstance, match=f"'one' is unavailable: .*; .*{fix}.*waiting does not help"
        ) as caught:
            await scheduler.start_task_accept()
        assert isinstance(caught.value, PartitionUnavailable)
        assert (caught.value.instance, caught.value.unknown_outcome) == ("one", False)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(scheduler.real)
        assert SECRET not in shown
        one: BaseException | None = caught.value
        while one is not None:
            assert SECRET not in f"{one} {one!r}"
            one = one.__cause__ or one.__context__
    await scheduler.close()
    assert SECRET not in str(lines.lines)
    finding = next(finding for finding in diagnose([{"url": url, "name": "one"}]) if finding.level == "error")
    assert finding.fix == caught.value.remedy
    assert SECRET not in repr(finding)


@pytest.fixture
async def running(flavour: str, secured: RedisServer) -> AsyncIterator[tuple[Uniform, Recorder, Lines]]:
    """A scheduler that runs tasks as the user "app"."""
    lines, recorder = Lines(), Recorder(coroutine=True)
    url = f"redis://app:{SECRET}@127.0.0.1:{secured.port}"
    storage = {"instances": [{"url": url, "name": "one"}], "reconnect_interval_seconds": 0.05}
    scheduler = scheduler_of(flavour, None, logger=lines, storage=storage, check_tasks_every_seconds=0.05)
    await scheduler.start_task_accept()
    await scheduler.start_task_execute(recorder.handler)
    await scheduler.assign_task(Job("before"))
    await eventually(lambda: recorder.calls)
    yield scheduler, recorder, lines
    await scheduler.stop_task_execute(grace=2)
    await scheduler.close()


@pytest.fixture
def root(secured: RedisServer) -> Iterator[Any]:
    with redis.Redis(port=secured.port, password="admin", decode_responses=True) as client:
        yield client


def cut(root: Any) -> None:
    """Ends every connection of the user "app"."""
    root.execute_command("CLIENT", "KILL", "USER", "app")


async def failure_of(scheduler: Uniform) -> PartitionUnavailable | None:
    try:
        await scheduler.assign_task(Job("later", after(3600)))
    except PartitionUnavailable as error:
        return error
    return None


async def test_a_password_that_changes_while_a_worker_runs(running: tuple[Uniform, Recorder, Lines], root: Any) -> None:
    scheduler, recorder, lines = running
    root.execute_command("ACL", "SETUSER", "app", "resetpass", ">other")
    cut(root)
    failure = await failure_of(scheduler)
    assert isinstance(failure, UnusableInstance)
    assert "correct the username and the password" in failure.remedy
    await eventually(lambda: lines.of("error"))
    # It goes on trying, many times, and says it once.
    refused = int(root.info("commandstats")["cmdstat_auth"]["failed_calls"])
    await eventually(lambda: int(root.info("commandstats")["cmdstat_auth"]["failed_calls"]) > refused + 20)
    [line] = lines.of("error")
    assert failure.remedy in line
    assert "one" in line
    assert SECRET not in str(lines.lines)
    root.execute_command("ACL", "SETUSER", "app", f">{SECRET}")
    await eventually(lambda: "instance is back" in str(lines.of("info")))
    await scheduler.assign_task(Job("after"))
    await eventually(lambda: recorder.of("after"))


async def test_a_right_that_is_taken_while_a_worker_runs(running: tuple[Uniform, Recorder, Lines], root: Any) -> None:
    scheduler, recorder, lines = running
    root.execute_command("ACL", "SETUSER", "app", "-evalsha")
    failure = await failure_of(scheduler)
    assert isinstance(failure, UnusableInstance)
    assert failure.refused
    assert "docs/acl.md" in failure.remedy
    await eventually(lambda: lines.of("error"))
    calls = int(root.info("commandstats")["cmdstat_evalsha"]["rejected_calls"])
    await eventually(lambda: int(root.info("commandstats")["cmdstat_evalsha"]["rejected_calls"]) > calls + 10)
    assert len(lines.of("error")) == 1, lines.lines
    root.execute_command("ACL", "SETUSER", "app", "+evalsha")
    await scheduler.assign_task(Job("after"))
    await eventually(lambda: recorder.of("after"))


async def test_requirepass_while_connected(flavour: str, server: RedisServer, admin: Any) -> None:
    scheduler = scheduler_of(flavour, {"url": server.url, "name": "one"})
    await scheduler.start_task_accept()
    admin.config_set("requirepass", SECRET)
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    failure = await failure_of(scheduler)
    assert isinstance(failure, UnusableInstance)
    assert "give the username and the password" in str(failure)
    admin.config_set("requirepass", "")
    assert await failure_of(scheduler) is None
    await scheduler.clear_all_tasks()
    await scheduler.close()


async def test_a_key_of_another_type(flavour: str, server: RedisServer, admin: Any) -> None:
    scheduler = scheduler_of(flavour, {"url": server.url, "name": "one"})
    await scheduler.start_task_accept()
    admin.set("{one:0}:tasks", "text")
    failure = await failure_of(scheduler)
    assert isinstance(failure, UnusableInstance)
    assert failure.refused
    assert "WRONGTYPE" in str(failure)
    assert "`interval-scheduler verify` names it" in str(failure)
    admin.delete("{one:0}:tasks")
    assert await failure_of(scheduler) is None
    await scheduler.clear_all_tasks()
    await scheduler.close()


async def test_too_many_clients_is_an_outage(flavour: str, server: RedisServer, admin: Any) -> None:
    admin.config_set("maxclients", 1)
    scheduler = scheduler_of(flavour, {"url": server.url, "name": "one"})
    with pytest.raises(PartitionUnavailable, match="when the instance is back") as caught:
        await scheduler.start_task_accept()
    assert not isinstance(caught.value, UnusableInstance)
    await scheduler.close()


@pytest.mark.parametrize("command", ["doctor", "verify", "repair", "worker"])
async def test_commands_say_it_in_a_sentence(secured: RedisServer, command: str) -> None:
    url = f"redis://app:no{SECRET}@127.0.0.1:{secured.port}"
    arguments = ["builtins:print"] if command == "worker" else []
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "interval_scheduler", command, *arguments, "--url", url],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode == 1
    told = ended.stdout + ended.stderr
    assert "correct the username and the password" in told
    assert "Traceback" not in told
    assert SECRET not in told
