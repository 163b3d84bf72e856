"""Timers over HTTP with webhooks: ``pip install 'interval-scheduler[service]'``, then ``interval-scheduler serve``.

For any ASGI server there are ``interval_scheduler.service:app``, which is configured from the environment, and
`create_app`. Each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .api import create_app as create_app
    from .settings import Settings as Settings
    from .settings import load_settings as load_settings
    from .signing import Signer as Signer

    app: FastAPI

_MODULES = {"create_app": "api", "Settings": "settings", "load_settings": "settings", "Signer": "signing"}

__all__ = ["Settings", "Signer", "app", "create_app", "load_settings"]  # pyright: ignore


def __getattr__(name: str) -> object:
    if name == "app":
        from .api import create_app

        value: object = create_app()
    elif name in _MODULES:
        value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value
