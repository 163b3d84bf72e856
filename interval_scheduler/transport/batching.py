"""Sends single assignments of the same turn of the event loop together: one script call for each partition.

A call for each assignment would cost the server ten times as much. While assignments come one at a time, each leaves at
once and does not wait for the end of the turn.
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
    """What `assign_task` returns: a future, so that ``gather`` makes no asyncio task for each of many calls.

    It also has the methods of a coroutine, because ``create_task`` and task groups take nothing else.
    """

    _steps: Generator[Any, None, bool] | None = None

    def send(self, value: None) -> Any:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        if self._steps is None:
            self.cancel()  # who drives this ends before it waits, and will never ask for the result
            self._steps = self.__await__()
        return self._steps.throw(*error)

    def close(self) -> None:
        if self._steps is None:
            self.cancel()
        else:
            self._steps.close()


class Batcher:
    """The assignments of one turn of the loop, and the futures that wait for them."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._prepared: list[Prepared] = []
        # A list of its own: a pair for each would be one more object for the garbage collector.
        self._futures: list[Assignment] = []
        # Whether the last assignment was the only one in its turn, and none was under way when it left.
        self._one_at_a_time = False

    def assign(
        self, operations: Operations, task: object, loop: asyncio.AbstractEventLoop
    ) -> Coroutine[Any, Any, bool]:
        """Checks a task, and returns what will be True if the task is new.

        It is sent in this turn of `loop`, the running one, whether it is awaited or not.

        Raises:
            InvalidTask: when it is awaited, naming the wrong member. Other assignments are not affected.
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
        """Sends all assignments so far, so that no other call overtakes them."""
        if self._prepared:
            home = operations.home(self._prepared[0][0])
            self._one_at_a_time = len(self._prepared) == 1 and self._transport.is_idle(home.instance)
            self._put(operations)
            self._transport.flush()

    def _put(self, operations: Operations) -> None:
        prepared, futures = self._prepared, self._futures
        self._prepared, self._futures = [], []
        while prepared:
            # No id may come twice in a call. The second one updates the first one, in a later call.
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
    """Gives the result of a call to the futures of all its assignments."""
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
