"""A task that kills its worker dies alone, as a dead letter, under the supervisor that restarts what it killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from interval_scheduler import PartitionUnavailable, Scheduler
from tests.servers import RedisServer
from tests.tasks import Job
from tests.waiting import comes_true

INNOCENTS = 300
LIMIT = 5
LEASE = 1.0


def notes(path: Path) -> list[dict[str, object]]:
    """What the handlers noted; a last line may be half written."""
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def test_a_killer_becomes_a_dead_letter_and_none_that_was_claimed_with_it_does(
    redis_servers: list[RedisServer], namespace: str, tmp_path: Path
) -> None:
    """river#1290: a crash burns an attempt. Here it only counts towards the limit of what kills its workers."""
    journal = tmp_path / "journal"
    options = {
        "namespace": namespace,
        "partitions": 8,
        "lease_seconds": LEASE,
        "storage": {"instances": [{"url": redis_servers[0].url, "name": "redis-0"}]},
    }
    command = [sys.executable, "-m", "interval_scheduler", "worker", "tests.chaos.poison:handler"]
    command += [f"--url=redis-0={redis_servers[0].url}", f"--namespace={namespace}", "--partitions=8"]
    command += ["--processes=2", "--concurrency=200", f"--lease-seconds={LEASE}", "--check-tasks-every-seconds=1"]
    with Scheduler(options) as scheduler:
        scheduler.start_task_accept()
        jobs = [Job(f"innocent-{number}") for number in range(INNOCENTS)]
        # In the middle of all others, so that some are claimed before it, some with it and some after it.
        jobs.insert(INNOCENTS // 2, Job("killer", payload="kill"))
        scheduler.assign_tasks(jobs)
        supervisor = subprocess.Popen(
            command,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "POISON_JOURNAL": str(journal)},
            stderr=subprocess.DEVNULL,
        )
        try:
            assert comes_true(lambda: _is_empty(scheduler), 90, pause=0.1), "not everything was run or given up"
            letters = scheduler.dead_tasks()
            scheduler.purge_dead_tasks()
        finally:
            supervisor.send_signal(signal.SIGTERM)
            assert supervisor.wait(30) == 0, "the supervisor ends well, whatever its workers died of"
    begun = [note for note in notes(journal) if note["kind"] == "begun"]
    ended = [note for note in notes(journal) if note["kind"] == "ended"]
    assert [letter.id for letter in letters] == ["killer"]
    assert f"vanished {LIMIT} times" in letters[0].error
    killed = Counter(note["pid"] for note in begun if note["id"] == "killer")
    assert len(killed) == LIMIT, "each run of it took a process with it, and no more than the limit"
    assert {note["id"] for note in ended} == {f"innocent-{number}" for number in range(INNOCENTS)}
    assert set(Counter(note["id"] for note in ended).values()) == {1}, "what came to its end was not run again"
    with_it = {note["id"] for note in begun} - {"killer"}
    struck = Counter(note["id"] for note in begun if note["id"] in with_it)
    assert max(struck.values()) > 1, "nothing was under way when the killer struck, so nothing was tested"


def _is_empty(scheduler: Scheduler) -> bool:
    try:
        return scheduler.task_size() == 0
    except PartitionUnavailable:
        return False
