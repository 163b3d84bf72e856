"""Handlers: which functions can be one, and of which sort they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..model.errors import InvalidOptions

Handler = Callable[[Any], Any]
"""A plain function or a coroutine function that takes one argument, the payload."""


def check_handler(handler: Any) -> None:
    """Refuses what cannot be called with a payload: every task would become a dead letter.

    Raises:
        InvalidOptions: saying what is wrong with the handler.
    """
    advice = "pass a function or a coroutine function that takes one argument, the payload"
    if not callable(handler):
        raise InvalidOptions([f"handler is {handler!r}: {advice}"])
    if _is_any(handler, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        raise InvalidOptions([f"handler {handler!r} is a generator function, and its body would never run: {advice}"])
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # some built-in functions have none
    try:
        signature.bind(None)
    except TypeError as error:
        raise InvalidOptions([f"handler {handler!r} cannot be called with a payload ({error}): {advice}"]) from error


def is_coroutine_function(handler: Any) -> bool:
    """Whether calling the handler returns a coroutine, and runs nothing yet."""
    return _is_any(handler, inspect.iscoroutinefunction)


def _is_any(handler: Any, *kinds: Callable[[Any], bool]) -> bool:
    """Whether a function, the function inside a partial, or the ``__call__`` of an object is of one of these kinds."""
    while hasattr(handler, "func"):  # functools.partial
        handler = handler.func
    call = getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__
    return any(kind(handler) or kind(call) for kind in kinds)


def on_loop(handler: Handler) -> Handler:
    """A coroutine function that calls a plain handler, for where there are no threads."""

    async def call(payload: Any) -> None:
        result = handler(payload)
        if inspect.isawaitable(result):
            await result

    return call
