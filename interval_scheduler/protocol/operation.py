"""Operations: generators that yield commands and are sent the replies.

They never wait, so a blocking and an asyncio driver can run them alike (`drive` shows how). One yield is one round
trip to each instance it names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .commands import Command, Partition, Reply

if TYPE_CHECKING:
    from ..support.runtime import Runtime
    from .topology import Layout

T = TypeVar("T")
Operation = Generator["Sequence[Command] | SendAhead", list[Reply], T]

Send = Callable[[Command], Callable[[], list[Reply]]]
"""Sends a command, and returns what waits for its reply."""

BATCH_TASKS = 500
"""Most tasks in one call of a script: enough to make the call's own cost small, few enough to block nobody."""


@dataclass(slots=True, eq=False)
class SendAhead:
    """A request to send a command without waiting for its reply. Yielded again, it is answered with the reply.

    So an operation can prepare more while servers work. Replies are asked for in the order of sending.
    """

    command: Command
    reply: Callable[[], Any] | None = None
    """Waits for the reply, once the command is sent."""


async def drive_async(
    operation: Operation[T],
    execute: Callable[[Sequence[Command]], Awaitable[list[Reply]]],
    send: Callable[[Command], Callable[[], Awaitable[list[Reply]]]] | None = None,
) -> T:
    """`drive` with an asyncio `execute`. `send` sends a command, and returns what waits for its reply."""
    try:
        request = next(operation)
        while True:
            if not isinstance(request, SendAhead):
                request = operation.send(await execute(request))
            elif request.reply is None:
                request.reply = partial(execute, [request.command]) if send is None else send(request.command)
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
    send: Send | None = None,
) -> T:
    """Runs an operation with a blocking `execute`; with `send`, a `SendAhead` is really sent ahead."""
    try:
        request = next(operation)
        while True:
            if not isinstance(request, SendAhead):
                request = operation.send(execute(request))
            elif request.reply is None:
                request.reply = partial(execute, [request.command]) if send is None else send(request.command)
                request = operation.send([])
            else:
                request = operation.send(request.reply())
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


class _Answer(Protocol):
    """What a reader makes of the reply of a partition script."""

    now_us: int


A = TypeVar("A", bound=_Answer)


class NamespaceOperations:
    """What operations on a namespace have in common. Keeps nothing but how far the servers' clocks are from ours."""

    def __init__(self, layout: Layout, runtime: Runtime) -> None:
        self._layout = layout
        self._runtime = runtime
        self._offsets: dict[str, float] = {}

    def home(self, task_id: bytes) -> Partition:
        """The partition of an id."""
        return self._layout.home(task_id)

    @property
    def _now(self) -> str:
        return self._runtime.script_now()

    def _ask(self, partition: Partition, command: Command, read: Callable[[Partition, Reply], A]) -> Operation[A]:
        """Carries out one call, and reads its reply."""
        [reply] = yield [command]
        return self._read(partition, reply, read)

    def _read(self, partition: Partition, reply: Reply, read: Callable[[Partition, Reply], A]) -> A:
        """Reads a reply, and learns from it what time its server has."""
        answer = read(partition, reply)
        self._offsets[partition.instance] = answer.now_us / 1e6 - self._runtime.time()
        return answer


def batches(items: Sequence[T], size: int = BATCH_TASKS) -> Iterator[Sequence[T]]:
    """The items in order, at most `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))
