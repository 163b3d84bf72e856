"""``assign_tasks`` has many calls under way at once: what it says of them is true, and the last of an id counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from interval_scheduler import AssignFailed, AsyncScheduler, Scheduler, Task
from interval_scheduler.protocol import bulk as streaming
from tests.servers import RedisServer
from tests.tasks import Job, Uniform, after
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def short_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, so that some hundred tasks are a long stream: ten calls a batch, thirty under way."""
    monkeypatch.setattr(streaming, "BATCH_TASKS", 5)
    monkeypatch.setattr(streaming, "STREAM_TASKS", 50)
    monkeypatch.setattr(streaming, "STREAM_STRIDE", 1)
    monkeypatch.setattr(streaming, "CALLS_AT_ONCE", 30)


@pytest.fixture
async def alone(flavour: str, server: RedisServer) -> AsyncIterator[Uniform]:
    """A scheduler that accepts tasks, with one partition on a server that nobody else uses."""
    kind = Scheduler if flavour == "blocking" else AsyncScheduler
    made = Uniform(
        kind({"storage": {"instances": [{"url": server.url, "name": "redis"}]}}, namespace="alone", partitions=1)
    )
    await made.start_task_accept()
    yield made
    await made.close()


def jobs(start: int, end: int) -> Iterator[Task]:
    return (Job(f"{number}", after(3600)) for number in range(start, end))


async def test_a_server_that_is_a_replica_for_a_while_makes_no_reply_that_of_another_call(
    alone: Uniform, admin: Any
) -> None:
    await alone.assign_task(Job("warm", after(3600)))  # the connection stands
    given: list[str] = []

    def errors() -> int:
        return int(admin.info("stats")["total_error_replies"])

    def tasks() -> Iterator[Task]:
        admin.replicaof("127.0.0.1", 1)
        before = errors()
        for number, task in enumerate(jobs(0, 600)):
            if number == 170:
                wait_until(lambda: errors() > before)  # what was sent is read when the server comes to it
                admin.replicaof("NO", "ONE")
            given.append(task.id)
            yield task

    with pytest.raises(AssignFailed) as caught:
        await alone.assign_tasks(tasks())
    there = set(admin.hkeys("{alone:0}:tasks"))
    assert {name for name in given if name not in there} == {*caught.value.not_written, *caught.value.unknown}
    assert caught.value.created == len(there) - 1


@pytest.mark.parametrize("again", [51, 120, 151, 160, 320])
async def test_the_last_of_an_id_counts_where_the_server_does_not_know_the_script(
    alone: Uniform, admin: Any, again: int
) -> None:
    """Each call is refused at first, and repeated while later ones are on their way."""
    admin.script_flush()

    def tasks() -> Iterator[Task]:
        for number, task in enumerate(jobs(0, 400)):
            if number in (7, again):
                yield Job("twice", after(3600), payload=number)
            yield task

    result = await alone.assign_tasks(tasks())
    assert (result.created, result.updated) == (401, 1)
    assert (await alone.peek_task("twice")).payload == again


@pytest.mark.parametrize("last", ["", "last"])
async def test_a_failed_stream_names_every_task_it_took_and_did_not_write(
    alone: Uniform, admin: Any, last: str
) -> None:
    """Also those in a batch with one that is refused, and one that waits behind another one of its id."""

    def tasks() -> Iterator[Task]:
        admin.config_set("maxmemory", "1")
        yield from jobs(0, 210)
        yield Job("last", after(3600))
        yield Job(last, after(3600))

    with pytest.raises(AssignFailed) as caught:
        await alone.assign_tasks(tasks())
    expected = [*(f"{number}" for number in range(210)), "last", *([last] if last else [])]
    assert sorted(caught.value.not_written) == sorted(expected)
