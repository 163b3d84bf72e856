"""Installs the peers, each in an environment of its own: ``python -m benchmarks.peers setup [NAME…]``."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys

from .registry import HOME, PEERS, Peer


def install(peer: Peer) -> None:
    """Installs one peer anew, and marks it ready once everything is there.

    Raises:
        CalledProcessError: where pip or npm fails.
    """
    shutil.rmtree(peer.folder, ignore_errors=True)
    peer.folder.mkdir(parents=True)
    if peer.node:
        (peer.folder / "package.json").write_text("{}")
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", *peer.requirements]
        subprocess.run(npm, cwd=peer.folder, check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", str(peer.folder)], check=True)
        pip = [peer.program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements]
        subprocess.run(pip, check=True)
    (peer.folder / "ready").touch()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("command", choices=["setup", "list"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, unless named: {', '.join(PEERS)}")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - PEERS.keys()
    if unknown:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    failed = 0
    for name in arguments.names or PEERS:
        peer = PEERS[name]
        if arguments.command == "list":
            print(f"{name}: {'installed' if peer.installed else 'not installed'}")
        elif peer.node and shutil.which(peer.program) is None:
            print(f"{name}: skipped, it runs on Node and there is no {peer.program} on the PATH")
        else:
            try:
                install(peer)
                print(f"{name}: installed in {HOME}", flush=True)
            except (OSError, subprocess.CalledProcessError) as error:
                failed = 1
                print(f"{name}: not installed: {error}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
