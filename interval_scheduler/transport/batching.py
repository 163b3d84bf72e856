"""Single assignments that are made in the same turn of the event loop travel together: one script call a partition.

A call of its own for each costs the server ten times as much, and so would ``asyncio.gather`` over ``assign_task``. One
that comes while they come one at a time need not wait for the others of its turn: it leaves at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator, Sequence
from functools import partial
from typing import Any

from ..core.preparation import Prepared
from ..protocol.bulk import STREAM_TASKS
from ..protocol.commands import Reply
from ..protocol.tasks import Operations
from .aio import AsyncTransport


class Assignment(asyncio.Future[bool]):
    """What `assign_task` gives: a future, so that ``gather`` need not make a task for each of many calls.

    It is a coroutine as well, by having the methods of one: ``create_task`` and task groups take nothing else.
    """

    _steps: Generator[Any, None, bool] | None = None

    def send(self, value: None) -> Any:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        if self._steps is None:
            self.cancel()  # whoever drives this ends before it began to wait, and will never ask what came of it
            self._steps = self.__await__()
        return self._steps.throw(*error)

    def close(self) -> None:
        if self._steps is None:
            self.cancel()
        else:
            self._steps.close()


class Batcher:
    """The assignments of one loop turn, and who waits for them."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._prepared: list[Prepared] = []
        # Apart, because a pair for each would be one more object for the garbage collector to look after.
        self._futures: list[Assignment] = []
        # The newest one was alone in its turn, and none was under way when it left.
        self._one_at_a_time = False

    def assign(
        self, operations: Operations, task: object, loop: asyncio.AbstractEventLoop
    ) -> Coroutine[Any, Any, bool]:
        """Checks a task, and gives what will be True if it was new.

        It is sent in this turn of `loop`, the running one, whether it is awaited or not.

        Raises:
            InvalidTask: when it is awaited, naming the wrong member; the others are not concerned.
        """
        try:
            prepared = operations.prepare(task)
        except Exception as error:
            return _raise(error)
        future = Assignment(loop=loop)
        if not self._prepared:
            if self._one_at_a_time:
                home = operations.home(prepared[0])
                if self._transport.is_idle(home.instance):
                    command = operations.assign_call(home, prepared)
                    self._transport.send(command, partial(_hand_out, operations, prepared[0], (future,)))
                    return future
            loop.call_soon(self.send, operations)
        self._prepared.append(prepared)
        self._futures.append(future)
        if len(self._prepared) >= STREAM_TASKS:
            self._one_at_a_time = False
            self._put(operations)
            self._transport.flush_ahead()  # servers work on these while more come
        return future

    def send(self, operations: Operations) -> None:
        """Sends what was gathered so far: what another call must not overtake."""
        if self._prepared:
            home = operations.home(self._prepared[0][0])
            self._one_at_a_time = len(self._prepared) == 1 and self._transport.is_idle(home.instance)
            self._put(operations)
            self._transport.flush()

    def _put(self, operations: Operations) -> None:
        prepared, futures = self._prepared, self._futures
        self._prepared, self._futures = [], []
        while prepared:
            # No id may come twice in a call: the second one updates the first one, in a call after it.
            future_of: dict[bytes, Assignment] = {}
            batch: list[Prepared] = []
            again: list[tuple[Prepared, Assignment]] = []
            for task, future in zip(prepared, futures, strict=True):
                if future_of.setdefault(task[0], future) is future:
                    batch.append(task)
                else:
                    again.append((task, future))
            for command, ids in operations.assign_calls(batch):
                waiting = [future_of[task_id] for task_id in ids]
                self._transport.put(command, partial(_hand_out, operations, ids[0], waiting))
            prepared, futures = [task for task, _ in again], [future for _, future in again]


def _hand_out(
    operations: Operations,
    task_id: bytes,
    futures: Sequence[Assignment],
    outcome: list[Reply] | Exception,
) -> None:
    """Tells everybody who waits for a part of a call what came of it."""
    try:
        if isinstance(outcome, Exception):
            raise outcome
        created = operations.assigned(task_id, outcome[0])
    except Exception as error:
        for future in futures:
            if not future.done():
                future.set_exception(error)
    else:
        for future, is_new in zip(futures, created, strict=True):
            if not future.done():
                future.set_result(is_new)


async def _raise(error: Exception) -> bool:
    raise error
