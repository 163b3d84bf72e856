"""celery, with threads."""

from __future__ import annotations

from celery import Celery

from ..adapter import SETTINGS, Description, job

DESCRIPTION = Description(
    ("celery", "kombu", "redis", "hiredis"),
    "Redis broker, a pool of 10 threads, prefetch_multiplier=100, no results, events, gossip, mingle, heartbeat or "
    "rate limits, visibility_timeout=4 h; crash: acks_late, visibility_timeout=5 s, restoring every 1 s (default: a "
    "sweep every 100 s), prefetch_multiplier=1",
    "one producer used again for every apply_async (no batch call)",
    "no: schedules of beat are fixed at its start",
)
_late = bool(SETTINGS.recovery_seconds)
_transport = {"visibility_timeout": SETTINGS.recovery_seconds or 4 * 3600}
if _late:
    _transport |= {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
app = Celery("peer", broker=SETTINGS.servers[0])
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=1 if _late else 100,
    worker_disable_rate_limits=True,
    task_acks_late=_late,
    task_reject_on_worker_lost=_late,
    worker_send_task_events=False,
    broker_transport_options=_transport,
    broker_connection_retry_on_startup=True,
    task_send_sent_event=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)


@app.task(name="benchmark")
def benchmark(payload):
    job(payload)


class Client:
    def __init__(self):
        self._producer = app.amqp.Producer(app.connection_for_write())

    def one(self, item):
        benchmark.apply_async((item.payload,), eta=item.moment)

    def bulk(self, items):
        for item in items:
            benchmark.apply_async((item.payload,), eta=item.moment, producer=self._producer)


def client():
    return Client()


def work():
    threads = SETTINGS.concurrency or 10
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    app.worker_main(["worker", "--pool=threads", f"--concurrency={threads}", *quiet])
