"""Handlers that do anything at all, every deed of `testing.hostility`, beside healthy ones: only they are hurt."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog

from interval_scheduler import AsyncScheduler, Retry, Scheduler, current_execution
from interval_scheduler.testing.hostility import DEEDS, ENDS, GIVES_UP, Deed, HostileLogger
from tests.integration.conftest import storage
from tests.servers import RedisServer
from tests.tasks import Job, Uniform, eventually

CONCURRENCY = 10
HEALTHY = 200


def _structlog() -> Any:
    processors: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=processors)


def _failing_processor() -> Any:
    def fail(*_: Any) -> Any:
        raise SystemExit("in a processor")

    return structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=[fail])


def _standard() -> Any:
    logger = logging.Logger("hostile")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    return logger


LOGGERS: dict[str, Callable[[], Any]] = {
    "structlog": _structlog,
    "failing processor": _failing_processor,
    "standard library": _standard,
    "hostile": HostileLogger,
}


class Crowd:
    """A handler that does deeds, counts healthy runs, and can hold runs to see how many there are at once."""

    def __init__(self, coroutine: bool) -> None:
        self.ran: list[str] = []
        self.did: list[str] = []
        self.waiting = 0
        self._go = threading.Event()
        self.handler: Callable[[Any], Any] = self._coroutine if coroutine else self._plain

    def _deed(self, payload: Any) -> Deed | None:
        if isinstance(payload, dict) and "deed" in payload:
            self.did.append(payload["deed"])
            return DEEDS[payload["deed"]]
        return None

    def _plain(self, payload: Any) -> Any:
        if (deed := self._deed(payload)) is not None:
            return deed.do(payload)
        if payload == "wait":
            self.waiting += 1
            self._go.wait(30)
        self.ran.append(current_execution().id)
        return None

    async def _coroutine(self, payload: Any) -> Any:
        if (deed := self._deed(payload)) is not None:
            await asyncio.sleep(0)
            result = deed.do(payload)
            return await result if hasattr(type(result), "__await__") else result
        if payload == "wait":
            self.waiting += 1
            await asyncio.to_thread(self._go.wait, 30)
        self.ran.append(current_execution().id)
        return None

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture(params=LOGGERS)
def logger_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def scheduler(
    flavour: str, logger_name: str, redis_servers: list[RedisServer], namespace: str
) -> AsyncIterator[Uniform]:
    kind = Scheduler if flavour == "blocking" else AsyncScheduler
    options = {"storage": storage(redis_servers), "namespace": namespace, "partitions": 4, "concurrency": CONCURRENCY}
    made = Uniform(kind(options, LOGGERS[logger_name]()))
    await made.start_task_accept()
    yield made
    await made.stop_task_execute(grace=2)
    await made.purge_dead_tasks()
    await made.clear_all_tasks()
    await asyncio.wait_for(made.close(), 20)


@pytest.mark.parametrize("coroutine", [False, True], ids=["plain", "coroutine"])
async def test_a_hostile_handler_hurts_only_its_own_task(scheduler: Uniform, coroutine: bool) -> None:
    """fault-A1, fault-A2, fault-A3, and: a class, a name or a pause that raise took the slot of the run along."""
    crowd = Crowd(coroutine)
    await scheduler.start_task_execute(crowd.handler)
    deeds = [
        Job(f"deed:{name}", payload={"deed": name}, retry=Retry(max_retries=1, backoff=0.05)) for name in sorted(DEEDS)
    ]
    healthy = [Job(f"healthy:{number}") for number in range(HEALTHY)]
    mixed = [job for pair in zip(healthy, deeds, strict=False) for job in pair]
    await scheduler.assign_tasks([*mixed, *healthy[len(deeds) :]])
    await eventually(lambda: _is_over(scheduler), 20)
    assert sorted(crowd.ran) == sorted(job.id for job in healthy), "every healthy one ran once"
    dead = {letter.id: letter for letter in await scheduler.dead_tasks()}
    for name, deed in DEEDS.items():
        follows = (1, False) if deed.follows == ENDS else (1, True) if deed.follows == GIVES_UP else (2, True)
        assert (crowd.did.count(name), f"deed:{name}" in dead) == follows, name
    for letter in dead.values():
        assert list(letter.payload) == ["deed"], "what is stored is what was assigned"
        assert len(letter.error) <= 2000
    await scheduler.assign_tasks(Job(f"wait:{number}", payload="wait") for number in range(3 * CONCURRENCY))
    await eventually(lambda: crowd.waiting >= CONCURRENCY, 10)
    assert crowd.waiting == CONCURRENCY, "no slot was lost, and none was won"
    crowd.let_go()
    await eventually(lambda: _is_over(scheduler), 20)
    worker = scheduler.real._engine.worker
    assert worker is not None
    await eventually(lambda: worker.slots.occupied == 0 and worker.slots.unsettled == 0)


async def _is_over(scheduler: Uniform) -> bool:
    stats = await scheduler.stats()
    return bool(stats.scheduled + stats.running + stats.retrying == 0)
