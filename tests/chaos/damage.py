"""Damages what is stored, thousands of times from a seed, and looks who is hurt: ``python -m tests.chaos.damage``.

Each damage is done to one partition of a namespace of its own, on a real server, before a worker starts. It is survived
if, within `SECONDS`, every healthy task ran once and was settled (those of the same partition too, unless a key of it
is damaged), no slot is held, no call took more than `BLOCKED_MS` of server time, and `verify` and `repair` end. What
cannot be read must be named by `verify`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

from interval_scheduler import AsyncScheduler
from interval_scheduler.core.definition import decode_body
from interval_scheduler.core.record import parse_header, split_record
from interval_scheduler.model.errors import CorruptRecord
from interval_scheduler.protocol import keys
from interval_scheduler.protocol.commands import Partition
from tests.servers import RedisServer, binaries
from tests.tasks import Job, eventually

SECONDS = 5.0
BLOCKED_MS = 50
HEALTHY = 40
_OLD_MS = 1_000_000
_ALPHABETS = [b"0123456789", b",", b"srw,=~>xncuk0123", bytes(range(256)), b"\n,0s", b"\xff\x00"]


@dataclass
class Damaged:
    """One namespace with healthy tasks, and what was done to it."""

    client: Any
    partition: Partition
    chance: random.Random
    wholly: bool = False
    """Whether a key was damaged, so that the healthy tasks of this partition may wait."""
    unreadable: bool = False
    """Whether there is a record that must not pass for a sound one."""
    notes: list[str] = field(default_factory=list)

    def key(self, name: str) -> str:
        return keys.of_partition(self.partition.meta, name)

    def noise(self, most: int = 300) -> bytes:
        """Bytes of all sorts: digits, commas, text, anything."""
        alphabet = self.chance.choice(
            [b"0123456789", b",", b"srw,=~>xncuk0123", bytes(range(256)), b"\n,0s", b"\xff\x00"]
        )
        return bytes(self.chance.choices(alphabet, k=self.chance.choice([0, 1, 2, 8, 40, most])))

    def mutated(self, data: bytes) -> bytes:
        """The same with a few bytes changed, left out, doubled or put in."""
        for _ in range(self.chance.randint(1, 4)):
            at = self.chance.randrange(len(data) + 1)
            change = self.chance.randrange(4)
            if change == 0:
                data = data[:at] + self.noise(20) + data[at:]
            elif change == 1:
                data = data[:at] + data[at + self.chance.randint(1, 6) :]
            elif change == 2:
                data = data[:at] + bytes([self.chance.randrange(256)]) + data[at + 1 :]
            else:
                data = data[:at] + data[max(0, at - 5) :]
        return data

    def store(self, record: bytes, task_id: bytes = b"bad") -> None:
        start = _OLD_MS - _OLD_MS % 60_000
        self.client.hset(self.key(keys.TASKS), task_id, record)
        self.client.zadd(keys.bucket(self.partition.meta, start), {task_id: _OLD_MS})
        self.client.zadd(self.key(keys.INDEX), {str(start): start})
        self.notes.append(repr(record[:60]))
        header, body = split_record(record)
        try:
            parse_header(header)
            decode_body(body)
        except CorruptRecord:
            self.unreadable = True


HEADER = b"s1000000,revision+"
BODY = b"\x94\xa3bad\xcd\xea`\x82\xa1t\xcd\x03\xe8\xa1l\x05\xa5error"


def header(damaged: Damaged) -> None:
    damaged.store(damaged.mutated(HEADER + b",,5,1,2,,=7") + b"\n" + BODY)


def header_of_noise(damaged: Damaged) -> None:
    damaged.store(damaged.noise(5000) + damaged.chance.choice([b"\n" + BODY, b""]))


def body(damaged: Damaged) -> None:
    damaged.store(HEADER + b"\n" + damaged.mutated(BODY))


def body_of_noise(damaged: Damaged) -> None:
    damaged.store(HEADER + b"\n" + damaged.noise(5000))


def identity(damaged: Damaged) -> None:
    damaged.store(HEADER + b"\n\x91\x01", damaged.noise(1500) or b"\xff")


def score(damaged: Damaged) -> None:
    scores = [float("inf"), float("-inf"), -1.0, 0.5, 1e300, 2.0**63]
    name = damaged.chance.choice([keys.RETRIES, keys.LEASES, keys.INDEX, keys.DEAD, f"{keys.BUCKET}60000"])
    member = damaged.noise(20)
    # The noise may name a bucket that is there: its tasks are found at the wrong time then, until a repair.
    damaged.wholly = damaged.client.zscore(damaged.key(name), member) is not None
    damaged.client.zadd(damaged.key(name), {member: damaged.chance.choice(scores)})
    damaged.notes.append(name)


def members(damaged: Damaged) -> None:
    name = damaged.chance.choice([keys.RETRIES, keys.LEASES, keys.INDEX, keys.DEAD])
    count = damaged.chance.choice([1, 100, 3000])
    damaged.client.zadd(damaged.key(name), {damaged.noise(8) + str(n).encode(): n for n in range(count)})
    damaged.notes.append(f"{count} in {name}")


def dead_letter(damaged: Damaged) -> None:
    damaged.client.hset(damaged.key(keys.DEAD_RECORDS), damaged.noise(20), damaged.mutated(b"1,5,6\n" + BODY))
    damaged.client.zadd(damaged.key(keys.DEAD), {damaged.noise(20): 5})


def type_of_key(damaged: Damaged) -> None:
    name = damaged.chance.choice([*keys.PARTITION_KEYS])
    damaged.client.delete(damaged.key(name))
    write: Callable[[str], object] = damaged.chance.choice(
        [
            lambda key: damaged.client.set(key, damaged.noise()),
            lambda key: damaged.client.rpush(key, damaged.noise()),
            lambda key: damaged.client.hset(key, damaged.noise(9), damaged.noise()),
            lambda key: damaged.client.zadd(key, {damaged.noise(9): 1}),
            lambda key: damaged.client.sadd(key, damaged.noise()),
        ]
    )
    write(damaged.key(name))
    damaged.wholly = True
    damaged.notes.append(name)


def meta_field(damaged: Damaged) -> None:
    name = damaged.chance.choice(["width", "alarm", "writes", "starts", "owner", "format", "epoch", "unknown"])
    damaged.client.hset(damaged.partition.meta, name, damaged.noise(3000))
    damaged.wholly = True
    damaged.notes.append(name)


DAMAGES: list[Callable[[Damaged], None]] = [
    header,
    header_of_noise,
    body,
    body_of_noise,
    identity,
    score,
    members,
    dead_letter,
    type_of_key,
    meta_field,
]


class _Silent:
    """Damage is told in many lines, which nobody reads here."""

    def _drop(self, *_: object, **__: object) -> None:
        return None

    debug = info = warning = error = _drop


async def damage_once(server: RedisServer, number: int, damage: Callable[[Damaged], None]) -> str:
    """Damages once; "" where that was survived, else what was not."""
    namespace = f"damage-{number}"
    client = redis.Redis.from_url(server.url)
    scheduler = AsyncScheduler(
        [server.url], namespace=namespace, partitions=2, concurrency=10, lease_seconds=2, logger=_Silent()
    )
    ran: Counter[str] = Counter()
    try:
        await scheduler.start_task_accept()
        layout = scheduler._engine.layout
        assert layout is not None
        damaged = Damaged(client, layout.partitions[0], random.Random(number))
        healthy = [f"healthy:{n}" for n in range(HEALTHY)]
        await scheduler.assign_tasks(Job(task_id, execute_on=1.0) for task_id in healthy)
        await scheduler.assign_tasks(Job(f"later:{n}", execute_on=time.time() + 3600) for n in range(5))
        damage(damaged)
        expected = {
            task_id for task_id in healthy if not damaged.wholly or layout.home(task_id.encode()) != damaged.partition
        }

        async def handler(payload: Any) -> None:
            ran[str(payload)] += 1

        client.slowlog_reset()
        try:
            await asyncio.wait_for(scheduler.start_task_execute(handler), SECONDS)
            await eventually(lambda: expected <= ran.keys(), SECONDS)
            worker = scheduler._engine.worker
            assert worker is not None
            await eventually(lambda: worker.slots.occupied == 0 and worker.slots.unsettled == 0, SECONDS)
            if twice := [task_id for task_id in expected if ran[task_id] != 1]:
                return f"ran not once: {twice[:3]}"
            found = await asyncio.wait_for(scheduler.verify(), 20)
            if damaged.unreadable and not found.problems and "bad" not in ran:
                return f"verify names nothing: {damaged.notes}"
            await asyncio.wait_for(scheduler.repair(), 20)
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:200]} ({damaged.notes})"
        slow = [entry for entry in client.slowlog_get() if b"EVALSHA" in entry["command"].upper()]
        return f"{slow[0]['duration']} us of server time" if slow else ""
    finally:
        await asyncio.wait_for(scheduler.close(), 20)
        for key in [*client.scan_iter(f"{{{namespace}*", count=1000)]:
            client.delete(key)
        client.close()


async def campaign(server: RedisServer, seed: int, count: int) -> tuple[Counter[str], list[str]]:
    """How many damages of each kind were tried, and those that were not survived."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("slowlog-log-slower-than", BLOCKED_MS * 1000)
    tried: Counter[str] = Counter()
    failures: list[str] = []
    for number in range(seed, seed + count):
        damage = DAMAGES[number % len(DAMAGES)]
        tried[damage.__name__] += 1
        if problem := await damage_once(server, number, damage):
            failures.append(f"{damage.__name__} {number}: {problem}")
    return tried, failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.damage", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    server = RedisServer(binaries()[0])
    try:
        tried, failures = asyncio.run(campaign(server, arguments.seed, arguments.count))
    finally:
        server.stop()
    for name, count in tried.items():
        lost = sum(failure.startswith(f"{name} ") for failure in failures)
        print(f"{name:20} {count:6} tried {count - lost:6} survived")
    print("\n".join(failures[:40]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
