"""Running the service as a program."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from collections.abc import Coroutine
from typing import Any

import uvicorn
from prometheus_client import start_http_server

from .api import create_app
from .metrics import Metrics
from .process import ServiceProcess
from .settings import Settings

_KEEP_ALIVE_SECONDS = 30
_MOST_CONNECTIONS = 10_000


def serve(settings: Settings, scheduler: Any, host: str, port: int) -> int:
    """Serves the API, and delivers unless the settings say otherwise, until SIGTERM or SIGINT; the exit code."""
    config = uvicorn.Config(
        create_app(settings, scheduler),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.body_seconds) + 1,
        limit_concurrency=_MOST_CONNECTIONS,
    )
    server = _Server(config)
    server.run()
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Says where it listens, which with port 0 nobody knew before."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for running in self.servers if self.started else ():
            for listening in running.sockets:
                address, port = listening.getsockname()[:2]
                print(f"serving at http://{address}:{port}", file=sys.stderr, flush=True)


def deliver(settings: Settings, scheduler: Any, metrics_at: tuple[str, int] | None) -> int:
    """Delivers webhooks until SIGTERM or SIGINT; the exit code. `metrics_at`: host and port for Prometheus."""
    _run(_deliver(settings, scheduler, metrics_at))
    return 0


async def _deliver(settings: Settings, scheduler: Any, metrics_at: tuple[str, int] | None) -> None:
    metrics = Metrics()
    exporter = None
    if metrics_at is not None:
        exporter, _ = start_http_server(metrics_at[1], metrics_at[0], metrics.registry)
    try:
        async with ServiceProcess(settings, scheduler, metrics) as process:
            print(f"deliverer {os.getpid()} is ready", file=sys.stderr, flush=True)
            await process.scheduler.wait(grace=settings.total_seconds + 1)
    finally:
        if exporter is not None:
            exporter.shutdown()
            exporter.server_close()


def _run(main: Coroutine[Any, Any, None]) -> None:
    """On uvloop where it is installed, as uvicorn does."""
    if importlib.util.find_spec("uvloop") is None:
        asyncio.run(main)
    else:
        import uvloop

        uvloop.run(main)
