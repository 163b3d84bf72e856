"""Deletes all tasks, in bounded steps."""

from __future__ import annotations

from users import RefreshUser, urls

from interval_scheduler import Scheduler

with Scheduler(urls()) as scheduler:
    scheduler.start_task_accept()
    print(scheduler.assign_tasks(RefreshUser(number) for number in range(3000)))
    print("cleared:", scheduler.clear_all_tasks())
    print("left:", scheduler.task_size(), "tasks in", scheduler.queue_size(), "buckets")
