"""Every script, in every order, against a reference model; all keys are checked after every step.

On a real server and on fakeredis. Time is the test's own: scripts are told what it is.
"""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from interval_scheduler.core.definition import decode_body
from interval_scheduler.core.record import RETRYING, RUNNING, SCHEDULED, Header, parse_header, split_record
from interval_scheduler.core.settlement import End, Outcome, settle
from interval_scheduler.model.options import load_options
from interval_scheduler.model.retry import Retry
from interval_scheduler.protocol import calls
from interval_scheduler.protocol.commands import Command, Partition, Reply
from interval_scheduler.protocol.operation import drive
from interval_scheduler.protocol.settling import ClaimedRun, claimed_run, take_change
from interval_scheduler.protocol.tasks import Operations
from interval_scheduler.protocol.topology import join
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.transport.blocking import BlockingTransport
from interval_scheduler.transport.endpoint import Endpoint
from tests.property.reference import Model
from tests.servers import RedisServer
from tests.tasks import Job

START = 1_800_000_000_000
WIDTH = 1000
LEASE = 5000
IDS = st.sampled_from(["a", "b", "c:{d}", "\N{SNOWMAN}\0"])
TIMES = st.none() | st.integers(-3000, 8000)
INTERVALS = st.none() | st.sampled_from([1, 700, 1000, 2500, 60_000])


class ManualRuntime(Runtime):
    """A server time that moves only when told to; waits on this side go on in real time.

    `now_ms` is the time, in ms since the epoch, that every script takes for its server's.
    """

    def __init__(self, now_ms: int) -> None:
        super().__init__()
        self.now_ms = now_ms

    def script_now(self) -> str:
        return str(self.now_ms)

    def advance(self, milliseconds: int) -> None:
        self.now_ms += milliseconds


class SchedulerMachine(RuleBasedStateMachine):
    """One namespace with one partition; `url` is where, set by the tests."""

    url = ""

    @initialize()
    def open(self) -> None:
        self.runtime = ManualRuntime(START)
        fields = {"namespace": f"machine-{secrets.token_hex(6)}", "partitions": 1, "lease_seconds": LEASE / 1000}
        options = load_options(self.url, {**fields, "task_interval_seconds": WIDTH / 1000}, {})
        self.endpoint = Endpoint(options.instances[0])
        self.transport = BlockingTransport({self.endpoint.name: self.endpoint})
        layout = drive(join(options, self.runtime.script_now()), self.transport.execute)
        self.home: Partition = layout.partitions[0]
        self.prefix = self.home.meta.removesuffix("meta").encode()
        self.operations = Operations(layout, options, self.runtime)
        pool = self.endpoint.connection_pool(asynchronous=False)
        self.client: Any = redis.Redis(connection_pool=pool)
        self.model = Model()
        self.live: dict[tuple[str, int], ClaimedRun] = {}
        self.highest_token = 0

    def teardown(self) -> None:
        if hasattr(self, "client"):
            for key in self.client.scan_iter(match=b"{" + self.prefix[1:].split(b":")[0] + b"*"):
                self.client.delete(key)
            self.client.close()
            self.transport.close()
            self.endpoint.close()

    # -- what can happen ---------------------------------------------------------------------------------------------

    @rule(task_id=IDS, when=TIMES, interval=INTERVALS, payload=st.sampled_from(["one", "two"]))
    def assign(self, task_id: str, when: int | None, interval: int | None, payload: str) -> None:
        time = None if when is None else self.runtime.now_ms + when
        job = Job(
            task_id,
            None if time is None else time / 1000,
            None if interval is None else interval / 1000,
            payload,
            retry=Retry(max_retries=1, backoff=1, jitter=0),
        )
        created = drive(self.operations.assign_task(job), self.transport.execute)
        assert created == self.model.assign(
            task_id, time, payload, interval, self.runtime.now_ms, self.revision(task_id)
        )

    @rule(task_id=IDS)
    def remove(self, task_id: str) -> None:
        removed = drive(self.operations.remove_tasks([task_id]), self.transport.execute)
        assert removed == self.model.remove(task_id)

    @rule(task_id=IDS, delay=st.integers(0, 8000))
    def reschedule(self, task_id: str, delay: int) -> None:
        moved = drive(self.operations.reschedule_task(task_id, delay / 1000, None), self.transport.execute)
        assert moved == self.model.reschedule(task_id, self.runtime.now_ms + delay, self.revision(task_id))

    @rule(task_id=IDS)
    def run_now(self, task_id: str) -> None:
        asked = drive(self.operations.run_task_now(task_id), self.transport.execute)
        assert asked == self.model.run_now(task_id, self.runtime.now_ms, self.revision(task_id))

    @rule(limit=st.integers(1, 5), suspects=st.integers(0, 2))
    def claim(self, limit: int, suspects: int) -> None:
        reply = self.ask(calls.claim(self.home, self.now, limit, LEASE, suspects, 1 << 20, is_first=True))
        found = calls.read_claim(self.home, reply)
        claimed = dict(calls.pairs(found.entries))
        expected = self.model.claim(limit, suspects, self.runtime.now_ms, LEASE)
        assert [task_id.decode() for task_id in claimed] == expected
        [times] = calls.read_look(self.ask(calls.look([self.home], self.now))).partitions
        assert (found.due, found.lapse) == (times.due, times.lapse), "a claim tells the same next times as a look"
        for raw_id, record in claimed.items():
            run = claimed_run(raw_id, record, self.runtime.now_ms)
            assert run.header.token > self.highest_token, "tokens only grow"
            assert run.header.due <= self.runtime.now_ms, "never early"
            self.highest_token = run.header.token
            self.model.tasks[run.task_id].change(token=run.header.token)
            self.live[run.task_id, run.header.token] = run

    @precondition(lambda self: self.live)
    @rule(data=st.data(), end=st.sampled_from(list(End)))
    def settle(self, data: st.DataObject, end: End) -> None:
        key = data.draw(st.sampled_from(sorted(self.live)))
        live, outcome = self.live.pop(key), Outcome(end, "failed")
        while True:
            settlement = settle(live, outcome, self.runtime.now_ms, 0.5)
            reply = self.ask(calls.settle(self.home, self.now, LEASE, [live], [settlement]))
            settled = calls.read_settle(self.home, reply)
            [answer] = settled.answers
            entry = self.model.tasks.get(live.task_id)
            owns = entry is not None and entry.state == RUNNING and entry.header.token == live.header.token
            if answer not in (calls.ACCEPTED, calls.CHANGED):
                assert not owns, "the holder of the newest token was refused"
                return
            assert owns, "a stale run was accepted"
            assert entry is not None
            if answer == calls.ACCEPTED:
                assert entry.header.encode() == live.header.encode()
                self.model.settle(live.task_id, settlement.header, bool(settlement.dead))
                if settlement.header is not None and settlement.header.state == RUNNING:
                    entry.deadline = self.runtime.now_ms + LEASE
                return
            outcome = take_change(live, outcome, *settled.changed)
            assert live.header.token == key[1], "a stale run was given the record of its successor"

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        task_id, token = data.draw(st.sampled_from(sorted(self.live)))
        reply = self.ask(calls.renew(self.home, self.now, LEASE, (task_id, str(token))))
        entry = self.model.tasks.get(task_id)
        owns = entry is not None and entry.state == RUNNING and entry.header.token == token
        [answer] = calls.read_renew(self.home, reply).answers
        assert (answer == calls.RENEWED) == owns
        if entry is not None and owns:
            entry.deadline = max(entry.deadline, self.runtime.now_ms + LEASE)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        task_id, token = data.draw(st.sampled_from(sorted(self.live)))
        reply = self.ask(calls.confirm(self.home, self.now, task_id.encode(), token))
        entry = self.model.tasks.get(task_id)
        owns = entry is not None and entry.state == RUNNING and entry.header.token == token
        assert calls.read_confirm(self.home, reply).confirmed == owns
        if entry is not None and owns and "k" not in entry.header.flags:
            entry.change(flags=entry.header.flags + "k")

    @rule(milliseconds=st.sampled_from([1, 500, 1000, 2500, LEASE, 60_000]))
    def advance(self, milliseconds: int) -> None:
        self.runtime.advance(milliseconds)

    @rule()
    def clear(self) -> None:
        cleared = drive(self.operations.clear_all_tasks(None), self.transport.execute)
        assert cleared == self.model.clear()

    @rule()
    def read(self) -> None:
        buckets, tasks = drive(self.operations.counts(), self.transport.execute)
        assert tasks == len(self.model.tasks)
        assert buckets == len(self.expected_buckets())
        reader = self.operations.upcoming(0, None, None)
        drive(reader.fill(), self.transport.execute)
        waiting = [(e.header.due, i.encode()) for i, e in self.model.tasks.items() if e.state != RUNNING]
        assert [task.id.encode() for task in reader.take()] == [task_id for _, task_id in sorted(waiting)]

    # -- what must always hold ---------------------------------------------------------------------------------------

    @invariant()
    def keys_are_what_the_model_says(self) -> None:
        """Every task is in exactly one place after every step.

        dramatiq#431: copied, then acknowledged. asynq#1144, #1051, #1158: records without an index entry.
        """
        if not hasattr(self, "client"):
            return
        records = {i.decode(): split_record(r) for i, r in self.client.hgetall(self.prefix + b"tasks").items()}
        assert records.keys() == self.model.tasks.keys()
        for task_id, (header, body) in records.items():
            entry = self.model.tasks[task_id]
            assert parse_header(header).encode() == header, "the short form is the only form"
            assert same(parse_header(header), entry.header), task_id
            assert decode_body(body).payload == entry.payload
        buckets = self.expected_buckets()
        for name, members in buckets.items():
            assert self.scores(b"bucket:" + name) == members
        assert self.scores(b"index") == {name: int(name) for name in buckets}
        assert self.scores(b"retries") == self.expected(RETRYING)
        leases = {i.encode(): e.deadline for i, e in self.model.tasks.items() if e.state == RUNNING}
        assert self.scores(b"leases") == leases
        dead = {
            i.decode(): int(r.split(b",")[0]) for i, r in self.client.hgetall(self.prefix + b"dead-records").items()
        }
        assert dead == self.model.dead
        assert self.scores(b"dead").keys() == {task_id.encode() for task_id in dead}
        known = {b"meta", b"tasks", b"index", b"retries", b"leases", b"dead", b"dead-records", b"sequence"}
        known |= {b"bucket:" + name for name in buckets}
        found = {key.removeprefix(self.prefix) for key in self.client.scan_iter(match=self.prefix + b"*", count=1000)}
        assert found <= known, "stray keys"

    def expected(self, state: str) -> dict[bytes, int]:
        return {i.encode(): e.header.due for i, e in self.model.tasks.items() if e.state == state}

    def expected_buckets(self) -> dict[bytes, dict[bytes, int]]:
        buckets: dict[bytes, dict[bytes, int]] = {}
        for task_id, due in self.expected(SCHEDULED).items():
            buckets.setdefault(str(due - due % WIDTH).encode(), {})[task_id] = due
        return buckets

    def scores(self, key: bytes) -> dict[bytes, int]:
        entries: Any = self.client.zrange(self.prefix + key, 0, -1, withscores=True)
        return {member: int(score) for member, score in entries}

    @property
    def now(self) -> str:
        return self.runtime.script_now()

    def ask(self, command: Command) -> Reply:
        [reply] = self.transport.execute([command])
        return reply

    def revision(self, task_id: str) -> str:
        """The revision that the script wrote: the caller made it up, so the model takes it over."""
        record = self.client.hget(self.prefix + b"tasks", task_id)
        if record is None:
            return ""
        assert isinstance(record, bytes)
        revision = parse_header(split_record(record)[0]).revision
        entry = self.model.tasks.get(task_id)
        return revision.removesuffix("+") if entry is None or revision != entry.header.revision else revision


def same(found: Header, expected: Header) -> bool:
    """Whether two headers mean the same; a slot equal to the due time may be left out."""
    return found.moved(slot=found.grid) == expected.moved(slot=expected.grid)


@pytest.fixture
def memory_url() -> str:
    pytest.importorskip("fakeredis")
    return f"memory://{secrets.token_hex(6)}"


def run(url: str, examples: int) -> None:
    machine = type("Machine", (SchedulerMachine,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_on_a_real_server(redis_servers: list[RedisServer]) -> None:
    run(redis_servers[0].url, 120)


def test_on_fakeredis(memory_url: str) -> None:
    run(memory_url, 15)
