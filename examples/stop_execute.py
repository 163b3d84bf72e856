"""Stops running handlers; tasks are still accepted."""

from __future__ import annotations

import threading

from users import RefreshUser, urls

from interval_scheduler import Scheduler

called = threading.Event()

with Scheduler(urls()) as scheduler:
    scheduler.start_task_accept()
    scheduler.start_task_execute(lambda payload: called.set())
    scheduler.assign_task(RefreshUser(1, interval=0.1))
    called.wait(20)
    scheduler.stop_task_execute()
    print("executing:", scheduler.executing_tasks)
    print("accepted:", scheduler.assign_task(RefreshUser(2)))
    scheduler.clear_all_tasks()
