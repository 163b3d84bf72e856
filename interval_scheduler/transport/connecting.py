"""Opening a connection to an instance: the steps and decisions that the blocking and the asyncio transport share.

The steps are a generator that never waits: it yields what to call, and is sent the result. `carry_out` does that for
threads, `carry_out_async` on an event loop, where a result may be something to await. psycopg 3 opens its connections
in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from ..model.errors import EmbeddedServerError, InvalidOptions, PartitionUnavailable, UnusableInstance
from ..protocol.commands import Command
from ..support.forks import held_back
from ..support.threads import in_thread
from .endpoint import Endpoint
from .failures import raise_interruption
from .resp import INFO, run_id

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InThread:
    """A step that blocks for long: on an event loop it is done in another thread."""

    call: Callable[[], object]


Steps = Generator["Callable[[], Any] | InThread", Any, T]


class Generation:
    """Which connections to an instance are believed to work, shared by all those of one transport.

    A network that swallows everything in silence mostly does so for all connections, and each would take the whole
    deadline of an answer to notice. So when a connection of the current generation is lost, the next generation begins:
    older connections are opened anew before they are used again.
    """

    def __init__(self) -> None:
        self.current = 0

    def end(self, generation: int) -> None:
        """A connection of a generation was lost. If it was an older one, that says nothing about newer ones."""
        if generation == self.current:
            self.current += 1


class Opener(Protocol):
    """What a transport adds to the steps. `ask`, `give_up` and `execute_first` may give something to await."""

    endpoint: Endpoint
    generation: Generation
    pool: Any
    """redis-py's, which only makes connections; None until the first one."""

    def new_pool(self) -> Any:
        """A pool of redis-py for the endpoint."""

    def ask(self, connection: Any, packed: bytes) -> Any:
        """Sends one packed command on a connection of redis-py, and gives its reply; an error of the server too."""

    def give_up(self, connection: Any) -> Any:
        """Closes a connection of redis-py."""

    def take_over(self, connection: Any, run_id: str, generation: int) -> Any:
        """The connection of the transport, over one of redis-py on which nothing is under way."""

    def execute_first(self, connection: Any, command: Command) -> Any:
        """The reply to one command on a connection that was taken over."""


def connect(opener: Opener) -> Steps[Any]:
    """Opens a connection. A private server that does not answer is started again, once.

    Raises:
        PartitionUnavailable: the instance cannot be reached, or its server must not be used; `UnusableInstance` where
            something must be corrected first.
        EmbeddedServerError, InvalidOptions: this machine cannot start a private server, or lacks software for it.
    """
    failure = None
    for is_last in (False, True):
        try:
            return (yield from _attempt(opener))
        except (PartitionUnavailable, EmbeddedServerError, InvalidOptions):
            raise
        except Exception as error:
            raise_interruption(error)
            # Raised below: what is raised here has the error as its context, and that may repeat a password.
            failure = yield InThread(partial(opener.endpoint.failure, error))
        if is_last or isinstance(failure, UnusableInstance):
            break
        yield InThread(opener.endpoint.revive)
    assert failure is not None
    raise failure


def _attempt(opener: Opener) -> Steps[Any]:
    if opener.pool is None:
        yield InThread(opener.endpoint.open)
    with held_back:  # redis-py imports some of its modules only now
        if opener.pool is None:
            opener.pool = opener.new_pool()
        connection = opener.pool.make_connection()
    generation = opener.generation.current
    try:
        # What redis-py cannot understand while it connects, it leaves open.
        yield connection.connect
        server_run_id, handshake = yield from _examine(opener, connection)
    except GeneratorExit:
        raise
    except BaseException:
        yield partial(opener.give_up, connection)
        raise
    opener.endpoint.has_worked = True
    opened = opener.take_over(connection, server_run_id, generation)
    if handshake is not None:
        try:
            yield from _shake_hands(opener, opened, handshake)
        except GeneratorExit:
            raise
        except BaseException:
            yield opened.close
            raise
    return opened


def _examine(opener: Opener, connection: Any) -> Steps[tuple[str, Command | None]]:
    """Learns how the server is set up and which start of it answers, and what must be sent first, if anything.

    Raises:
        UnsuitableServer: where the connection must not be used.
    """
    endpoint = opener.endpoint
    if endpoint.loss_detector is None:
        return "", None
    info = yield partial(opener.ask, connection, INFO)
    if endpoint.inspection is not None:
        endpoint.inspection.examine(endpoint.name, info)
    server_run_id = run_id(info)
    return server_run_id, endpoint.loss_detector.connect(endpoint.name, server_run_id)


def _shake_hands(opener: Opener, opened: Any, handshake: Command) -> Steps[None]:
    """Sends the handshake before anything else, so that the loss detector hears what the server still has."""
    reply = yield partial(opener.execute_first, opened, handshake)
    if not opened.is_open:
        raise reply  # a replica answered
    assert opener.endpoint.loss_detector is not None
    opener.endpoint.loss_detector.take_handshake(handshake, reply)


def carry_out(steps: Steps[T]) -> T:
    """Carries out steps in this thread."""
    try:
        step = next(steps)
        while True:
            try:
                result = step.call() if isinstance(step, InThread) else step()
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


async def carry_out_async(steps: Steps[T]) -> T:
    """Carries out steps on the running event loop."""
    try:
        step = next(steps)
        while True:
            try:
                if isinstance(step, InThread):
                    result: Any = await in_thread(step.call)
                else:
                    result = await step()
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
