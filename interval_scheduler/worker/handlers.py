"""Handlers: which functions can be one, and of which sort they are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from ..model.errors import InvalidOptions
from ..support.text import short_repr

Handler = Callable[[Any], Any]
"""A plain function or a coroutine function that takes one argument, the payload."""


def check_handler(handler: Any) -> None:
    """Refuses what cannot be called with a payload: every task would become a dead letter.

    Raises:
        InvalidOptions: saying what is wrong with the handler.
    """
    advice = "pass a function or a coroutine function that takes one argument, the payload"
    if not callable(handler):
        raise InvalidOptions([f"handler is {short_repr(handler)}: {advice}"])
    if _is_any(handler, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        name = short_repr(handler)
        raise InvalidOptions([f"handler {name} is a generator function, and its body would never run: {advice}"])
    try:
        signature = inspect.signature(handler)
    except Exception:  # some built-in functions have none, and proxies may raise anything
        return
    try:
        signature.bind(None)
    except TypeError as error:
        name = short_repr(handler)
        raise InvalidOptions([f"handler {name} cannot be called with a payload ({error}): {advice}"]) from error


def is_coroutine_function(handler: Any) -> bool:
    """Whether calling the handler returns a coroutine, and runs nothing yet."""
    return _is_any(handler, inspect.iscoroutinefunction)


def is_awaitable(result: object) -> bool:
    """Whether what a plain handler returned has to be awaited, as what some decorators return. Its type tells that: a
    value may say anything of itself."""
    return issubclass(type(result), Awaitable)


def _is_any(handler: Any, *sorts: Callable[[Any], bool]) -> bool:
    """Whether a function, the function inside a partial, or the ``__call__`` of an object is of one of these sorts.

    Only of real partials the function inside counts, and only the ``__call__`` of the class: decorators and proxies
    may have any attribute, and mocks have all of them.
    """
    while isinstance(handler, functools.partial):
        handler = handler.func
    call = None if isinstance(handler, type) else getattr(type(handler), "__call__", None)  # noqa: B004
    return any(sort(handler) or sort(call) for sort in sorts)


def on_loop(handler: Handler) -> Handler:
    """A coroutine function that calls a plain handler, for where there are no threads."""

    async def call(payload: Any) -> None:
        result = handler(payload)
        if result is not None and is_awaitable(result):
            await result

    return call
