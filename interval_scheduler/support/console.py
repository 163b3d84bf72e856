"""Lines for whoever watches a program: on stderr, as long as somebody reads it."""

from __future__ import annotations

import errno
import os
import sys

_GONE = (errno.EPIPE, errno.EIO)
"""The reader of a pipe has ended, as behind `| head` or with a log daemon; or the terminal has."""


def say(line: str) -> None:
    """Writes a line to stderr, if that can be done. A program whose reader has gone writes to nobody from then on."""
    if sys.stderr is None or sys.stderr.closed:
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError as error:  # a full disk may be emptied again
        if error.errno in _GONE:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stderr.fileno())
            os.close(nowhere)
