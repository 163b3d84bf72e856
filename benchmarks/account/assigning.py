"""The account of a task of `assign_tasks`."""

from __future__ import annotations

import time
from collections.abc import Sequence

import hiredis

from interval_scheduler import Scheduler
from interval_scheduler.core.preparation import prepare
from interval_scheduler.model.options import Options, load_options
from interval_scheduler.protocol.bulk import CALLS_AT_ONCE
from interval_scheduler.protocol.commands import Command
from interval_scheduler.protocol.operation import SendAhead, batches
from interval_scheduler.protocol.tasks import Operations
from interval_scheduler.protocol.topology import Layout
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.transport import replies as answers
from interval_scheduler.transport.blocking import BlockingTransport
from interval_scheduler.transport.endpoint import Endpoint

from ..adapter import Item, payload
from ..ours.jobs import Job
from ..processes import Segment, assign, stage
from ..servers import Server, running
from ..subjects import PLAIN, RAW_SOCKET
from .page import ROUNDS, Account, least, least_each

SPREAD_SECONDS = 60.0


def assigning(count: int) -> Account:
    """What a task costs that is assigned in bulk, due within a minute."""
    due = time.time() + 3600
    items = [Item(number, payload(number), due + number * SPREAD_SECONDS / count) for number in range(count)]
    jobs = [Job(item) for item in items]
    with running() as [server]:
        options, layout = _joined(server)
        operations = Operations(layout, options, Runtime())
        commands: list[Command] = []
        making = least_each(lambda: (Job(item) for item in items), count)
        preparing = least_each(lambda: (prepare(job, options.max_payload_bytes, lambda: 0) for job in jobs), count)
        building = least(lambda: _collect(operations, jobs, commands), count) - preparing
        packing = least_each(lambda: (answers.pack(command) for command in commands), count)
        wall, script = min(_exchanged(server, options, commands, count) for _ in range(ROUNDS))
    parsing = _parsing(commands, count)
    with running() as [server], stage(RAW_SOCKET, [server]) as place:
        pair = min(1e6 / assign(place, Segment(count)).rate for _ in range(ROUNDS))
    with running() as [server], stage(PLAIN, [server]) as place:
        runs = [assign(place, Segment(count, n * count, 3600.0, SPREAD_SECONDS)) for n in range(ROUNDS)]
        done = min(runs, key=lambda run: run.seconds)
    whole = done.seconds * 1e6 / count
    account = Account(
        "assign_tasks from one process",
        whole,
        "what is left (less than nothing where client and server work at the same time)",
        f"The client itself was busy for {done.cpu * 1e6 / count:.2f} µs a task. HSET + SADD over a raw socket took "
        f"{pair:.2f} µs a pair: {pair / whole:.0%} of this.",
    )
    account.add("application", "making the Task", making)
    account.add("client", "checking and encoding it", preparing)
    account.add("client", "finding its partition, building the calls", building)
    account.add("client", "packing the calls", packing)
    account.add("client", "parsing the replies", parsing)
    account.add("server", "the script", script)
    account.add("wire", "sending, waiting, receiving", wall - script - packing - parsing)
    return account


def _joined(server: Server) -> tuple[Options, Layout]:
    """The options for a server, and the layout of the namespace that is made there."""
    options = load_options({"storage": {"instances": [{"url": server.url, "name": "instance-0"}]}}, {})
    with Scheduler(options) as scheduler:
        scheduler.start_task_accept()
        layout = scheduler._engine.layout
    assert layout is not None
    return options, layout


def _collect(operations: Operations, jobs: Sequence[Job], commands: list[Command]) -> None:
    """Collects what `assign_tasks` would send; it is answered here as the server would."""
    commands.clear()
    operation = operations.assign_tasks(jobs)
    sent: set[int] = set()
    try:
        request = next(operation)
        while True:
            assert isinstance(request, SendAhead)
            if id(request) in sent:
                request = operation.send([_reply(request.command)])
            else:
                sent.add(id(request))
                commands.append(request.command)
                request = operation.send([])
    except StopIteration:
        return


def _reply(command: Command) -> tuple[int, int, bytes]:
    """What the server says when all tasks of an assign call are new: there are four arguments each, after three."""
    return 1, time.time_ns() // 1000, b"c" * ((len(command.args) - 3) // 4)


def _exchanged(server: Server, options: Options, commands: Sequence[Command], count: int) -> tuple[float, float]:
    """Microseconds a task of sending the calls and reading the replies, and of the scripts within that."""
    endpoints = {instance.name: Endpoint(instance) for instance in options.instances}
    transport = BlockingTransport(endpoints)
    with Scheduler(options) as scheduler:
        scheduler.clear_all_tasks()  # those of the round before
    try:
        transport.execute(commands[:1])  # connects, and brings the script
        before, clock = server.scripts(), time.perf_counter()
        for batch in batches(commands, CALLS_AT_ONCE):
            transport.execute(batch)
        wall = time.perf_counter() - clock
        return wall * 1e6 / count, (server.scripts() - before).microseconds / count
    finally:
        transport.close()


def _parsing(commands: Sequence[Command], count: int) -> float:
    """Microseconds a task of parsing the replies to these calls."""
    packed = []
    for command in commands:
        writes, server_us, letters = _reply(command)
        packed.append(b"*3\r\n:%d\r\n:%d\r\n$%d\r\n%b\r\n" % (writes, server_us, len(letters), letters))

    def parse() -> None:
        reader = hiredis.Reader()
        for reply in packed:
            reader.feed(reply)
            reader.gets()

    return least(parse, count)
