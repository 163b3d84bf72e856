"""The two programs of the service: one serves the API, the other only delivers."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
from collections.abc import Coroutine, Iterator
from socket import socket
from typing import Any

import uvicorn
from prometheus_client import start_http_server

from ..support.console import say
from .api import create_app
from .metrics import Metrics
from .process import ServiceProcess
from .settings import Settings

_KEEP_ALIVE_SECONDS = 30
_MOST_CONNECTIONS = 10_000
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(settings: Settings, scheduler: object, host: str, port: int) -> int:
    """Serves the API, and delivers if the settings say so, until SIGTERM or SIGINT. Returns the exit code."""
    app = create_app(settings, scheduler)
    config = uvicorn.Config(
        app,
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
    logging.getLogger("uvicorn.error").addFilter(_StartFailed())
    try:
        server.run()
    except SystemExit:
        if app.state.process.failure is not None:
            raise app.state.process.failure from None
        raise
    return 0 if server.started else 1


class _StartFailed(logging.Filter):
    """Drops the traceback of a failed start: the command prints one sentence that says what failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(("Traceback", "Application startup failed"))


class _Server(uvicorn.Server):
    """Prints where it listens, which with port 0 is not known before, and exits with 0 after a signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn, it does not raise the signals again at the end: the exit code would be that of a kill."""
        handlers = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        for running in self.servers if self.started else ():
            for listening in running.sockets:
                address, port = listening.getsockname()[:2]
                say(f"serving at http://{address}:{port}")


def deliver(settings: Settings, scheduler: object, metrics_at: tuple[str, int] | None) -> int:
    """Delivers webhooks until SIGTERM or SIGINT. Returns the exit code. `metrics_at`: host and port for Prometheus."""
    _run(_deliver(settings, scheduler, metrics_at))
    return 0


async def _deliver(settings: Settings, scheduler: object, metrics_at: tuple[str, int] | None) -> None:
    # From here on, even during start and shutdown, a signal must not kill the process while it holds claimed timers.
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in _SIGNALS:
        signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(asked.set))
    metrics = Metrics()
    exporter = None
    if metrics_at is not None:
        exporter, _ = start_http_server(metrics_at[1], metrics_at[0], metrics.registry)
    try:
        async with ServiceProcess(settings, scheduler, metrics):
            say(f"deliverer {os.getpid()} is ready")
            await asked.wait()
    finally:
        if exporter is not None:
            exporter.shutdown()
            exporter.server_close()


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Runs on uvloop where it is installed, as uvicorn does."""
    if importlib.util.find_spec("uvloop") is None:
        asyncio.run(main)
    else:
        import uvloop

        uvloop.run(main)
