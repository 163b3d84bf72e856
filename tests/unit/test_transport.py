"""What a server says at the wrong moment, and what callers do: said by a peer that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import hiredis
import pytest

from interval_scheduler import EmbeddedServerError, PartitionUnavailable, Scheduler
from interval_scheduler.model.instances import Instance
from interval_scheduler.protocol.commands import Command, Partition
from interval_scheduler.protocol.scripts import script
from interval_scheduler.servers.data_loss import LossDetector
from interval_scheduler.transport.aio import AsyncTransport
from interval_scheduler.transport.batching import Assignment, _hand_out
from interval_scheduler.transport.blocking import BlockingTransport
from interval_scheduler.transport.endpoint import Endpoint
from tests.tasks import Job, after, eventually

INFO = b"$12\r\nrun_id:abcde\r\n"
OK = b"*1\r\n$2\r\nok\r\n"
Say = Callable[[str, bytes], Awaitable[bytes]]


class Peer:
    """Speaks as a server: `say(script, argument)` gives what it answers to the call of a script."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.heard: list[str] = []
        self.opened: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened.append(writer)
        frames = hiredis.Reader()
        names = {script(name).sha.encode(): name for name in ("lock", "handshake")}
        try:
            while data := await reader.read(65536):
                frames.feed(data)
                while (command := frames.gets()) is not False:
                    answer = b"+OK\r\n"
                    if command[0] == b"INFO":
                        answer = INFO
                    elif command[0] == b"EVALSHA":
                        self.heard.append(names[command[1]])
                        answer = await self.say(names[command[1]], command[-1])
                    writer.write(answer)
        except ConnectionError:
            return  # a client that gave up
        finally:
            writer.close()

    async def stop(self) -> None:
        self._server.close()
        for writer in self.opened:
            writer.transport.abort()
        await self._server.wait_closed()

    def endpoint(self, *, handshakes: bool = False) -> Endpoint:
        endpoint = Endpoint(Instance("peer", "redis", {"host": "127.0.0.1", "port": self.port}))
        if handshakes:
            endpoint.loss_detector = LossDetector(lambda *_: None)
            endpoint.loss_detector.watch([Partition(0, "peer", "{x:0}:meta")])
        return endpoint


def command(argument: str) -> Command:
    return Command("peer", script("lock"), ("key",), (argument,), repeatable=True)


async def echo(_script: str, argument: bytes) -> bytes:
    """What was asked, some time later."""
    await asyncio.sleep(0.05)  # the way back
    return b"*1\r\n$%d\r\n%b\r\n" % (len(argument), argument)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    made = Peer(echo)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def transport(peer: Peer) -> AsyncIterator[AsyncTransport]:
    made = AsyncTransport({"peer": peer.endpoint()})
    yield made
    await made.close()


async def test_after_a_cancelled_task_of_the_transport_nobody_gets_the_answer_of_another(
    peer: Peer, transport: AsyncTransport
) -> None:
    """As at the end of a loop, which cancels all tasks: here the one that opened the connection, and waits on it."""
    before = asyncio.all_tasks()
    first = asyncio.create_task(transport.execute([command("one")]))
    await eventually(lambda: peer.heard)
    for task in asyncio.all_tasks() - before - {asyncio.current_task()}:
        if "Peer" not in repr(task):
            task.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await transport.execute([command("two")]) == [[b"two"]]
    assert await transport.execute([command("three")]) == [[b"three"]]


async def test_a_connection_whose_handshake_fails_is_not_used(peer: Peer) -> None:
    """A server that loads its data answers INFO, and nothing else."""

    async def loading(_script: str, _argument: bytes) -> bytes:
        return b"-LOADING Redis is loading the dataset in memory\r\n"

    async def loaded(name: str, _argument: bytes) -> bytes:
        return b"*3\r\n$2\r\nok\r\n$1\r\n1\r\n$7\r\nabcde:1\r\n" if name == "handshake" else OK

    transport = AsyncTransport({"peer": peer.endpoint(handshakes=True)})
    peer.say = loading
    for _ in range(3):
        [failure] = await transport.execute([command("one")])
        assert isinstance(failure, PartitionUnavailable)
        assert not failure.unknown_outcome
    assert set(peer.heard) == {"handshake"}
    peer.say = loaded
    peer.heard.clear()
    assert await transport.execute([command("two")]) == [[b"ok"]]
    assert peer.heard == ["handshake", "lock"]
    await transport.close()
    await eventually(lambda: all(writer.is_closing() for writer in peer.opened))


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_replica_that_answers_a_handshake_is_not_used(peer: Peer, blocking: bool) -> None:
    async def replica(_script: str, _argument: bytes) -> bytes:
        return b"-READONLY You can't write against a read only replica.\r\n"

    peer.say = replica
    endpoints = {"peer": peer.endpoint(handshakes=True)}
    if blocking:
        line = BlockingTransport(endpoints)
        [failure] = await asyncio.to_thread(line.execute, [command("one")])
        line.close()
    else:
        transport = AsyncTransport(endpoints)
        [failure] = await transport.execute([command("one")])
        await transport.close()
    assert isinstance(failure, PartitionUnavailable)
    assert "read only replica" in str(failure)
    assert not failure.unknown_outcome
    assert set(peer.heard) == {"handshake"}


async def test_who_calls_while_it_is_closed_is_refused_and_keeps_nothing_open(
    peer: Peer, transport: AsyncTransport
) -> None:
    await transport.execute([command("one")])
    hanging = asyncio.create_task(transport.execute([command("two")], pipeline="settle"))
    await eventually(lambda: len(peer.heard) == 2)
    closing = asyncio.create_task(transport.close())
    late = asyncio.create_task(transport.execute([command("three")], pipeline="claim"))
    await closing
    for failure in (*await hanging, *await late):
        assert isinstance(failure, PartitionUnavailable)
    await eventually(lambda: all(writer.is_closing() for writer in peer.opened))


async def test_what_a_callback_raises_stops_nobody_else(peer: Peer, transport: AsyncTransport) -> None:
    raised: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))

    def fail(_outcome: object) -> None:
        raise ZeroDivisionError

    await transport.execute([command("one")])
    transport.put(command("two"), fail)
    after = asyncio.create_task(transport.execute([command("three")]))
    assert await asyncio.wait_for(after, 5) in ([[b"three"]],) or isinstance(after.result()[0], PartitionUnavailable)
    assert await asyncio.wait_for(transport.execute([command("four")]), 5) == [[b"four"]]
    assert [type(error) for error in raised] == [ZeroDivisionError]


async def test_what_follows_a_single_call_does_not_hold_its_answer_back(peer: Peer, transport: AsyncTransport) -> None:
    for _ in range(2):  # the first one connects
        await transport.execute([command("warm")])
    held = asyncio.Event()

    async def say(name: str, argument: bytes) -> bytes:
        if argument == b"second":
            await held.wait()
        return await echo(name, argument)

    peer.say = say
    answered: list[object] = []
    transport.send(command("first"), answered.append)
    transport.put(command("second"), answered.append)
    transport.flush_ahead()
    await eventually(lambda: answered)
    held.set()
    await eventually(lambda: len(answered) == 2)


async def test_what_nobody_asked_for_ends_the_connection(peer: Peer, transport: AsyncTransport) -> None:
    await transport.execute([command("one")])
    peer.opened[-1].write(OK)
    await eventually(lambda: peer.opened[-1].is_closing())
    assert await transport.execute([command("two")]) == [[b"two"]]
    assert len(peer.opened) == 2


GARBAGE = b"what is this?\r\n"


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("answer", [GARBAGE, b"*1\r\n$5\r\nshort\r\n$-7\r\n"])
async def test_what_is_no_reply_ends_the_connection(peer: Peer, blocking: bool, answer: bytes) -> None:
    async def garbage(_script: str, _argument: bytes) -> bytes:
        return answer

    endpoints = {"peer": peer.endpoint()}
    transport, other = AsyncTransport(endpoints), BlockingTransport(endpoints)

    async def execute(argument: str) -> Any:
        if blocking:
            return (await asyncio.to_thread(other.execute, [command(argument)]))[0]
        return (await transport.execute([command(argument)]))[0]

    peer.say = garbage
    if answer == GARBAGE:
        failure = await execute("one")
        assert isinstance(failure, PartitionUnavailable)
        assert failure.unknown_outcome
    else:
        await execute("one")
    peer.say = echo
    assert await execute("two") == [b"two"]
    await transport.close()
    other.close()


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_server_that_became_a_replica_gets_no_more_on_this_connection(peer: Peer, blocking: bool) -> None:
    async def replica(_script: str, _argument: bytes) -> bytes:
        return b"-READONLY You can't write against a read only replica.\r\n"

    endpoints = {"peer": peer.endpoint()}
    transport, other = AsyncTransport(endpoints), BlockingTransport(endpoints)
    peer.say = replica
    for _ in range(2):
        if blocking:
            [failure] = await asyncio.to_thread(other.execute, [command("one")])
        else:
            [failure] = await transport.execute([command("one")])
        assert isinstance(failure, PartitionUnavailable)
        assert failure.refused
    assert len(peer.opened) == 2
    await transport.close()
    other.close()


async def test_a_connection_that_breaks_while_a_script_is_loaded_is_opened_again(
    peer: Peer, transport: AsyncTransport
) -> None:
    calls = 0

    async def forgets_then_breaks(_script: str, argument: bytes) -> bytes:
        nonlocal calls
        calls += 1
        if calls == 1:
            return b"-NOSCRIPT No matching script.\r\n"
        if calls == 2:
            raise ConnectionError
        return b"*1\r\n$%d\r\n%b\r\n" % (len(argument), argument)

    peer.say = forgets_then_breaks
    assert await transport.execute([command("one")]) == [[b"one"]]
    assert len(peer.opened) == 2


async def test_what_cannot_be_sent_ahead_is_sent_afterwards(peer: Peer, transport: AsyncTransport) -> None:
    """Behind calls that are under way: of an unknown script, or on a connection that takes no more."""
    for transports in (transport, AsyncTransport({"peer": Endpoint(Instance("peer", "memory", {"name": "ahead"}))})):
        replies: list[Any] = []
        await transports.execute([look("")])
        for argument in ("one", "two"):
            transports.put(look(argument), replies.append)
        transports.flush()
        transports.put(look("three"), replies.append)
        transports.put(unknown(), replies.append)
        transports.flush_ahead()
        await eventually(lambda: len(replies) == 4, 5)  # noqa: B023
    await transports.close()


def look(argument: str) -> Command:
    return Command("peer", script("lock"), ("key", "sequence"), ("release", argument, "1"), repeatable=True)


def unknown() -> Command:
    return Command("peer", script("handshake"), (), ("run",), repeatable=True)


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_stream_to_a_server_that_is_not_there(peer: Peer, blocking: bool) -> None:
    await peer.stop()
    endpoints = {"peer": peer.endpoint()}
    if blocking:
        other = BlockingTransport(endpoints)
        with other.stream() as send:
            for argument in ("one", "two"):
                [failure] = send(command(argument))()
                assert isinstance(failure, PartitionUnavailable)
                assert not failure.unknown_outcome
        other.close()
    else:
        transport = AsyncTransport(endpoints)
        [failure] = await transport.begin(command("one"))()
        assert isinstance(failure, PartitionUnavailable)
        await transport.close()


async def test_a_connection_that_cannot_be_written_to_is_replaced(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    other = BlockingTransport({"peer": peer.endpoint()})
    assert await asyncio.to_thread(other.execute, [command("one")]) == [[b"one"]]
    [(_, idle)] = other._pools["peer"]._idle

    def broken(_packed: bytes) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(idle, "send", broken)
    assert await asyncio.to_thread(other.execute, [command("two")]) == [[b"two"]]
    other.close()


def test_a_private_server_that_cannot_be_started_again_makes_its_instance_unavailable() -> None:
    endpoint = Endpoint(Instance("private", "embedded", {"path": "nowhere"}))

    class Server:
        def ensure_running(self) -> None:
            raise EmbeddedServerError("it does not answer")

    endpoint._server = Server()
    with pytest.raises(PartitionUnavailable, match="it does not answer"):
        endpoint.revive()


class TestAssignment:
    """What `assign_task` of an AsyncScheduler gives: a future that can be driven like a coroutine."""

    async def test_driven_by_a_task(self) -> None:
        assignment = Assignment(loop=asyncio.get_running_loop())
        task = asyncio.create_task(_as_coroutine(assignment))
        await asyncio.sleep(0)
        assignment.set_result(True)
        assert await task is True

    async def test_cancelled_before_it_began(self) -> None:
        assignment = Assignment(loop=asyncio.get_running_loop())
        with pytest.raises(ValueError, match="thrown"):
            assignment.throw(ValueError("thrown"))
        assert assignment.cancelled()

    @pytest.mark.parametrize("begun", [False, True])
    async def test_closed(self, begun: bool) -> None:
        assignment = Assignment(loop=asyncio.get_running_loop())
        if begun:
            assignment.send(None)
        assignment.close()
        assert assignment.cancelled() != begun
        assignment.cancel()

    async def test_whoever_waits_hears_what_is_wrong_with_this_machine(self) -> None:
        operations: Any = None
        assignment = Assignment(loop=asyncio.get_running_loop())
        _hand_out(operations, b"a", [assignment], EmbeddedServerError("no server"))
        with pytest.raises(EmbeddedServerError):
            await assignment


async def _as_coroutine(assignment: Assignment) -> bool:
    return await assignment


def test_what_is_in_memory_is_gone_when_its_last_user_was_closed() -> None:
    first, second = (Scheduler("memory://shared", partitions=2) for _ in range(2))
    for scheduler in (first, second):
        scheduler.start_task_accept()
    first.assign_task(Job("a", after(3600)))
    first.close()
    assert second.task_size() == 1
    second.close()
    with Scheduler("memory://shared", partitions=2) as third:
        assert third.task_size() == 0
