"""A TCP proxy before one server that can delay, cut, and silently swallow one direction."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Literal

Direction = Literal["requests", "answers"]


class Proxy:
    """Forwards connections to a port of this machine, from an event loop in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._delay = 0.0
        self._swallowed: Direction | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-proxy", daemon=True)
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

    def restore(self) -> None:
        """Forwards as before. Streams with holes in them are cut, as by a peer that knows no such connection."""
        torn, self._swallowed, self._delay = self._swallowed, None, 0.0
        if torn is not None:
            self.cut()

    def cut(self) -> None:
        """Resets all connections; new ones are accepted."""

        async def abort() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._run(abort())

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
        pair = {writer, onward_writer}
        self._writers |= pair
        pumps = {
            self._loop.create_task(self._pump(reader, onward_writer, "requests")),
            self._loop.create_task(self._pump(onward_reader, writer, "answers")),
        }
        self._tasks |= pumps
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for one in pair:
            one.transport.abort()
        await asyncio.wait(pumps)
        self._tasks -= pumps
        self._writers -= pair

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        try:
            while data := await reader.read(65536):
                if self._swallowed == direction:
                    continue
                if self._delay and direction == "answers":
                    await asyncio.sleep(self._delay)
                writer.write(data)
                await writer.drain()
        except OSError:
            return
