"""One worker of the demo, as a process of its own. It notes each run in a file that stays when it is killed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from ..scheduler import Scheduler
from ..worker.run import current_execution

WORK_SECONDS = 0.15
"""How long a run of the demo takes, so that some are live when the worker is killed."""


def recorder(path: str, name: str) -> Callable[[object], None]:
    """Makes a handler that writes a line when a run starts and one when it ends."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def handler(_payload: object) -> None:
        execution = current_execution()
        started = time.time()
        note = {
            "worker": name,
            "id": execution.id,
            "due": round(execution.due.timestamp() * 1000),
            "token": execution.fencing_token,
        }
        os.write(descriptor, json.dumps(note | {"started": started}).encode() + b"\n")
        time.sleep(WORK_SECONDS)  # the work
        os.write(descriptor, json.dumps(note | {"ended": time.time()}).encode() + b"\n")

    return handler


def main() -> None:
    """Runs the worker until it is stopped. The one argument is JSON: options, path and name."""
    settings = json.loads(sys.argv[1])
    with Scheduler(settings["options"]) as scheduler:
        scheduler.start_task_execute(recorder(settings["path"], settings["name"]))
        print("ready", flush=True)
        scheduler.wait()


if __name__ == "__main__":
    main()
