"""Running the service as a program."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import uvicorn
from prometheus_client import start_http_server

from .api import create_app
from .metrics import Metrics
from .process import ServiceProcess
from .settings import Settings

_KEEP_ALIVE_SECONDS = 30
_MOST_CONNECTIONS = 10_000
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(settings: Settings, scheduler: Any, host: str, port: int) -> int:
    """Serves the API, and delivers unless the settings say otherwise, until SIGTERM or SIGINT; the exit code."""
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
    """Drops the traceback of a failed start: the command says in a sentence what failed."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(("Traceback", "Application startup failed"))


class _Server(uvicorn.Server):
    """Says where it listens, which with port 0 nobody knew before, and ends well when it is told to end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Without raising the signals again afterwards, as uvicorn does: the exit code would be that of a kill."""
        handlers = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

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
    # From here on, also while it starts and while it drains: a signal must not kill what was claimed.
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in _SIGNALS:
        signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(asked.set))
    metrics = Metrics()
    exporter = None
    if metrics_at is not None:
        exporter, _ = start_http_server(metrics_at[1], metrics_at[0], metrics.registry)
    try:
        async with ServiceProcess(settings, scheduler, metrics):
            print(f"deliverer {os.getpid()} is ready", file=sys.stderr, flush=True)
            await asked.wait()
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
