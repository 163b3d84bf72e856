"""The claimer's knowledge of due times, with answers in the order in which a network may bring them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from interval_scheduler.model.events import Events
from interval_scheduler.model.options import load_options
from interval_scheduler.protocol.commands import Command, Partition
from interval_scheduler.protocol.topology import Layout
from interval_scheduler.support.log import Log
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.worker.claimer import Claimer
from interval_scheduler.worker.context import Context
from interval_scheduler.worker.roster import Roster
from interval_scheduler.worker.slots import Slots
from tests.tasks import eventually


class Claims:
    """Takes what was claimed; `end` frees its slots."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.taken: list[int] = []
        self.broken: set[int] = set()
        """Partitions whose tasks cannot be taken over."""

    def take(self, partition: Partition, entries: Sequence[bytes], _now_ms: int, _deadline: float) -> None:
        self.slots.occupy(len(entries) // 2)
        if partition.number in self.broken:
            self.end(len(entries) // 2)
            raise ValueError
        self.taken.append(partition.number)

    def end(self, count: int) -> None:
        for _ in range(count):
            self.slots.free()


async def claimer_with(
    answer: Callable[[Command], Any], partitions: int = 1, slots: int = 1000
) -> tuple[Claimer, Claims, list[str]]:
    """A claimer over some partitions, whose commands are answered by `answer`, what it claimed, and the names of the
    commands."""
    asked: list[str] = []

    async def execute(commands: Sequence[Command], _lane: str) -> list[Any]:
        asked.extend(command.script.name for command in commands)
        return [await answer(command) for command in commands]

    layout = Layout(
        "ns",
        "redis",
        tuple(Partition(number, "redis", f"{{ns:{number}}}:meta") for number in range(partitions)),
    )
    log = Log()
    options = load_options("memory://", {"lease_seconds": 1.0, "check_tasks_every_seconds": 60.0}, {})
    context = Context("me", layout, options, execute, Events(log), log, Runtime())
    free = Slots(slots)
    claims = Claims(free)
    made = Claimer("redis", context, Roster(context), free, cast("Any", claims))
    free.add(made)
    return made, claims, asked


async def test_a_hint_that_overtakes_an_older_answer_is_not_lost() -> None:
    """The look was carried out before the task was assigned, and its answer arrives after the hint of it."""
    looking, go_on = asyncio.Event(), asyncio.Event()

    async def answer(command: Command) -> Any:
        if command.script.name == "look":
            looking.set()
            await go_on.wait()
            return [b"ok", 1000000000, b"", b""]
        return [b"ok", 1000000000, b"", b""]

    claimer, _, asked = await claimer_with(answer)
    task = asyncio.create_task(claimer.run())
    await looking.wait()
    claimer.hint(0, 1_000_000.0)
    go_on.set()
    await eventually(lambda: "claim" in asked, 5)
    task.cancel()


async def test_what_cannot_be_taken_over_from_one_partition_costs_the_others_neither_tasks_nor_slots() -> None:
    async def answer(command: Command) -> Any:
        if command.script.name == "look":
            again = bool(claims.taken)
            return [b"ok", 1000000000] + [b"1", b"", b"2", b"", b"3", b""] * (not again) + [b""] * 6 * again
        return [b"ok", 1000000000, b"", b"", b"id", b"record"]

    claimer, claims, _ = await claimer_with(answer, 3)
    claims.broken = {0}
    task = asyncio.create_task(claimer.run())
    await eventually(lambda: len(claims.taken) == 2, 5)
    task.cancel()
    assert claims.taken == [1, 2]
    claims.end(2)
    assert claims.slots.is_idle


async def test_handlers_that_end_at_once_free_their_slots_for_the_next_claim() -> None:
    """Four slots, and a partition that always has more."""
    limits: list[int] = []

    async def answer(command: Command) -> Any:
        if command.script.name == "look":
            return [b"ok", 1_000_000_000, b"1", b""]
        limits.append(int(command.args[2]))
        asyncio.get_running_loop().call_later(0, claims.end, limits[-1])
        return [b"ok", 1_000_000_000, b"1", b"", *[b"id", b"record"] * limits[-1]]

    claimer, claims, asked = await claimer_with(answer, slots=4)
    task = asyncio.create_task(claimer.run())
    await eventually(lambda: len(limits) >= 3, 5)
    task.cancel()
    assert limits[:3] == [4, 4, 4]
    assert asked[:4] == ["look", "claim", "claim", "claim"], "nobody had to wait for a slot"


async def test_whoever_got_all_there_was_is_not_behind() -> None:
    """Else the reports of a few runs would wait, for nothing."""
    behind: list[bool] = []

    async def answer(command: Command) -> Any:
        if command.script.name == "look":
            return [b"ok", 1_000_000_000, b"1", b""]
        count, later = (3, b"") if behind else (int(command.args[2]), b"1")
        behind.append(claimer.is_behind)
        return [b"ok", 1_000_000_000, later, b"", *[b"id", b"record"] * count]

    claimer, _, asked = await claimer_with(answer)
    task = asyncio.create_task(claimer.run())
    await eventually(lambda: asked.count("claim") == 2, 5)
    await asyncio.sleep(0)
    assert behind == [False, True], "what the claims before have told"
    assert not claimer.is_behind
    task.cancel()
