"""Finds the handler that a command names, and says what is wrong with it or its module."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from ..model.errors import InvalidOptions
from ..support.console import say
from ..support.text import short_repr

if TYPE_CHECKING:
    from ..worker.handlers import Handler

_PACKAGE = __name__.partition(".")[0]


def load_handler(path: str) -> Handler:
    """Imports the function that ``module:name`` (or ``module:object.name``) names.

    Raises:
        InvalidOptions: where it does not exist or cannot be called.
    """
    module, _, names = path.partition(":")
    if "://" in path or "@" in path:
        raise InvalidOptions(["the handler is like a URL: write it as module:function, and a URL behind --url"])
    if not module or not names:
        raise InvalidOptions([f"the handler is {short_repr(path)}: write it as module:function"])
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = _import_module(module, path)
    try:
        for name in names.split("."):
            found = getattr(found, name)
    except AttributeError as error:
        raise InvalidOptions(
            [f"the handler {short_repr(path)} cannot be imported ({error}): check module and function"]
        ) from error
    if not callable(found):
        raise InvalidOptions([f"the handler {short_repr(path)} cannot be called: use a function"])
    return found  # type: ignore[no-any-return]


def _import_module(module: str, path: str) -> object:
    try:
        return importlib.import_module(module)
    except BaseException as error:  # SystemExit too: a module without a guard for its main program
        if isinstance(error, KeyboardInterrupt):
            raise
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module}.".startswith(f"{missing}."):
            rule = f"the handler {short_repr(path)} cannot be imported ({error}): check module and function"
            raise InvalidOptions([rule]) from error
        say(_own_traceback(error))
        rule = f"the module of the handler {short_repr(path)} was found, but raised {type(error).__name__} (see above)"
        raise InvalidOptions([f"{rule}: correct it, or what it imports"]) from error


def _own_traceback(error: BaseException) -> str:
    """The traceback from the first line of the application on. A syntax error has none but its own place."""
    packages = [
        str(frame.f_globals.get("__name__", "")).partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    ours = next((at for at, name in enumerate(packages) if name not in (_PACKAGE, "importlib")), len(packages))
    told = traceback.TracebackException(type(error), error, error.__traceback__)
    del told.stack[:ours]
    return "".join(told.format()).rstrip()
