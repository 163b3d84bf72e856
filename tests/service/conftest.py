"""A real service over HTTP on real Redis servers, and a real receiver of its webhooks, both on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from fastapi import FastAPI

from interval_scheduler import AsyncScheduler
from interval_scheduler.service import Settings, create_app
from interval_scheduler.service.destinations import Lookup
from interval_scheduler.service.process import ServiceProcess
from tests.integration.conftest import storage
from tests.servers import RedisServer
from tests.tasks import eventually

LOOPBACK = (ip_network("127.0.0.0/8"),)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Received:
    """One request that the receiver got."""

    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def fine(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="thanks")


def answering(status: int, text: str = "", headers: Mapping[str, str] | None = None, times: int = 10**9) -> Answer:
    """Answers so the first `times` times, and well after that."""
    left = times

    async def answer(_request: web.Request) -> web.StreamResponse:
        nonlocal left
        left -= 1
        return web.Response(status=status, text=text, headers=headers) if left >= 0 else web.Response()

    return answer


@dataclass
class Receiver:
    """Notes what comes and answers as told."""

    port: int = 0
    answer: Answer = fine
    seen: list[Received] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(Received(request.path_qs, request.headers, await request.read()))
        return await self.answer(request)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def wait(self, count: int = 1) -> list[Received]:
        await eventually(lambda: len(self.seen) >= count)
        return self.seen


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@dataclass
class Service:
    """A running service, and a client of it."""

    app: FastAPI
    url: str
    session: aiohttp.ClientSession
    server: Server
    running: asyncio.Task[None]

    @property
    def process(self) -> ServiceProcess:
        process: ServiceProcess = self.app.state.process
        return process

    @property
    def scheduler(self) -> AsyncScheduler:
        return self.process.scheduler

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Status and parsed answer."""
        if body is not None:
            more["json"] = body
        async with self.session.request(method, self.url + path, **more) as response:
            return response.status, await response.json()

    async def create(self, expect: int = 201, headers: Any = None, **timer: Any) -> Any:
        status, body = await self.call("POST", "/timers", timer, headers=headers)
        assert status == expect, body
        return body

    async def get(self, timer_id: str) -> Any:
        status, body = await self.call("GET", f"/timers/{timer_id}")
        assert status == 200, body
        return body

    async def until(self, timer_id: str, status: str) -> Any:
        """The timer, once it has that status."""
        found: Any = None

        async def there() -> bool:
            nonlocal found
            found = await self.get(timer_id)
            return bool(found["status"] == status)

        try:
            await eventually(there)
        except AssertionError:
            raise AssertionError(f"{found} is not {status}") from None
        return found

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.running
        await self.session.close()


MakeService = Callable[..., Awaitable[Service]]


@pytest.fixture
async def make_service(redis_servers: list[RedisServer], namespace: str) -> AsyncIterator[MakeService]:
    """Starts services in one namespace; they are cleared and stopped at the end."""
    made: list[Service] = []

    async def build(
        lookup: Lookup | None = None,
        scheduler: Any = None,
        headers: Any = None,
        root_path: str = "",
        **settings: Any,
    ) -> Service:
        settings.setdefault("allowed_networks", LOOPBACK)
        settings.setdefault("webhook_secrets", (SECRET,))
        settings.setdefault("backoff_seconds", 0.02)
        settings.setdefault("total_seconds", 5.0)
        options = {"storage": storage(redis_servers), "namespace": namespace, "partitions": 16, "concurrency": 200}
        app = create_app(Settings(**settings), {**options, **(scheduler or {})}, lookup=lookup)
        config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1, root_path=root_path)
        server = Server(config)
        running = asyncio.create_task(server.serve())
        ready = asyncio.create_task(server.ready.wait())
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        port = server.servers[0].sockets[0].getsockname()[1]
        session = aiohttp.ClientSession(headers=headers)
        service = Service(app, f"http://127.0.0.1:{port}", session, server, running)
        made.append(service)
        return service

    yield build
    for service in made:
        if not service.running.done():
            await service.scheduler.stop_task_execute(grace=2)
    for service in made:
        if not service.running.done():
            await service.scheduler.clear_all_tasks()
            await service.stop()


@pytest.fixture
async def service(make_service: MakeService) -> Service:
    """One service that delivers."""
    return await make_service()
