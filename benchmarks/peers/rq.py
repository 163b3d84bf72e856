"""rq, with its built-in scheduler."""

from __future__ import annotations

import logging

from redis import Redis
from rq import Queue, Repeat, Retry, SimpleWorker
from rq.timeouts import TimerDeathPenalty

from ..adapter import SETTINGS, Description, job

DESCRIPTION = Description(
    ("rq", "redis", "hiredis"),
    "SimpleWorker (no fork per job) with its built-in scheduler (a forked child that looks every 1 s), result_ttl=0; "
    "crash: Retry(max=3), job timeout 5 s, maintenance every 5 s",
    "create_job and schedule_job on one pipeline, 500 a batch",
    "first run",
)
BATCH = 500
logging.disable(logging.INFO)


def queue():
    return Queue(connection=Redis(port=SETTINGS.port))


class Client:
    def __init__(self):
        self._queue = queue()
        self._timeout = 5 if SETTINGS.recovery_seconds else 180
        self._options = {"result_ttl": 0}
        if SETTINGS.recovery_seconds:
            self._options["retry"] = Retry(max=3)

    def one(self, item):
        self._queue.enqueue_at(item.moment, job, item.payload, job_timeout=self._timeout, **self._options)

    def bulk(self, items):
        for start in range(0, len(items), BATCH):
            with self._queue.connection.pipeline() as pipeline:
                for item in items[start : start + BATCH]:
                    made = self._queue.create_job(job, args=(item.payload,), timeout=self._timeout, **self._options)
                    self._queue.schedule_job(made, item.moment, pipeline=pipeline)
                pipeline.execute()

    def recurring(self, item, seconds):
        self._queue.enqueue(job, item.payload, result_ttl=0, repeat=Repeat(times=1000, interval=int(seconds)))


def client():
    return Client()


class ThreadTimedWorker(SimpleWorker):
    """Without signals, which would be set for every job."""

    death_penalty_class = TimerDeathPenalty


def work():
    options = {"maintenance_interval": int(SETTINGS.recovery_seconds)} if SETTINGS.recovery_seconds else {}
    worker = ThreadTimedWorker([queue()], connection=Redis(port=SETTINGS.port), **options)
    worker.work(with_scheduler=True, logging_level="WARNING")
