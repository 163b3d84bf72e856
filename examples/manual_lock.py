"""A lock that is given back by hand (or after 24 hours), with a fencing token for what it protects."""

from __future__ import annotations

import threading
from typing import Any

from users import RefreshUser, urls

from interval_scheduler import Scheduler

finished = threading.Event()

with Scheduler(urls()) as scheduler:

    def refresh(payload: dict[str, Any]) -> None:
        lock = scheduler.try_lock(f"user:{payload['user_id']}")
        if lock is None:
            print("somebody else works on this user: ignored")
            return
        print("locked, with a fencing token:", lock.fencing_token > 0)
        print("extended:", lock.extend(seconds=60))
        print("unlocked:", scheduler.unlock(lock), "and not twice:", scheduler.unlock(lock))
        finished.set()

    scheduler.start_task_accept()
    scheduler.assign_task(RefreshUser(1))
    scheduler.start_task_execute(refresh)
    finished.wait(20)

    with scheduler.lock("maintenance") as lock:
        print("holding", lock.name)
    scheduler.clear_all_tasks()
