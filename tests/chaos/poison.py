"""A handler for ``interval-scheduler worker tests.chaos.poison:handler`` that a payload can make kill its process.

It notes the start and the end of every run in the file that the variable ``POISON_JOURNAL`` names.
"""

from __future__ import annotations

import asyncio
import os
import signal

from interval_scheduler import current_execution
from tests.chaos.journal import Journal

_journal = Journal(os.environ["POISON_JOURNAL"])


async def handler(payload: str) -> None:
    """Works for a moment; with the payload "kill" it kills the process, and everything that runs in it."""
    execution = current_execution()
    key = {"id": execution.id, "pid": os.getpid(), "token": execution.fencing_token}
    _journal.write("begun", **key)
    await asyncio.sleep(0.05)  # the work
    if payload == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.05)  # the rest of it, which a killer does not let others do
    _journal.write("ended", **key)
