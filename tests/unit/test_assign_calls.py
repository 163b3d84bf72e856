"""How many tasks, and how many bytes of them, one call of the assign script carries."""

from __future__ import annotations

import pytest

from interval_scheduler import Options
from interval_scheduler.core.preparation import Prepared
from interval_scheduler.protocol.bulk import BATCH_BYTES
from interval_scheduler.protocol.commands import Partition
from interval_scheduler.protocol.operation import BATCH_TASKS
from interval_scheduler.protocol.tasks import Operations
from interval_scheduler.protocol.topology import Layout
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.transport.resp import pack


@pytest.mark.parametrize(
    ("count", "id_bytes", "body_bytes"),
    [
        (2 * BATCH_TASKS + 1, 15, 64),
        (BATCH_TASKS, 1000, 1600),
        (BATCH_TASKS, 15, 10_000),
        (3, 15, 2 * BATCH_BYTES),
        (1, 15, 64),
    ],
    ids=["many", "long ids", "large bodies", "each too large", "one"],
)
def test_calls_are_bounded_and_carry_every_task_once(count: int, id_bytes: int, body_bytes: int) -> None:
    layout = Layout("n", "a", (Partition(0, "a", "{n:0}:meta"),))
    operations = Operations(layout, Options(), Runtime())
    tasks: list[Prepared] = [(b"%0*d" % (id_bytes, n), "=1700000000000", "", b"x" * body_bytes) for n in range(count)]
    calls = operations.assign_calls(tasks)
    assert [task_id for _, ids in calls for task_id in ids] == [task[0] for task in tasks]
    assert [argument for command, _ in calls for argument in command.args[3:]] == [
        each for task in tasks for each in task
    ]
    for command, ids in calls:
        assert len(ids) <= BATCH_TASKS
        assert len(ids) == 1 or len(pack(command)) <= 1.02 * BATCH_BYTES
