"""Installs the peers, each in an environment of its own: ``python -m benchmarks.peers setup [NAME…]``."""

from __future__ import annotations

import argparse
import sys

from .install import NotInstalled, install
from .registry import HOME, PEERS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("command", choices=["setup", "list"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(PEERS)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - PEERS.keys():
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    failed = 0
    for name in arguments.names or PEERS:
        peer = PEERS[name]
        if arguments.command == "list":
            print(f"{name}: {'installed' if peer.installed else 'not installed'}")
            continue
        try:
            install(peer)
            print(f"{name}: installed in {HOME}", flush=True)
        except NotInstalled as error:
            failed = 1
            print(f"{name}: not installed: {error}", file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
