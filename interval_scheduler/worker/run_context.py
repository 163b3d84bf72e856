"""A context (contextvars) for each run: what a handler sets there, no other run sees.

A copy of a context costs next to nothing. An asyncio task for each run, which would bring a context of its own, costs
more than many handlers; so a coroutine is driven step by step inside its context.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Generator
from types import CoroutineType
from typing import Any

from ..support import forks
from .handlers import Handler, is_awaitable
from .run import Run, enter


class RunContexts:
    """Calls a handler, each time in a new copy of the context in which the worker was started."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._base = contextvars.copy_context()
        # A decimal context is an object that code changes in place: a copied variable would still share it.
        shared = [value for variable, value in self._base.items() if variable.name == "decimal_context"]
        self._decimal = shared[0].copy() if shared else None

    def _copy_decimal(self) -> None:
        from decimal import setcontext  # whoever has such a context has loaded it

        assert self._decimal is not None
        setcontext(self._decimal.copy())

    def call(self, run: Run) -> None:
        """Calls a plain handler, in a thread. A child that it forked ends with it: the runs here are the parent's."""
        before = forks.count
        try:
            self._base.copy().run(self._call, run)
        except BaseException as error:
            if forks.count != before:
                forks.end_child(error)
            raise
        if forks.count != before:
            forks.end_child()

    def _call(self, run: Run) -> None:
        enter(run)
        if self._decimal is not None:
            self._copy_decimal()
        result = self._handler(run.definition.payload)
        if result is not None and is_awaitable(result):
            # It is run to its end.
            asyncio.run(_await(result))

    def start(self, run: Run) -> Steps | None:
        """The first step of a coroutine handler. None if that was all of it, else what has to be awaited."""
        context = self._base.copy()
        before = forks.count
        try:
            steps = context.run(self._start, run, context)
        except BaseException as error:
            if forks.count != before:
                forks.end_child(error)
            raise
        if forks.count != before:
            _end_child(awaits=steps is not None)
        return steps

    def _start(self, run: Run, context: contextvars.Context) -> Steps | None:
        enter(run)
        if self._decimal is not None:
            self._copy_decimal()
        result = self._handler(run.definition.payload)
        # An awaitable of another sort, as a decorator may return it, has steps of its own.
        coroutine = result if type(result) is CoroutineType else _awaited(result)
        try:
            return Steps(coroutine, context, coroutine.send(None))
        except StopIteration:
            return None


def _end_child(*, awaits: bool) -> None:
    """Ends a child that a coroutine handler forked: its event loop is the parent's, and nothing there is for it."""
    if awaits:
        forks.end_child(RuntimeError("a child that a coroutine handler forked cannot await: end it by os._exit()"))
    forks.end_child()


async def _await(awaitable: Any) -> None:
    await awaitable


def _awaited(result: Any) -> CoroutineType[Any, Any, None]:
    return _await(result)  # type: ignore[return-value]


class Steps:
    """The steps of a coroutine after its first one, each in its context."""

    def __init__(self, coroutine: CoroutineType[Any, Any, Any], context: contextvars.Context, waits_for: Any) -> None:
        self._coroutine = coroutine
        self._context = context
        self._waits_for = waits_for
        self.is_abandoned = False
        """Whether what awaited them was closed, as where an event loop ended before it."""

    def __await__(self) -> Generator[Any, Any, None]:
        send, run = self._coroutine.send, self._context.run
        waits_for = self._waits_for
        while True:
            try:
                value = yield waits_for
            except GeneratorExit:
                self.is_abandoned = True
                run(self._coroutine.close)
                raise
            except BaseException as error:
                step: Callable[[Any], Any] = self._coroutine.throw
                value = error
            else:
                step = send
            before = forks.count
            try:
                waits_for = run(step, value)
            except BaseException as error:
                if forks.count != before:
                    forks.end_child(None if isinstance(error, StopIteration) else error)
                if isinstance(error, StopIteration):
                    return
                raise
            if forks.count != before:
                _end_child(awaits=True)
