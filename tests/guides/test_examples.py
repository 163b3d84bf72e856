"""Every example runs as a program, on a real server, and says what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import RedisServer

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "recurring_users": ["new: True\nnew: True\nnew: False", "refreshing user 1", "removed: True True"],
    "auto_lock": ["refreshing\n", "refreshed a moment ago: skipped"],
    "manual_lock": ["fencing token: True", "extended: True", "unlocked: True and not twice: False", "maintenance"],
    "stop_execute": ["executing: False", "accepted: True"],
    "stop_accept": ["accepting: False", "refused: not accepting tasks", "still executing: True"],
    "clear": ["created=3000", "cleared: 3000", "left: 0 tasks in 0 buckets"],
    "timers": [
        "in a minute: True",
        "['my-id', 'other']",
        "moved: True",
        "True again: False",
        "attempt 2",
        "confirmed: True",
    ],
}


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} - {"users"} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example(name: str, redis_servers: list[RedisServer], namespace: str) -> None:
    environment = {**os.environ, "INTERVAL_SCHEDULER_NAMESPACE": namespace, "PYTHONPATH": str(EXAMPLES.parent)}
    urls = [server.url for server in redis_servers]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(EXAMPLES / f"{name}.py"), *urls],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for text in SAYS[name]:
        assert text in result.stdout
