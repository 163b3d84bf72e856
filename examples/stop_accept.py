"""Stops accepting tasks; handlers still run."""

from __future__ import annotations

import threading

from users import RefreshUser, urls

from interval_scheduler import NotAcceptingTasks, Scheduler

called = threading.Event()

with Scheduler(urls()) as scheduler:
    scheduler.start_task_accept()
    scheduler.assign_task(RefreshUser(1, interval=0.1))
    scheduler.stop_task_accept()
    print("accepting:", scheduler.accepting_tasks)
    try:
        scheduler.assign_task(RefreshUser(2))
    except NotAcceptingTasks as error:
        print("refused:", error)
    scheduler.start_task_execute(lambda payload: called.set())
    print("still executing:", called.wait(20))
    scheduler.clear_all_tasks()
