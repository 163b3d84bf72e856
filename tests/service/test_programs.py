"""The service as programs: started, killed with SIGKILL, started again, stopped."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from interval_scheduler import AsyncScheduler
from tests.integration.conftest import storage
from tests.servers import RedisServer
from tests.service.conftest import SECRET, Receiver, fine
from tests.tasks import eventually

COMMAND = [sys.executable, "-m", "interval_scheduler"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIMER_", "INTERVAL_SCHEDULER_"))}
    return kept | {
        "TIMER_SERVICE_ALLOWED_NETWORKS": "127.0.0.0/8",
        "TIMER_SERVICE_WEBHOOK_SECRETS": SECRET,
        "INTERVAL_SCHEDULER_LEASE_SECONDS": "1",
        **more,
    }


class Program:
    """One running command."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""

    async def said(self, pattern: str) -> re.Match[str]:
        """Waits until a line on standard error fits."""
        assert self.process.stderr is not None
        lines = []
        while line := (await asyncio.wait_for(self.process.stderr.readline(), 30)).decode():
            lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"it ended and said: {''.join(lines)}")

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        await asyncio.wait_for(self.process.communicate(), 30)
        assert self.process.returncode is not None
        return self.process.returncode


Start = Callable[..., Any]


@pytest.fixture
async def start(redis_servers: list[RedisServer], namespace: str) -> AsyncIterator[Start]:
    """Starts commands on the shared servers, in the test's namespace; they are killed and cleared at the end."""
    running: list[Program] = []
    urls = [part for number, server in enumerate(redis_servers) for part in ("--url", f"redis-{number}={server.url}")]

    async def begin(*arguments: str, **variables: str) -> Program:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, *urls, "--namespace", namespace, env=environment(**variables), stderr=subprocess.PIPE
        )
        program = Program(process)
        running.append(program)
        return program

    yield begin
    for program in running:
        if program.process.returncode is None:
            await program.end(signal.SIGKILL)
    async with AsyncScheduler(storage=storage(redis_servers), namespace=namespace) as scheduler:
        await scheduler.clear_all_tasks()


async def serve(start: Start, *arguments: str, **variables: str) -> Program:
    program: Program = await start("serve", "--port", "0", *arguments, **variables)
    program.url = (await program.said(r"serving at (\S+)"))[1]
    return program


async def create(program: Program, receiver: Receiver, **timer: Any) -> str:
    async with aiohttp.ClientSession() as session:
        body = {"url": receiver.url(), **timer}
        async with session.post(f"{program.url}/timers", json=body) as response:
            assert response.status == 201
            return str((await response.json())["id"])


async def status(program: Program, timer_id: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{program.url}/timers/{timer_id}") as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["status"])


async def completed(program: Program, timer_id: str) -> None:
    """Waits until it is; until then it is being processed, and nothing else."""

    async def there() -> bool:
        found = await status(program, timer_id)
        assert found in ("pending", "processing", "completed")
        return found == "completed"

    await eventually(there, 30)


async def test_sigkill_between_fire_and_answer_delivers_again_with_the_same_id(
    start: Start, receiver: Receiver
) -> None:
    arrived = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        arrived.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    receiver.answer = hang
    service = await serve(start)
    timer_id = await create(service, receiver, timeout=0.05, message="once more")
    await asyncio.wait_for(arrived.wait(), 20)
    assert await status(service, timer_id) == "processing"
    assert await service.end(signal.SIGKILL) == -signal.SIGKILL
    receiver.answer = fine
    service = await serve(start)
    first, second = (await receiver.wait(2))[:2]
    assert first.id == second.id
    assert int(second.headers["webhook-fencing-token"]) > int(first.headers["webhook-fencing-token"])
    assert second.body["message"] == "once more"
    await completed(service, timer_id)


async def test_killing_deliverers_midway_loses_nothing_and_tells_nothing_wrong(
    start: Start, receiver: Receiver
) -> None:
    count = 120

    async def slow(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.05)  # long enough for a kill to meet some under way
        return web.Response()

    receiver.answer = slow
    api = await serve(start, "--no-deliver")
    ids = [await create(api, receiver, timeout=1.0 + number / 60) for number in range(count)]
    deliver = await start("deliver")
    for share in (0.2, 0.5):
        await receiver.wait(round(count * share))
        await deliver.end(signal.SIGKILL)
        for timer_id in ids[::7]:
            if await status(api, timer_id) == "completed":
                assert any(seen.body["timerId"] == timer_id for seen in receiver.seen), "completed means delivered"
        deliver = await start("deliver")
    for timer_id in ids:
        await completed(api, timer_id)
    by_timer: dict[str, set[str]] = {}
    for seen in receiver.seen:
        by_timer.setdefault(seen.body["timerId"], set()).add(seen.id)
    assert set(by_timer) == set(ids), "nothing is lost"
    assert all(len(found) == 1 for found in by_timer.values()), "a repeat has the id of the first"


async def test_timers_that_expired_while_everything_was_down_are_delayed(start: Start, receiver: Receiver) -> None:
    service = await serve(start)
    ids = {await create(service, receiver, timeout=0.6) for _ in range(5)}
    await service.end(signal.SIGKILL)
    assert not receiver.seen
    await asyncio.sleep(0.7)  # the time that everything is down
    await serve(start, TIMER_SERVICE_DELAYED_AFTER_SECONDS="0.05")
    await receiver.wait(5)
    assert {seen.body["timerId"] for seen in receiver.seen} == ids
    assert {seen.body["status"] for seen in receiver.seen} == {"delayed"}


async def test_api_and_delivery_can_be_apart(start: Start, receiver: Receiver) -> None:
    api = await serve(start, "--no-deliver")
    timer_id = await create(api, receiver, timeout=0.01)
    deliver = await start("deliver", "--metrics-port", "0")
    await deliver.said("is ready")
    await receiver.wait()
    await completed(api, timer_id)
    assert await deliver.end(signal.SIGTERM) == 0
    assert await api.end(signal.SIGTERM) == 0


async def test_sigterm_lets_deliveries_end(start: Start, receiver: Receiver) -> None:
    arrived, hold = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        arrived.set()
        await hold.wait()
        return web.Response()

    receiver.answer = slow
    service = await serve(start)
    timer_id = await create(service, receiver, timeout=0.01)
    await asyncio.wait_for(arrived.wait(), 20)
    ending = asyncio.create_task(service.end(signal.SIGTERM))
    hold.set()
    assert await ending == 0
    again = await serve(start, "--no-deliver")
    assert await status(again, timer_id) == "completed"
    assert len(receiver.seen) == 1


async def test_one_command_gives_a_working_service(receiver: Receiver, tmp_path: Path) -> None:
    """On a private server, with nothing configured but where webhooks may go."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "serve", "--port", "0", env=environment(PYTHONPATH=os.getcwd()), stderr=subprocess.PIPE, cwd=tmp_path
    )
    program = Program(process)
    try:
        program.url = (await program.said(r"serving at (\S+)"))[1]
        await create(program, receiver, timeout=0.01)
        await receiver.wait()
    finally:
        assert await program.end(signal.SIGTERM) == 0
    assert (tmp_path / "timer-service-data").is_dir()


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env=environment(**variables), check=False
    )


def test_keys_and_secrets_are_printed_and_fit() -> None:
    from interval_scheduler.service.api_keys import ApiKey, client_of
    from interval_scheduler.service.signing import parse_secret

    assert len(parse_secret(run("serve", "--new-secret").stdout.strip())) == 32
    printed = run("serve", "--new-key", "shop").stdout
    key = printed.splitlines()[0].split()[-1]
    configured = ApiKey.parse(printed.partition("KEYS=")[2].strip())
    assert client_of(key, [configured]) == "shop"
    assert key not in configured.digest
    assert run("serve", "--new-key", "no blanks").returncode == 1


def test_what_is_configured_wrong_is_named() -> None:
    result = run(
        "serve", TIMER_SERVICE_API_KEY="5", TIMER_SERVICE_MAX_BATCH="many", TIMER_SERVICE_API_KEYS="shop:secret"
    )
    assert result.returncode == 1
    for said in ("API_KEY is unknown", "MAX_BATCH is wrong", "API_KEYS is wrong"):
        assert f"TIMER_SERVICE_{said}" in result.stderr
    result = run("serve", TIMER_SERVICE_RATE_BURST="0", TIMER_SERVICE_WEBHOOK_SECRETS="whsec_x")
    assert "rate_burst is 0: use 1 to" in result.stderr
    assert "webhook_secrets number 1" in result.stderr
    for command in ("serve", "deliver"):
        result = run(command, "--url", "redis://127.0.0.1:1")
        assert result.returncode == 1
        assert f"interval-scheduler {command}: Redis instance '127.0.0.1:1/0' is unavailable" in result.stderr
        assert "Traceback" not in result.stderr
    result = run("serve", "--host", "0.0.0.0")
    assert result.returncode == 1
    assert "TIMER_SERVICE_API_KEYS" in result.stderr


def test_without_the_extra_the_command_says_what_to_install() -> None:
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'fastapi' else find(name, *more)\n"
        "from interval_scheduler.cli import main; main(['serve'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "pip install 'interval-scheduler[service]'" in result.stderr


def test_importing_the_package_or_its_command_line_loads_nothing_of_it() -> None:
    code = "import sys, interval_scheduler.cli, interval_scheduler.service; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    assert not set(loaded.split()) & {"fastapi", "uvicorn", "aiohttp", "prometheus_client", "pydantic"}


def test_the_app_for_any_asgi_server_is_configured_from_the_environment() -> None:
    code = (
        "from interval_scheduler.service import create_app, app; from fastapi import FastAPI\n"
        "assert isinstance(app, FastAPI); print(app.openapi()['components']['schemas']['BatchDelete'])"
    )
    variables = environment(TIMER_SERVICE_MAX_BATCH="77")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=True)
    assert "77" in result.stdout
