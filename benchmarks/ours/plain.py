"""The blocking scheduler: `Scheduler`, its handler a plain function, run in threads. Everything at its default."""

from __future__ import annotations

from collections.abc import Sequence

from interval_scheduler import Scheduler

from ..adapter import Description, Item, forever, job
from .jobs import Job
from .options import options

DESCRIPTION = Description(
    ("interval-scheduler", "redis", "hiredis", "msgpack"), "default options", "assign_tasks", "grid"
)


class Client:
    def __init__(self) -> None:
        self._scheduler = Scheduler(options())
        self._scheduler.start_task_accept()

    def one(self, item: Item) -> None:
        self._scheduler.assign_task(Job(item))

    def bulk(self, items: Sequence[Item]) -> None:
        self._scheduler.assign_tasks(Job(item) for item in items)

    def recurring(self, item: Item, seconds: float) -> None:
        self._scheduler.assign_task(Job(item, seconds))


def client() -> Client:
    return Client()


def work() -> None:
    scheduler = Scheduler(options())
    scheduler.start_task_execute(job)
    forever()
