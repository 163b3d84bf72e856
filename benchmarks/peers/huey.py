"""huey, with greenlets."""

from __future__ import annotations

import logging
import sys

if "work" in sys.argv:
    # Before anything else makes locks or sockets.
    from gevent import monkey

    monkey.patch_all()

from huey import RedisHuey

from ..adapter import SETTINGS, Description, in_threads, job

DESCRIPTION = Description(
    ("huey", "redis", "hiredis", "gevent"),
    "RedisHuey(results=False), 10 gevent workers on BRPOP, scheduler_interval=1 s (the shortest allowed); "
    "crash: nothing to set, it has no acknowledgement",
    "4 threads calling task.schedule() (no batch call)",
    "no: periodic tasks are fixed in code, by the minute",
)
logging.disable(logging.WARNING)
huey = RedisHuey("peer", host="127.0.0.1", port=SETTINGS.port, results=False, utc=True)


@huey.task(name="benchmark")
def benchmark(payload):
    job(payload)


class Client:
    def one(self, item):
        # An aware time: a naive one is cut to the whole second.
        benchmark.schedule((item.payload,), eta=item.moment)

    def bulk(self, items):
        in_threads(self.one, items)


def client():
    return Client()


def work():
    huey.create_consumer(
        workers=SETTINGS.concurrency or 10,
        worker_type="greenlet",
        periodic=False,
        scheduler_interval=1,
        check_worker_health=False,
    ).run()
