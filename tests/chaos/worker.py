"""A worker process: ``python -m tests.chaos.worker '{"options": …, "journal": …, "kind": "plain"}'``.

Its handler notes the start and the end of every run, and does what the payload asks for. Payload keys: ``version``;
``work``: seconds of work; ``do``: "work" (default), "fail" (on the first attempt), or "block" (keeps the interpreter
busy instead of waiting); ``deed``: what a hostile handler does (`testing.hostility`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from interval_scheduler import Event, Scheduler, current_execution
from interval_scheduler.testing.hostility import DEEDS, ENDS, Deed
from tests.chaos.journal import Journal

SLICE_SECONDS = 0.05
"""Work is done in slices, between which a run looks at its lease."""
_NO_DEED = Deed(lambda _payload: None, ENDS)
EVENTS = ("lease-lost", "data-loss", "task-dead")


class AskedToFail(Exception):
    """What a handler raises when its payload says so."""


class Handlers:
    """The two kinds of handlers over one description of what a run does."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def plain(self, payload: Any) -> Any:
        deed = DEEDS.get(payload.get("deed"))
        for seconds in self._steps(payload):
            time.sleep(seconds)  # the work
        return None if deed is None else deed.do(payload)

    async def coroutine(self, payload: Any) -> Any:
        deed = DEEDS.get(payload.get("deed"))
        for seconds in self._steps(payload):
            await asyncio.sleep(seconds)  # the work
        result: Any = None if deed is None else deed.do(payload)
        return await result if hasattr(type(result), "__await__") else result

    def _steps(self, payload: Any) -> Iterator[float]:
        """Notes start and end around the work; yields the seconds to wait next."""
        execution = current_execution()
        started = time.time()
        lease = execution.lease_deadline.timestamp()
        key = {"id": execution.id, "token": execution.fencing_token, "process": str(os.getpid())}
        self._journal.write(
            "start",
            **key,
            version=payload["version"],
            due=round(execution.due.timestamp() * 1000),
            attempt=execution.attempt,
            partition=execution.partition,
            start=started,
            lease=lease,
        )
        how = "cancelled"
        try:
            what = payload.get("do", "work")
            until = time.monotonic() + payload["work"]
            while (left := until - time.monotonic()) > 0:
                if what != "block":
                    yield min(left, SLICE_SECONDS)
                deadline = execution.lease_deadline.timestamp()
                if not execution.lease_lost:
                    lease = deadline
            if what == "fail" and execution.attempt == 1:
                how = "failed"
                raise AskedToFail
            how = "done" if DEEDS.get(payload.get("deed"), _NO_DEED).follows == ENDS else "failed"
        finally:
            self._journal.write("end", **key, end=time.time(), lease=lease, how=how)


def listen(scheduler: Scheduler, journal: Journal) -> None:
    """Notes what the scheduler tells about losses."""

    def note(event: Event) -> None:
        # Also of what hostile handlers raised: whatever the text of that raises is contained.
        details = {name: str(value) for name, value in event.details.items()}
        journal.write("event", name=event.name, pid=os.getpid(), at=time.time(), details=details)

    for name in EVENTS:
        scheduler.on(name, note)


def plain_log() -> logging.Logger:
    """A log of few words, on stderr."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    return logging.getLogger("chaos")


def announce_ready() -> None:
    """Tells the parent; what is printed from now on goes with the errors, since nobody reads this pipe any more."""
    print("ready", flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def main() -> None:
    settings = json.loads(sys.argv[1])
    journal = Journal(settings["journal"])
    handlers = Handlers(journal)
    with Scheduler(settings["options"], plain_log()) as scheduler:
        listen(scheduler, journal)
        scheduler.start_task_execute(handlers.plain if settings["kind"] == "plain" else handlers.coroutine)
        announce_ready()
        scheduler.wait(grace=1)


if __name__ == "__main__":
    main()
