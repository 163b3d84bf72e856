"""Installs peers, each in an environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys

from .registry import Peer


class NotInstalled(Exception):
    """A peer cannot be installed; the message says why."""


def install(peer: Peer) -> None:
    """Installs a peer again from the start, and marks it as ready once everything is there.

    Raises:
        NotInstalled: pip or npm fails, or there is no Node.
    """
    if peer.node and shutil.which(peer.program) is None:
        raise NotInstalled(f"it runs on Node, and there is no {peer.program} on the PATH")
    try:
        shutil.rmtree(peer.folder, ignore_errors=True)
        peer.folder.mkdir(parents=True)
        if peer.node:
            (peer.folder / "package.json").write_text("{}")
            _run(["npm", "install", "--silent", "--no-audit", "--no-fund", *peer.requirements], peer)
        else:
            _run([sys.executable, "-m", "venv", str(peer.folder)], peer)
            _run([peer.program, "-m", "pip", "install", "-q", "--disable-pip-version-check", *peer.requirements], peer)
        (peer.folder / "ready").touch()
    except OSError as error:
        raise NotInstalled(str(error)) from error


def _run(command: list[str], peer: Peer) -> None:
    done = subprocess.run(command, cwd=peer.folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())[-300:]
        raise NotInstalled(f"{command[0]} exits with {done.returncode}: {reason}")
