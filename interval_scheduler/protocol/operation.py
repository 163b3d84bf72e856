"""Operations as generators that yield commands and are sent the replies; what every operation is made of.

They never wait, so a blocking and an asyncio driver can run them alike (`drive` shows how). One yield is one round
trip to each instance it names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..model.errors import PartitionUnavailable, TopologyMismatch
from .commands import REFUSALS, Command, Partition, Reply

if TYPE_CHECKING:
    from ..support.runtime import Runtime
    from .topology import Layout

T = TypeVar("T")
Operation = Generator["Sequence[Command] | Ahead", list[Reply], T]

Begin = Callable[[Command], Callable[[], list[Reply]]]
"""Sends a command, and returns what waits for its reply."""

BATCH_TASKS = 500
"""Most tasks in one call of a script: enough to make the call's own cost small, few enough to block nobody."""


@dataclass(slots=True, eq=False)
class Ahead:
    """A command that is sent when this is yielded first, without waiting; yielded again, it is answered with the reply.

    So an operation can prepare more while servers work. Replies are asked for in the order of sending.
    """

    command: Command
    reply: Callable[[], Any] | None = None
    """Waits for the reply, once the command is sent."""


async def drive_async(
    operation: Operation[T],
    execute: Callable[[Sequence[Command]], Awaitable[list[Reply]]],
    begin: Callable[[Command], Callable[[], Awaitable[list[Reply]]]] | None = None,
) -> T:
    """`drive` with an asyncio `execute`. `begin` sends a command, and returns what waits for its reply."""
    try:
        request = next(operation)
        while True:
            if not isinstance(request, Ahead):
                request = operation.send(await execute(request))
            elif request.reply is None:
                request.reply = partial(execute, [request.command]) if begin is None else begin(request.command)
                await _NextTurn()  # in which it leaves
                request = operation.send([])
            else:
                request = operation.send(await request.reply())
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


class _NextTurn:
    """Waits for the next turn of whatever event loop this runs on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def drive(
    operation: Operation[T],
    execute: Callable[[Sequence[Command]], list[Reply]],
    begin: Begin | None = None,
) -> T:
    """Runs an operation with a blocking `execute`; with `begin`, what it yields `Ahead` is really sent ahead."""
    try:
        request = next(operation)
        while True:
            if not isinstance(request, Ahead):
                request = operation.send(execute(request))
            elif request.reply is None:
                request.reply = partial(execute, [request.command]) if begin is None else begin(request.command)
                request = operation.send([])
            else:
                request = operation.send(request.reply())
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


class Calls:
    """Calls of the scripts of a namespace. Holds no state but how far the servers' clocks are from ours."""

    def __init__(self, layout: Layout, runtime: Runtime) -> None:
        self._layout = layout
        self._runtime = runtime
        self._offsets: dict[str, float] = {}

    def _call(self, home: Partition, name: str, *args: Any, repeatable: bool = False) -> Command:
        return home.call(name, self._runtime.script_now(), *args, repeatable=repeatable)

    def _one(self, task_id: bytes, name: str, *args: Any, repeatable: bool = True) -> Operation[list[Any]]:
        home = self._layout.home(task_id)
        [reply] = yield [self._call(home, name, *args, repeatable=repeatable)]
        return self._answer(home, reply)

    def _each(self, name: str, *args: Any, among: Sequence[Partition] | None = None) -> list[Command]:
        chosen = self._layout.partitions if among is None else among
        return [self._call(partition, name, *args, repeatable=True) for partition in chosen]

    def _answer(self, home: Partition, reply: Reply) -> list[Any]:
        answer = check(home, reply)
        self._offsets[home.instance] = answer[1] / 1e6 - self._runtime.time()
        return answer


def check(home: Partition, reply: Reply) -> list[Any]:
    """The reply of a partition script.

    Raises:
        PartitionUnavailable: where there is none.
        TopologyMismatch: where the partition is not there.
    """
    if isinstance(reply, PartitionUnavailable):
        raise reply
    if reply[0] in REFUSALS:
        what = "has moved" if reply[0] == b"moved" else "is gone: its data was lost, or belongs to another server"
        raise TopologyMismatch(
            f"partition {home.number} on instance {home.instance!r} {what}. Nothing was written; "
            "reconnect, and restore the data of the instance if this goes on."
        )
    return reply  # type: ignore[no-any-return]


def batches(items: Sequence[T], size: int = BATCH_TASKS) -> Iterator[Sequence[T]]:
    """The items in order, at most `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
