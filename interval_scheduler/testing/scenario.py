"""One simulated run from one seed: producers, workers and servers under a fault plan, and what the judge finds."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ..async_scheduler import AsyncScheduler
from ..core.definition import decode_body
from ..core.record import RUNNING, parse_header, split_record
from ..model.errors import CorruptRecord, PartitionUnavailable, SchedulerError, TopologyMismatch
from ..model.retry import Retry
from ..model.task import Task
from ..protocol import calls
from ..protocol.audit import audit
from ..protocol.commands import Command, Reply
from ..protocol.operation import drive
from ..worker.run import current_execution
from .faults import LOSS_SECONDS, FaultPlan, Happening
from .history import Call, ClockStep, History, Jump, Notice, Remaining, Run, Stop
from .hostility import DEEDS, ENDS, Deed, HostileLogger
from .judge import Judge, Terms
from .kernel import Kernel, Process
from .network import Network
from .server_log import ServerLog
from .servers import Backend, SimulatedServer

_START = 1_800_000_000.0
_FAULTS_UNTIL = 20.0
_SETTLED_BY = 72.0
"""By then, everything that was due has been run, whatever went wrong before `_FAULTS_UNTIL`."""


_FILLED_AT = 58.0
"""When all slots of all workers are needed, where there are hostile handlers."""
_RETRY = Retry(max_retries=2, backoff=0.2)


@dataclass
class Job(Task):
    """What producers assign."""

    id: str
    execute_on: float | None
    reschedule_interval: float | None
    version: int = 1
    work: float = 0.0
    fail: int = 0
    retry: Retry = _RETRY
    deed: str = ""

    def serialize(self) -> Any:
        payload = {"version": self.version, "work": self.work, "fail": self.fail}
        return {**payload, "deed": self.deed} if self.deed else payload


class _Silence:
    """A logger that writes nothing."""

    def warning(self, message: str) -> None: ...


@dataclass
class Report:
    """What came of a seed. `hours` are virtual; `digest` is the same whenever the seed is run again."""

    seed: int
    hours: float
    operations: int
    runs: int
    faults: Counter[str]
    violations: list[str] = field(default_factory=list)
    digest: int = 0


class Scenario:
    """A run of one seed over backends that are its alone meanwhile."""

    def __init__(self, seed: int, backends: Sequence[Backend], altered: Mapping[str, bytes] | None = None) -> None:
        self.seed = seed
        self.kernel = Kernel(seed, _START)
        self.random = random.Random(f"scenario-{seed}")
        chance = self.random
        self.lease = chance.choice([2.0, 3.0, 5.0])
        self.workers = chance.randint(1, 3)
        self.plan = FaultPlan(self.kernel, _FAULTS_UNTIL, len(backends), self.workers, self.lease)
        clocks = [0.0 if chance.random() < 0.5 else chance.uniform(-2, 2) for _ in backends]
        self.servers = [
            SimulatedServer(self.kernel, f"redis-{number}", backend, clock)
            for number, (backend, clock) in enumerate(zip(backends, clocks, strict=True))
        ]
        self.concurrency = chance.choice([8, 20])
        self.history = History()
        self.server_log = ServerLog(self.history)
        for server in self.servers:
            server.altered = dict(altered or {})
            server.observer = self.server_log.observe
        self.network = Network(self.servers, self.plan)
        self.options = {
            "namespace": f"sim{seed}",
            "partitions": chance.randint(len(backends), 6),
            "lease_seconds": self.lease,
            "concurrency": self.concurrency,
            "check_tasks_every_seconds": chance.choice([2, 10]),
            "storage": {
                "instances": [{"url": f"redis://{server.name}", "name": server.name} for server in self.servers],
                "task_interval_seconds": chance.choice([1, 60]),
            },
        }
        self.crew: dict[str, tuple[Process, AsyncScheduler]] = {}
        self._hired = 0
        self._schedulers: list[AsyncScheduler] = []

    # -- processes ---------------------------------------------------------------------------------------------------

    def _process(self, name: str) -> tuple[Process, AsyncScheduler]:
        process = Process(self.kernel, name, self.network.endpoint, clock=self.random.uniform(-0.5, 0.5))
        logger = HostileLogger() if self.plan.hostile else _Silence()
        scheduler = AsyncScheduler(self.options, logger, runtime=process)
        scheduler.on("data-loss", self._reported)
        scheduler.on("clock-jump", lambda event: self._jumped(process, event))
        self._schedulers.append(scheduler)
        return process, scheduler

    def _reported(self, event: Any) -> None:
        self.history.notices.append(Notice(event.details["instance"], self.kernel.now))

    def _jumped(self, process: Process, event: Any) -> None:
        details = event.details
        seconds = details["seconds"] if details["direction"] == "forward" else -details["seconds"]
        self.history.jumps.append(Jump(process.name, details["instance"], self.kernel.now, seconds))

    def _hire(self) -> None:
        self._hired += 1
        process, scheduler = self._process(f"worker-{self._hired}")
        self.crew[process.name] = process, scheduler
        process.spawn(self._work(process, scheduler))

    async def _work(self, process: Process, scheduler: AsyncScheduler) -> None:
        await _until_connected(scheduler)
        await scheduler.start_task_execute(lambda payload: self._call(process, payload))

    def _call(self, process: Process, payload: dict[str, Any]) -> Any:
        run = self._begin(process, payload)
        if "deed" not in payload or run.attempt > payload["fail"]:
            return self._handle(process, payload, run)
        self.plan.injected["hostile-handler"] += 1
        deed = DEEDS[payload["deed"]]
        run.follows = deed.follows
        if payload["work"]:
            return self._do_later(process, payload["work"], run, deed, payload)
        run.end, run.how = self.kernel.now, "done" if deed.follows == ENDS else "live"
        return deed.do(payload)

    async def _do_later(self, process: Process, work: float, run: Run, deed: Deed, payload: Any) -> Any:
        try:
            await asyncio.sleep(work)  # the work before the deed
            run.how = "done" if deed.follows == ENDS else "live"
            result = deed.do(payload)
            return await result if hasattr(type(result), "__await__") else result
        except asyncio.CancelledError:
            if run.how == "live":
                run.follows = ""  # it lost its lease before
            raise
        finally:
            if process.alive:
                run.end = self.kernel.now

    def _begin(self, process: Process, payload: dict[str, Any]) -> Run:
        execution = current_execution()
        server = self._home(execution.partition)
        deadline = execution.lease_deadline.timestamp() - self.kernel.start - process.clock
        run = Run(
            execution.id,
            payload["version"],
            round(execution.due.timestamp() * 1000),
            execution.fencing_token,
            execution.attempt,
            execution.partition,
            process.name,
            self.kernel.now,
            deadline,
            server=server.name,
            server_ms=server.now_ms(),
        )
        self.history.runs.append(run)
        return run

    async def _handle(self, process: Process, payload: dict[str, Any], run: Run) -> None:
        execution = current_execution()
        try:
            left = payload["work"]
            while left > 0:
                await asyncio.sleep(min(left, 0.25))  # the work
                left -= 0.25
                run.lease = execution.lease_deadline.timestamp() - self.kernel.start - process.clock
            if execution.attempt <= payload["fail"]:
                raise RuntimeError("asked to fail")
            run.how = "done"
        except asyncio.CancelledError:
            run.how = "cancelled"
            raise
        finally:
            if process.alive:
                run.end = self.kernel.now

    def _home(self, partition: int) -> SimulatedServer:
        layout = self._schedulers[0]._engine.layout
        assert layout is not None
        return self.network.servers[layout.partitions[partition].instance]

    def _owner(self, task_id: str) -> str:
        layout = self._schedulers[0]._engine.layout
        return "" if layout is None else layout.home(task_id.encode()).instance

    async def _produce(self, name: str, process: Process, scheduler: AsyncScheduler, clears: bool) -> None:
        await _until_connected(scheduler)
        chance = process.random
        known: dict[str, Job] = {}
        while self.kernel.now < _FAULTS_UNTIL:
            await asyncio.sleep(chance.expovariate(1.0))  # about one call a second
            choice = chance.random()
            if not known or choice < 0.5:
                job = self._job(f"{name}-{len(known)}", 1, process)
                known[job.id] = job
                await self._assign(scheduler, job)
                continue
            job = known[chance.choice(list(known))]
            if choice < 0.65:
                job.version += 1
                job.fail = chance.choice([0, 0, 1, 5])
                await self._assign(scheduler, job)
            elif choice < 0.75:
                call = Call("reschedule", job.id, start=self.kernel.now)
                await self._do(call, scheduler.reschedule_task(job.id, delay=chance.uniform(0, 15)))
            elif choice < 0.87:
                await self._do(Call("run_now", job.id, start=self.kernel.now), scheduler.run_task_now(job.id))
            elif choice < 0.99 or not clears:
                await self._do(Call("remove", job.id, start=self.kernel.now), scheduler.remove_task(job.id))
            else:
                calls = [Call("clear", task_id, start=self.kernel.now) for task_id in known]
                self.history.calls += calls
                await self._do(calls[0], scheduler.clear_all_tasks(), recorded=True)

    async def _sabotage(self, process: Process, scheduler: AsyncScheduler) -> None:
        """Assigns tasks whose handlers are hostile. Nobody else touches them."""
        await _until_connected(scheduler)
        chance = process.random
        deeds = chance.sample(sorted(DEEDS), len(DEEDS))
        for number, deed in enumerate(deeds):
            job = self._job(f"hostile-{number}", 1, process)
            job.deed, job.fail, job.work = deed, chance.choice([1, 2, 5]), chance.choice([0.0, 0.0, 0.05])
            job.reschedule_interval = chance.choice([None] * 9 + [12.0])
            await self._assign(scheduler, job)
            await asyncio.sleep(chance.expovariate(3.0))  # until the next one
            if self.kernel.now > _FAULTS_UNTIL:
                return

    async def _fill(self, scheduler: AsyncScheduler) -> None:
        """Assigns more than all workers can run at once: each has to use all of its slots."""
        await _until_connected(scheduler)
        jobs = [Job(f"filling-{number}", None, None, work=2.0) for number in range(2 * self.workers * self.concurrency)]
        calls = [Call("assign", job.id, job.version, self.kernel.now, process="filler") for job in jobs]
        self.history.calls += calls
        await scheduler.assign_tasks(jobs)
        for call in calls:
            call.outcome, call.end = "ok", self.kernel.now

    def _job(self, task_id: str, version: int, process: Process) -> Job:
        chance = process.random
        due = None if chance.random() < 0.2 else round(process.time() + chance.uniform(-3, 18), 3)
        interval = chance.choice([None, None, None, None, None, 0.5, 2.0, 3.0, 7.0, 15.0])
        # Together less than the workers can do: overload has tests of its own.
        work = chance.choice([0.0, 0.05, 0.3, self.lease * 0.8, self.lease * 1.5]) if interval is None else 0.05
        return Job(task_id, due, interval, version, work, chance.choice([0, 0, 0, 1, 5]))

    async def _assign(self, scheduler: AsyncScheduler, job: Job) -> None:
        due = None if job.execute_on is None else round(job.execute_on * 1000)
        interval = None if job.reschedule_interval is None else round(job.reschedule_interval * 1000)
        # Whoever is not told the outcome may try again: that must be safe.
        for _ in range(scheduler._engine.runtime.random.choice([1, 20])):
            process = scheduler._engine.runtime
            assert isinstance(process, Process)
            call = Call("assign", job.id, job.version, self.kernel.now, due=due, interval=interval)
            call.process, call.server = process.name, self._owner(job.id)
            await self._do(call, scheduler.assign_task(job))
            if call.outcome == "ok":
                return
            await asyncio.sleep(0.3)  # before it is tried again

    async def _do(self, call: Call, action: Any, *, recorded: bool = False) -> None:
        if not recorded:
            self.history.calls.append(call)
        try:
            await action
            call.outcome = "ok"
        except PartitionUnavailable as error:
            # A clear goes from partition to partition: some may be cleared.
            certain = not error.unknown_outcome and call.operation != "clear"
            call.outcome = "failed" if certain else "unknown"
        call.end = self.kernel.now

    # -- faults ------------------------------------------------------------------------------------------------------

    def _happen(self, happening: Happening) -> None:
        kind = happening.kind
        if kind in ("crash", "stall", "deploy"):
            self._strike_worker(happening)
            return
        server = self.servers[happening.which]
        self.plan.injected[kind] += 1
        if kind == "clock-step":
            server.clock += happening.amount
            self.history.steps.append(ClockStep(server.name, self.kernel.now, happening.amount))
        elif kind == "script-flush":
            server.forget_scripts()
        elif kind == "hang-up":
            server.break_connections()
        elif kind == "unreachable":
            for process, _ in self.crew.values():
                self.plan.cut_off(process, server, happening.amount)
            server.break_connections()
        elif server.up:
            server.stop()
            losing = kind == "down-losing-writes"
            self.kernel.after(happening.amount, self._back, server, self.kernel.now if losing else None)

    def _back(self, server: SimulatedServer, lost_since: float | None) -> None:
        if lost_since is None:
            server.restart()
            return
        seconds = self.kernel.now - lost_since + LOSS_SECONDS
        if server.restart(seconds):
            self.server_log.lose(server, seconds)

    def _strike_worker(self, happening: Happening) -> None:
        crew = list(self.crew.values())
        if not crew:
            return
        process, scheduler = crew[happening.which % len(crew)]
        self.plan.injected[happening.kind] += 1
        if happening.kind == "crash":
            process.crash()
        elif not process.alive:
            return
        elif happening.kind == "stall":
            process.stall(happening.amount)
            self.history.stops.append(Stop(process.name, self.kernel.now, self.kernel.now + happening.amount))
        else:
            process.spawn(self._deploy(process, scheduler, happening.amount))

    async def _deploy(self, process: Process, scheduler: AsyncScheduler, grace: float) -> None:
        await scheduler.stop_task_execute(grace)
        process.crash()

    def _supervise(self) -> None:
        """Replaces workers that have died."""
        for name, (process, _) in list(self.crew.items()):
            if not process.alive:
                del self.crew[name]
                self.kernel.after(self.random.uniform(0.1, 2), self._hire)
        self.kernel.after(0.5, self._supervise)

    # -- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Runs the seed to its end and judges it."""
        for _ in range(self.workers):
            self._hire()
        producers = self.random.randint(1, 2)
        alone = producers == 1 and not self.plan.hostile  # who clears, clears what others assigned too
        for number in range(producers):
            process, scheduler = self._process(f"producer-{number}")
            process.spawn(self._produce(f"p{number}", process, scheduler, clears=alone))
        if self.plan.hostile:
            process, scheduler = self._process("saboteur")
            process.spawn(self._sabotage(process, scheduler))
            process, scheduler = self._process("filler")
            self.kernel.at(_FILLED_AT, None, process.spawn, self._fill(scheduler))
        for happening in self.plan.happenings:
            self.kernel.at(happening.time, None, self._happen, happening)
        self._supervise()
        self.kernel.run(_SETTLED_BY)
        self.kernel.close()
        violations = self._judged()
        violations += [f"{type(error).__name__}: {error}" for error in self.kernel.errors]
        violations += self._audit()
        return Report(
            self.seed,
            self.kernel.now / 3600,
            self.server_log.commands,
            len(self.history.runs),
            self.plan.injected,
            violations,
            self._digest(),
        )

    def _judged(self) -> list[str]:
        for process in self.kernel.processes:
            if process.ended_at is not None:
                self.history.stops.append(Stop(process.name, process.ended_at))
        self.history.remaining = self._final()
        filled = tuple(name for name, (process, _) in self.crew.items() if process.ended_at == self.kernel.now)
        terms = Terms(
            self.lease,
            lapses=None if self.plan.calm else (0.0, _SETTLED_BY),
            late_writes=True,
            prompt=self.plan.promptness,
            concurrency=self.concurrency,
            retries=_RETRY.max_retries or 0,
            filled=_FILLED_AT if self.plan.hostile else inf,
            crew=filled if self.plan.hostile else (),
            # A handshake that names a former start of its server, and arrives late, raises one: seed 300192.
            false_alarms=True,
        )
        return Judge(self.history, terms).verdict().violations

    def _audit(self) -> list[str]:
        """What `verify` finds when all is over."""
        engine = self._schedulers[0]._engine
        if engine.layout is None:
            return []

        def execute(requests: Sequence[Command]) -> list[Reply]:
            return [self.network.servers[request.instance].ask(request) for request in requests]

        try:
            found = drive(audit(engine.layout, engine.options, engine.runtime, False, None), execute)
        except TopologyMismatch as error:
            # A server may have lost the very writes that created its partitions.
            return [] if self.history.losses else [f"verify: {error}"]
        return [f"verify: {problem}" for problem in found.problems]

    def _digest(self) -> int:
        trace = [(run.id, run.token, run.start, run.end, run.how) for run in self.history.runs]
        return zlib.crc32(repr(trace).encode())

    def _final(self) -> dict[str, Remaining]:
        found: dict[str, Remaining] = {}
        for server in self.servers:
            for key in sorted(server.read(b"KEYS", b"*dead-records")):
                for task_id, record in _pairs(server.read(b"HGETALL", key)):
                    found[task_id.decode()] = Remaining(self._version(task_id, record), dead=True)
            for key in sorted(server.read(b"KEYS", b"*:tasks")):
                for task_id, record in _pairs(server.read(b"HGETALL", key)):
                    header = parse_header(split_record(record)[0])
                    overdue = 0.0 if header.state == RUNNING else (server.now_ms() - header.due) / 1000
                    found[task_id.decode()] = Remaining(self._version(task_id, record), overdue)
        return found

    def _version(self, task_id: bytes, record: bytes) -> int:
        try:
            version: int = decode_body(split_record(record)[1]).payload["version"]
        except CorruptRecord as error:
            self.history.failures.append(f"{task_id.decode()}: {error}")
            return 0
        return version


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(calls.pairs(flat))


async def _until_connected(scheduler: AsyncScheduler) -> None:
    while True:
        try:
            await scheduler.start_task_accept()
            return
        except SchedulerError:
            await asyncio.sleep(0.2)  # before it is tried again


def simulate(seed: int, backends: Sequence[Backend], altered: Mapping[str, bytes] | None = None) -> Report:
    """Runs one seed; `altered` are scripts to run in the place of the real ones, by name."""
    for backend in backends:
        backend.call(b"FLUSHALL")
    return Scenario(seed, backends, altered).run()
