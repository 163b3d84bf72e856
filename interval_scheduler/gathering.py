"""Single assignments that are made in the same turn of the event loop travel together: one script call a partition.

A call of its own for each costs the server ten times as much, and so would ``asyncio.gather`` over ``assign_task``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from .commands import Command, Reply
from .definition import Prepared
from .operations import Operations


class Gathering:
    """The assignments of one loop turn, and who waits for them."""

    def __init__(self, submit: Callable[[Command], asyncio.Future[list[Reply]]]) -> None:
        """`submit(command)` sends a command; commands of one instance are carried out in the order of the calls."""
        self._submit = submit
        self._waiting: list[tuple[Prepared, asyncio.Future[bool]]] = []

    def assign(self, operations: Operations, task: object) -> asyncio.Future[bool]:
        """Checks a task, and gives what will be True if it was new.

        Raises:
            InvalidTask: naming the wrong member; the others are not concerned.
        """
        prepared = operations.prepare(task)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self.send, operations)
        self._waiting.append((prepared, future))
        return future

    def send(self, operations: Operations) -> None:
        """Sends what was gathered so far: what another call must not overtake."""
        waiting, self._waiting = self._waiting, []
        while waiting:
            # No id may come twice in a call: the second one updates the first one, in a call after it.
            round_of: dict[bytes, tuple[Prepared, asyncio.Future[bool]]] = {}
            waiting = [entry for entry in waiting if round_of.setdefault(entry[0].id, entry) is not entry]
            for command, content in operations.assign_calls([prepared for prepared, _ in round_of.values()]):
                futures = [round_of[prepared.id][1] for prepared in content]
                sent = self._submit(command)
                sent.add_done_callback(partial(_hand_out, operations, content, futures))


def _hand_out(
    operations: Operations,
    content: Sequence[Prepared],
    futures: Sequence[asyncio.Future[bool]],
    sent: asyncio.Future[list[Reply]],
) -> None:
    """Tells everybody who waits for a part of a call what came of it."""
    try:
        [reply] = sent.result()
        created = operations.assigned(content, reply)
    except asyncio.CancelledError:
        for future in futures:
            future.cancel()
    except Exception as error:
        for future in futures:
            if not future.done():
                future.set_exception(error)
    else:
        for future, is_new in zip(futures, created, strict=True):
            if not future.done():
                future.set_result(is_new)
