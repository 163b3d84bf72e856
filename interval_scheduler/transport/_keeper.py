"""Keeps one private Redis server for as long as somebody uses it. Run as a program by `embedded`, by its path.

Arguments: the folder, then the command line of the server. Needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading


def _end_with_parent() -> None:
    """The server must not outlive a killed keeper (Linux: PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def main(folder: str, command: list[str]) -> int:
    # Terminal signals are for the programs that use the server, not for the server.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with open(os.path.join(folder, "server.log"), "ab") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_end_with_parent
        )
    with open(os.path.join(folder, "pid"), "w") as pid:
        pid.write(str(server.pid))
    users = os.open(os.path.join(folder, "users"), os.O_RDWR)

    def wait_for_the_last_user() -> None:
        # Every user holds a shared lock, which the kernel takes back from one that is killed. Holding it exclusively
        # until the server is gone makes a user that comes meanwhile wait for a fresh one.
        fcntl.flock(users, fcntl.LOCK_EX)
        server.terminate()

    threading.Thread(target=wait_for_the_last_user, daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
