"""Two users, each refreshed again and again."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from users import RefreshUser, urls

from interval_scheduler import Scheduler, current_execution

runs: Counter[str] = Counter()
done = threading.Event()

with Scheduler(urls()) as scheduler:

    def refresh(payload: dict[str, Any]) -> None:
        execution = current_execution()
        print(f"refreshing user {payload['user_id']}, due {execution.due:%H:%M:%S.%f}")
        runs[execution.id] += 1
        if len(runs) == 2 and min(runs.values()) >= 3:
            done.set()

    scheduler.start_task_accept()
    print("new:", scheduler.assign_task(RefreshUser(1, interval=0.2)))
    print("new:", scheduler.assign_task(RefreshUser(2, interval=0.2)))
    print("new:", scheduler.assign_task(RefreshUser(2, interval=0.2)))
    scheduler.start_task_execute(refresh)
    done.wait(20)
    print("removed:", scheduler.remove_task(RefreshUser(1)), scheduler.remove_task("user:2"))
