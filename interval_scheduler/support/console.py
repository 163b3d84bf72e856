"""Lines for whoever watches a program: on stderr, as long as somebody reads it."""

from __future__ import annotations

import os
import sys


def say(line: str) -> None:
    """Writes a line to stderr. A program whose reader has gone goes on, and writes to nobody from then on."""
    if sys.stderr is None:
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:  # as behind `| head`, or where the terminal or the log daemon has ended
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)
