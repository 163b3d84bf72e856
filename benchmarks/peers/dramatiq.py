"""dramatiq, with threads."""

from __future__ import annotations

import os
import sys
import time

from ..adapter import POLL_SECONDS, SETTINGS, Description, forever, in_threads, job

if "work" in sys.argv:
    # Read when the library is imported.
    os.environ["dramatiq_delay_queue_prefetch"] = "65535"  # noqa: SIM112 - its name
    os.environ["dramatiq_queue_prefetch"] = "0" if SETTINGS.recovery_seconds else "1000"  # noqa: SIM112

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

DESCRIPTION = Description(
    ("dramatiq", "redis", "hiredis"),
    "RedisBroker, 8 worker threads, only the Retries middleware, worker_timeout 20 ms (default 1000), delay-queue "
    "prefetch 65535, queue prefetch 1000; crash: heartbeat_timeout=5 s (default 60), queue prefetch default",
    "4 threads calling send_with_options(delay=) (no batch call)",
    "no: there are no recurring tasks in the library",
)
_options = {"heartbeat_timeout": int(SETTINGS.recovery_seconds * 1000)} if SETTINGS.recovery_seconds else {}
broker = RedisBroker(host="127.0.0.1", port=SETTINGS.port, middleware=[Retries()], **_options)
dramatiq.set_broker(broker)


@dramatiq.actor(actor_name="benchmark", max_retries=3)
def benchmark(payload):
    job(payload)


class Client:
    def one(self, item):
        delay = max(0, int((item.due - time.time()) * 1000 + 0.999))
        benchmark.send_with_options(args=(item.payload,), delay=delay)

    def bulk(self, items):
        in_threads(self.one, items)


def client():
    return Client()


def work():
    dramatiq.Worker(broker, worker_threads=SETTINGS.concurrency or 8, worker_timeout=int(POLL_SECONDS * 1000)).start()
    forever()
