"""Handlers: which functions can be one, and of which sort they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..model.errors import InvalidOptions

Handler = Callable[[Any], Any]
"""A plain function or a coroutine function that takes one argument, the payload."""


def check_handler(handler: Any) -> None:
    """Refuses at once what could only turn every task into a dead letter."""
    advice = "pass a function or a coroutine function that takes one argument, the payload"
    if not callable(handler):
        raise InvalidOptions([f"handler is {handler!r}: {advice}"])
    if _is_any(handler, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        raise InvalidOptions([f"handler {handler!r} is a generator function, whose body nobody would run: {advice}"])
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # some built-in functions have none
    try:
        signature.bind(None)
    except TypeError as error:
        raise InvalidOptions([f"handler {handler!r} cannot be called with a payload ({error}): {advice}"]) from error


def is_coroutine_function(handler: Any) -> bool:
    """Whether calling the handler only makes a coroutine."""
    return _is_any(handler, inspect.iscoroutinefunction)


def _is_any(handler: Any, *kinds: Callable[[Any], bool]) -> bool:
    """Whether a function, what a partial or a method stands for, or an object's ``__call__`` is of one of the kinds."""
    while hasattr(handler, "func"):  # functools.partial
        handler = handler.func
    call = getattr(handler, "__call__", None)  # noqa: B004 - an object with an async __call__
    return any(kind(handler) or kind(call) for kind in kinds)


def on_loop(handler: Handler) -> Handler:
    """A coroutine function that does what a plain handler does."""

    async def call(payload: Any) -> None:
        result = handler(payload)
        if inspect.isawaitable(result):
            await result

    return call
