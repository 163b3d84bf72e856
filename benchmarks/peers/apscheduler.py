"""APScheduler 3 with its Redis job store."""

from __future__ import annotations

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.redis import RedisJobStore
from apscheduler.schedulers.background import BackgroundScheduler

from ..adapter import SETTINGS, Description, forever, in_threads, job

DESCRIPTION = Description(
    ("apscheduler", "redis", "hiredis"),
    "BackgroundScheduler and RedisJobStore, 10 pool threads, misfire_grace_time=None; a job in memory every second, so "
    "that the worker notices jobs that another process added (nothing else tells it); crash: nothing to set, jobs are "
    "removed before they run",
    "4 threads calling add_job (no batch call)",
    "grid",
)


def scheduler():
    return BackgroundScheduler(
        jobstores={"default": RedisJobStore(host="127.0.0.1", port=SETTINGS.port), "memory": MemoryJobStore()},
        executors={"default": ThreadPoolExecutor(SETTINGS.concurrency or 10)},
        timezone="UTC",
        job_defaults={"misfire_grace_time": None, "coalesce": False, "max_instances": 10},
    )


def wake_up():
    """Does nothing: the scheduler looks at its stores on the way."""


class Client:
    def __init__(self):
        self._scheduler = scheduler()
        self._scheduler.start(paused=True)

    def one(self, item):
        self._scheduler.add_job(job, "date", run_date=item.moment, args=(item.payload,))

    def bulk(self, items):
        in_threads(self.one, items)

    def recurring(self, item, seconds):
        # Its grid begins at start_date, but for a first run at that very moment it has to be asked.
        self._scheduler.add_job(
            job,
            "interval",
            seconds=seconds,
            start_date=item.moment,
            next_run_time=item.moment,
            args=(item.payload,),
            id=f"tick-{item.number}",
        )


def client():
    return Client()


def work():
    running = scheduler()
    running.add_job(wake_up, "interval", seconds=1, jobstore="memory")
    running.start()
    forever()
