"""Timers over HTTP with webhooks: ``pip install 'interval-scheduler[service]'``, then ``interval-scheduler serve``.

For any ASGI server: ``interval_scheduler.service:app``, configured from the environment, or `create_app`. Everything
is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .api import create_app as create_app
    from .settings import Settings as Settings
    from .settings import load_settings as load_settings
    from .signing import Signer as Signer

    app: FastAPI

_HOMES = {"create_app": "api", "Settings": "settings", "load_settings": "settings", "Signer": "signing"}

__all__ = ["Settings", "Signer", "app", "create_app", "load_settings"]  # pyright: ignore


def __getattr__(name: str) -> Any:
    if name == "app":
        from .api import create_app

        value: Any = create_app()
    elif name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
