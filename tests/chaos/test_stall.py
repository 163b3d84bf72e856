"""A handler that keeps its process busy for longer than its lease."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from tests.chaos.stage import Stage
from tests.servers import Binary
from tests.tasks import Job
from tests.waiting import wait_until


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_no_lease_is_lost_while_a_handler_computes(server_binary: Binary, kind: str) -> None:
    """apscheduler#864, #1116: the event loop was busy, the lease lapsed, and another process ran the task as well."""
    with closing(Stage(server_binary)) as stage, stage.scheduler() as scheduler:
        for _ in range(2):
            stage.start_worker(kind)
        for worker in stage.workers:
            worker.await_ready()
        scheduler.start_task_accept()
        payload = {"version": 1, "work": 1.7 * stage.lease, "do": "block"}
        scheduler.assign_tasks(Job(f"busy{number}", time.time() + 0.1, payload=payload) for number in range(2))
        wait_until(lambda: scheduler.task_size() == 0, 10 * stage.lease)
        observed = stage.read()
        stage.expect_workers()
    assert sorted(run.id for run in observed.runs) == ["busy0", "busy1"], "each of them once"
    assert {run.how for run in observed.runs} == {"done"}
    assert all(run.end is not None and run.end < run.lease for run in observed.runs), "it was renewed all the time"
    # A claim may have been under way when the loop came to a stand: what it brought went to the other worker, in time.
    begun = {str(run.token) for run in observed.runs}
    assert not [event for event in observed.events if event["details"].get("fencing_token") in begun]
