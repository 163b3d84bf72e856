"""A TCP proxy before one server that can delay, cut, silently swallow, and lose the reply of exactly one command."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from interval_scheduler.protocol.scripts import script

Direction = Literal["requests", "answers"]


class Frames:
    """Cuts a stream of the Redis protocol (RESP2) into whole frames: commands one way, replies the other."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The frames that `data` completes."""
        self._buffer += data
        while end := _end_of_frame(self._buffer, 0):
            frame = bytes(self._buffer[:end])
            del self._buffer[:end]
            yield frame


def _end_of_frame(data: bytearray, at: int) -> int:
    """Where the frame that begins at `at` ends; 0 where it is not complete."""
    line = data.find(b"\r\n", at) + 2
    if line < 2:
        return 0
    kind = data[at : at + 1]
    if kind in b"+-:":
        return line
    count = int(data[at + 1 : line - 2])
    if kind == b"$":
        end = line if count < 0 else line + count + 2
        return end if end <= len(data) else 0
    for _ in range(max(count, 0)):
        line = _end_of_frame(data, line)
        if not line:
            return 0
    return line


@dataclass
class LostReplies:
    """The replies of one script that get lost: `skip` of them pass, then `left` do not.

    The connection is reset in place of the reply, or, if `silent`, stays open and never brings anything again.
    """

    sha: bytes
    skip: int
    left: int
    silent: bool
    lost: int = 0
    passed: int = 0

    def takes(self, reply: bytes) -> bool:
        """Whether this reply to the script gets lost. One of NOSCRIPT was not carried out, and does not count."""
        if reply.startswith(b"-NOSCRIPT"):
            return False
        if self.passed < self.skip or not self.left:
            self.passed += 1
            return False
        self.left -= 1
        self.lost += 1
        return True


class _Link:
    """One connection through the proxy."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        self.forsaken = False
        """Whether nothing comes through any more, either way, though it stays open."""
        self.waiting: deque[bytes] = deque()
        """The commands that were not answered yet."""
        self.listens = False
        """Whether it carries hints, which answer to no command."""

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Proxy:
    """Forwards connections to a port of this machine, from an event loop in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._delay = 0.0
        self._swallowed: Direction | None = None
        self._losing: LostReplies | None = None
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-proxy", daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def delay(self, seconds: float) -> None:
        """From now on every answer comes that much later."""
        self._delay = seconds

    def swallow(self, direction: Direction) -> None:
        """From now on one direction vanishes without a trace; connections stay open."""
        self._swallowed = direction

    def lose_replies(self, name: str, times: int = 1, *, skip: int = 0, silent: bool = False) -> LostReplies:
        """Loses the replies to the next `times` calls of a script, after `skip` of them; replaces what was lost before.

        They are carried out, and whoever sent them does not hear of it.
        """
        self._losing = LostReplies(script(name).sha.encode(), skip, times, silent)
        return self._losing

    def restore(self) -> None:
        """Forwards as before. Streams with holes in them are cut, as by a peer that knows no such connection."""
        torn, self._swallowed, self._delay = self._swallowed, None, 0.0
        if torn is not None:
            self.cut()

    def cut(self) -> None:
        """Resets all connections; new ones are accepted."""

        async def abort() -> None:
            for link in self._links:
                link.abort()

        self._run(abort())

    def forsake(self) -> None:
        """Leaves all connections open that there are, without ever bringing anything again; new ones work."""

        async def forsake() -> None:
            for link in self._links:
                link.forsaken = True

        self._run(forsake())

    def retarget(self, port: int) -> None:
        """Leads new connections to another server, as a name that was given to another address."""
        self._target_port = port

    def stop(self) -> None:
        """Closes everything and ends the thread."""

        async def close() -> None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self.cut()
        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, onward_writer)
        self._links.add(link)
        pumps = {
            self._loop.create_task(self._pump(link, reader, onward_writer, "requests")),
            self._loop.create_task(self._pump(link, onward_reader, writer, "answers")),
        }
        self._tasks |= pumps
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        link.abort()
        await asyncio.wait(pumps)
        self._tasks -= pumps
        self._links.discard(link)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        frames = Frames()
        try:
            while data := await reader.read(65536):
                if self._delay and direction == "answers":
                    await asyncio.sleep(self._delay)
                for frame in frames.feed(data):
                    if self._swallowed == direction or link.forsaken:
                        continue
                    if direction == "requests":
                        self._note(link, frame)
                    elif self._loses(link, frame):
                        continue
                    if writer.is_closing():
                        return
                    writer.write(frame)
                await writer.drain()
        except OSError:
            return

    def _note(self, link: _Link, command: bytes) -> None:
        if b"SUBSCRIBE" in command[:40]:
            link.listens = True
        link.waiting.append(command)

    def _loses(self, link: _Link, reply: bytes) -> bool:
        if link.listens:
            return False
        command = link.waiting.popleft()
        if self._losing is None or self._losing.sha not in command[:100] or not self._losing.takes(reply):
            return False
        link.forsaken = True  # whatever follows in the same stream would answer to the wrong command
        if not self._losing.silent:
            link.abort()
        return True
