"""The claimer's knowledge of due times, with answers in the order in which a network may bring them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from interval_scheduler.protocol.commands import Command, Partition
from interval_scheduler.support.log import Log
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.worker.claimer import Claimer
from interval_scheduler.worker.roster import Roster
from tests.tasks import eventually


async def claimer_with(
    answer: Callable[[Command], Any],
    partitions: int = 1,
    reserve: Callable[[int], int] = lambda wanted: wanted,
    give_back: Callable[[int], None] = lambda unused: None,
    claimed: Callable[..., None] = lambda *_: None,
) -> tuple[Claimer, list[str]]:
    """A claimer over some partitions, whose commands are answered by `answer`, and the names of the commands."""
    asked: list[str] = []

    async def execute(commands: Sequence[Command], _lane: str) -> list[Any]:
        asked.extend(command.script.name for command in commands)
        return [await answer(command) for command in commands]

    runtime = Runtime()
    roster = Roster("me", "redis", "ns", execute, runtime, lambda: None, lambda *_: None)
    made = Claimer(
        "redis",
        "ns",
        [Partition(number, "redis", f"{{ns:{number}}}:meta") for number in range(partitions)],
        roster,
        execute,
        runtime,
        Log(),
        1000,
        60.0,
        reserve,
        give_back,
        lambda: True,
        claimed,
        lambda: None,
        lambda *_: None,
    )
    return made, asked


async def test_a_hint_that_overtakes_an_older_answer_is_not_lost() -> None:
    """The look was carried out before the task was assigned, and its answer arrives after the hint of it."""
    looking, go_on = asyncio.Event(), asyncio.Event()

    async def answer(command: Command) -> Any:
        if command.script.name == "look":
            looking.set()
            await go_on.wait()
            return [b"ok", 1000000000, b"", b""]
        return [b"ok", 1000000000, b"", b""]

    claimer, asked = await claimer_with(answer)
    task = asyncio.create_task(claimer.run())
    await looking.wait()
    claimer.hint(0, 1_000_000.0)
    go_on.set()
    await eventually(lambda: "claim" in asked, 5)
    task.cancel()


async def test_what_cannot_be_taken_over_from_one_partition_costs_the_others_neither_tasks_nor_slots() -> None:
    reserved = 0
    taken: list[int] = []

    def reserve(wanted: int) -> int:
        nonlocal reserved
        reserved += wanted
        return wanted

    def give_back(unused: int) -> None:
        nonlocal reserved
        reserved -= unused

    def claimed(partition: Partition, entries: Sequence[bytes], *_: Any) -> None:
        give_back(len(entries) // 2)
        if partition.number == 0:
            raise ValueError
        taken.append(partition.number)

    async def answer(command: Command) -> Any:
        if command.script.name == "look":
            return [b"ok", 1000000000] + [b"1", b"", b"2", b"", b"3", b""] * (not taken) + [b""] * 6 * bool(taken)
        return [b"ok", 1000000000, b"", b"", b"id", b"record"]

    claimer, _ = await claimer_with(answer, 3, reserve, give_back, claimed)
    task = asyncio.create_task(claimer.run())
    await eventually(lambda: len(taken) == 2, 5)
    task.cancel()
    assert taken == [1, 2]
    assert reserved == 0


async def test_handlers_that_end_at_once_free_their_slots_for_the_next_claim() -> None:
    """Four slots, and a partition that always has more."""
    free = 4
    limits: list[int] = []

    def reserve(wanted: int) -> int:
        nonlocal free
        granted = min(wanted, free)
        free -= granted
        return granted

    def give_back(unused: int) -> None:
        nonlocal free
        free += unused

    def claimed(_partition: Partition, entries: Sequence[bytes], *_: Any) -> None:
        asyncio.get_running_loop().call_soon(give_back, len(entries) // 2)

    async def answer(command: Command) -> Any:
        if command.script.name == "look":
            return [b"ok", 1_000_000_000, b"1", b""]
        limits.append(int(command.args[2]))
        return [b"ok", 1_000_000_000, b"1", b"", *[b"id", b"record"] * limits[-1]]

    claimer, asked = await claimer_with(answer, 1, reserve, give_back, claimed)
    task = asyncio.create_task(claimer.run())
    await eventually(lambda: len(limits) >= 3, 5)
    task.cancel()
    assert limits[:3] == [4, 4, 4]
    assert asked[:4] == ["look", "claim", "claim", "claim"], "nobody had to wait for a slot"


async def test_whoever_got_all_there_was_is_not_behind() -> None:
    """Else the reports of a few runs would wait, for nothing."""
    behind: list[bool] = []

    def give_back(_unused: int) -> None:
        behind.append(claimer.is_behind)

    async def answer(command: Command) -> Any:
        if command.script.name == "look":
            return [b"ok", 1_000_000_000, b"1", b""]
        count, later = (3, b"") if behind else (int(command.args[2]), b"1")
        return [b"ok", 1_000_000_000, later, b"", *[b"id", b"record"] * count]

    claimer, asked = await claimer_with(answer, 1, give_back=give_back)
    task = asyncio.create_task(claimer.run())
    await eventually(lambda: asked.count("claim") == 2, 5)
    await asyncio.sleep(0)
    assert behind == [False, True], "what the claims before have told"
    assert not claimer.is_behind
    task.cancel()
