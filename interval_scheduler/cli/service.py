"""``interval-scheduler serve`` and ``deliver``: the timer service, which needs the ``service`` extra."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
from dataclasses import replace
from typing import Any

from ..model.errors import InvalidOptions
from ..model.options import Options
from .arguments import arguments_win, scheduler_options

_NEEDED = ("fastapi", "uvicorn", "aiohttp", "prometheus_client")


def register(commands: Any) -> None:
    """Adds both commands to the subparsers."""
    serve = commands.add_parser(
        "serve",
        help="timers over HTTP with webhooks",
        description="Serves the API for timers and delivers their webhooks. Settings are environment variables, "
        "TIMER_SERVICE_… (see docs/service.md), and INTERVAL_SCHEDULER_… for the scheduler.",
    )
    _storage(serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="default 8000; 0 for a free one")
    serve.add_argument("--no-deliver", action="store_true", help="only answer requests; run `deliver` elsewhere")
    serve.add_argument("--open", action="store_true", help="let other machines in although no API keys are set")
    serve.add_argument("--new-key", metavar="NAME", help="print a new API key for a client, and exit")
    serve.add_argument("--new-secret", action="store_true", help="print a new secret for webhooks, and exit")
    serve.set_defaults(run=run_serve)

    deliver = commands.add_parser(
        "deliver",
        help="deliver webhooks for `serve --no-deliver`",
        description="Delivers the webhooks of timers until SIGTERM or SIGINT. Takes the same settings as `serve`.",
    )
    _storage(deliver)
    deliver.add_argument("--metrics-host", default="127.0.0.1", help="address of the metrics (default 127.0.0.1)")
    deliver.add_argument("--metrics-port", type=int, metavar="N", help="port of the metrics (default: none are served)")
    deliver.set_defaults(run=run_deliver)


def _storage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        action="append",
        metavar="URL",
        help="a Redis instance; repeat for several; NAME=URL names it "
        "(default: INTERVAL_SCHEDULER_INSTANCES, else a private server in the folder timer-service-data)",
    )
    parser.add_argument("--namespace", help="default: timers")


def run_serve(options: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code."""
    _require_extra()
    from ..service import api_keys, settings, signing

    if options.new_secret:
        print(signing.new_secret())
        return 0
    if options.new_key is not None:
        try:
            key, configured = api_keys.new_key(options.new_key)
        except ValueError:
            raise InvalidOptions(["--new-key: use 1 to 64 letters, digits, '_', '.' or '-' for the name"]) from None
        print(f"for the client:        {key}\nTIMER_SERVICE_API_KEYS={configured.name}:{configured.digest}")
        return 0
    loaded = settings.load_settings()
    if options.no_deliver:
        loaded = replace(loaded, deliver=False)
    if not (loaded.api_keys or options.open or _is_loopback(options.host)):
        rule = f"--host {options.host} lets other machines in, but no API keys are set"
        raise InvalidOptions([f"{rule}: set TIMER_SERVICE_API_KEYS, or add --open"])
    from ..service import server

    return server.serve(loaded, _scheduler_options(options), options.host, options.port)


def run_deliver(options: argparse.Namespace) -> int:
    """Delivers until SIGTERM or SIGINT. Returns the exit code."""
    _require_extra()
    from ..service import server, settings

    loaded = settings.load_settings(deliver=True)
    metrics_at = None if options.metrics_port is None else (options.metrics_host, options.metrics_port)
    return server.deliver(loaded, _scheduler_options(options), metrics_at)


def _require_extra() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidOptions([f"{', '.join(missing)} not installed: run pip install 'interval-scheduler[service]'"])


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _scheduler_options(options: argparse.Namespace) -> Options:
    """Options of the scheduler. Arguments win over environment variables."""
    from ..service import process

    typed = scheduler_options(options)
    with arguments_win(typed):
        return process.scheduler_options(typed)
