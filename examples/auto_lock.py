"""A lock that Redis releases by itself: at most one refresh of a user in half a second."""

from __future__ import annotations

import threading
from typing import Any

from users import RefreshUser, urls

from interval_scheduler import Scheduler

refreshed, skipped = threading.Event(), threading.Event()

with Scheduler(urls()) as scheduler:

    def refresh(payload: dict[str, Any]) -> None:
        if scheduler.try_auto_lock(f"refresh:{payload['user_id']}", seconds=0.5):
            print("refreshing")
            refreshed.set()
        else:
            print("refreshed a moment ago: skipped")
            skipped.set()

    scheduler.start_task_accept()
    scheduler.assign_task(RefreshUser(1, interval=0.1))
    scheduler.start_task_execute(refresh)
    refreshed.wait(20)
    skipped.wait(20)
    scheduler.clear_all_tasks()
