"""What can go wrong, each a small class that brings it about and heals it."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from interval_scheduler import Retry
from interval_scheduler.testing.hostility import DEEDS, ENDS, GIVES_UP
from interval_scheduler.transport.endpoint import ANSWER_SECONDS
from tests.chaos.journal import Observed
from tests.chaos.stage import ALWAYS, Child, Stage, admin
from tests.proxy import Direction
from tests.tasks import Job
from tests.waiting import comes_true

NOBODY = 1
"""A port on which nothing listens."""


class Fault:
    """One fault. `inject`, then `again` every tenth of a second for `seconds`, then `heal`."""

    name: ClassVar[str]
    seconds: ClassVar[float] = 2.0
    serves: ClassVar[bool] = False
    """Whether due work goes on during the fault, so that lateness counts from its beginning."""
    lapses: ClassVar[bool] = False
    """Whether runs may be out of touch with their server for longer than a lease, and so may be repeated."""
    kills: ClassVar[bool] = False
    """Whether work has to wait for the lease of a worker that is gone."""
    loses: ClassVar[bool] = False
    """Whether what was acknowledged since `prepare` may be lost, which must then be reported."""
    reports: ClassVar[bool] = False
    """Whether a loss must be reported though everything is there again in the end."""
    proxied: ClassVar[bool] = False
    replicated: ClassVar[bool] = False
    server_options: ClassVar[Mapping[str, str]] = ALWAYS
    fills: ClassVar[bool] = False
    """Whether there is enough to do for all slots of all workers after `heal`."""

    def limit(self, lease: float) -> float:
        """The longest recovery in seconds, with a second of slack for measuring: lease + 1 after a death, else 2."""
        return (lease + 1 if self.kills else 2) + 1

    def prepare(self, stage: Stage) -> None:
        """Called when the fault is near (a second before)."""

    def inject(self, stage: Stage) -> None:
        """Brings the fault about."""
        raise AssertionError(f"{self.name} does nothing")

    def again(self, stage: Stage) -> None:
        """Repeats it, where it is one of repetition."""

    def heal(self, stage: Stage) -> None:
        """Makes everything as before."""

    def violations(self, observed: Observed, dead: Collection[str]) -> list[str]:
        """What is wrong besides, when all is over; `dead` are the ids of dead letters."""
        return []


class WorkerKilled(Fault):
    """SIGKILL of one worker; another is started after two seconds. (sidekiq#843: pop, then die.)"""

    name = "worker SIGKILL"
    kills = True
    serves = True
    _kind = ""

    def inject(self, stage: Stage) -> None:
        victim = stage.random.choice(stage.workers)
        self._kind = victim.kind
        stage.kill(victim)

    def heal(self, stage: Stage) -> None:
        stage.start_worker(self._kind).await_ready()


class WorkersKilled(Fault):
    """SIGKILL of all workers, across due times; others are started after two and a half seconds.

    sidekiq#6758, #6804, river#791, asynq#308, taskiq#328: what was due while nobody was there, or known only to a
    leader that died, never ran.
    """

    name = "all workers SIGKILL"
    kills = True
    seconds = 2.5

    def inject(self, stage: Stage) -> None:
        for worker in list(stage.workers):
            stage.kill(worker)

    def heal(self, stage: Stage) -> None:
        started = [stage.start_worker(kind) for kind in ("plain", "coroutine")]
        for worker in started:
            worker.await_ready()


class WorkerStopped(Fault):
    """SIGSTOP of one worker for longer than its leases, then SIGCONT: it goes on without what it lost.

    redbeat#230: it lost the lock and crashed, 430 times.
    """

    name = "worker SIGSTOP"
    kills = True
    serves = True
    seconds = 3.5
    _victim: Child
    _since = 0.0

    def inject(self, stage: Stage) -> None:
        self._victim = stage.random.choice(stage.workers)
        self._since = time.time()
        self._victim.send(signal.SIGSTOP)

    def heal(self, stage: Stage) -> None:
        stage.stood_still(self._victim, self._since, time.time())
        self._victim.send(signal.SIGCONT)


class ProducerKilled(Fault):
    """SIGKILL of one producer in the middle of its calls."""

    name = "producer SIGKILL"
    serves = True
    seconds = 0.5

    def inject(self, stage: Stage) -> None:
        stage.kill(stage.random.choice(stage.producers))


class ServerKilled(Fault):
    """SIGKILL of a server, restarted on its data a second later. (dramatiq#527: silent for hours after a restart.)"""

    name = "server SIGKILL"
    seconds = 1.0
    lapses = True

    def inject(self, stage: Stage) -> None:
        stage.target.kill()

    def heal(self, stage: Stage) -> None:
        stage.target.restart()


class ServerStopped(Fault):
    """SIGSTOP of a server for longer than a lease: connections stay open and nothing answers."""

    name = "server SIGSTOP"
    seconds = 3.0
    lapses = True

    def inject(self, stage: Stage) -> None:
        stage.target.pause()

    def heal(self, stage: Stage) -> None:
        stage.target.resume()


class ScriptsFlushed(Fault):
    """SCRIPT FLUSH ten times a second, on all servers. (groupmq#16: NOSCRIPT for hours.)"""

    name = "SCRIPT FLUSH"
    serves = True

    def inject(self, stage: Stage) -> None:
        for server in stage.servers:
            with admin(server) as client:
                client.script_flush()

    def again(self, stage: Stage) -> None:
        self.inject(stage)


class ClientsKilled(Fault):
    """CLIENT KILL of the connections that carry commands, and of those that carry hints, ten times a second.

    Not for as long as a lease: on a machine in demand no exchange may find its way between two of them.
    """

    name = "CLIENT KILL"
    seconds = 1.0
    serves = True

    def inject(self, stage: Stage) -> None:
        for server in stage.servers:
            with admin(server) as client:
                for kind in ("normal", "pubsub"):
                    client.client_kill_filter(_type=kind, skipme=True)

    def again(self, stage: Stage) -> None:
        self.inject(stage)


class ReadOnly(Fault):
    """The server becomes a read-only replica, of nobody, so that it keeps its data."""

    name = "READONLY replica"
    seconds = 2.0
    lapses = True

    def inject(self, stage: Stage) -> None:
        with admin(stage.target) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(NOBODY))

    def heal(self, stage: Stage) -> None:
        with admin(stage.target) as client:
            client.execute_command("REPLICAOF", "NO", "ONE")


class MemoryFull(Fault):
    """The memory limit is what is in use: assigning fails, and what is due still runs."""

    name = "memory full"
    serves = True

    def inject(self, stage: Stage) -> None:
        with admin(stage.target) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", client.info("memory")["used_memory"])

    def heal(self, stage: Stage) -> None:
        with admin(stage.target) as client:
            client.config_set("maxmemory", 0)


class ProxyFault(Fault):
    """A fault of the network between the schedulers and one server."""

    proxied = True

    def heal(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.restore()


class Promoted(ProxyFault):
    """The address of a server leads to its replica from now on."""

    replicated = True

    def _promote(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.retarget(stage.promote().port)


class FailedOver(Promoted):
    """FAILOVER to a replica, which has everything; the old primary stays, read-only, and so do connections to it.

    prefect#22436, docket#440: a process stayed on a read-only replica, looked healthy and did nothing.
    """

    name = "FAILOVER"
    serves = True
    seconds = 1.5

    def inject(self, stage: Stage) -> None:
        with admin(stage.target) as old, admin(stage.spare) as new:
            old.execute_command("FAILOVER", "TO", "127.0.0.1", str(stage.spare.port))
            assert comes_true(lambda: new.info("replication")["role"] == "master", 5), "the replica did not take over"
        self._promote(stage)


class ReplicaBehind(Promoted):
    """SIGKILL of a primary whose replica lacks the last second, and takes over."""

    name = "failover, stale replica"
    lapses = True
    loses = True
    seconds = 1.0

    def prepare(self, stage: Stage) -> None:
        with admin(stage.spare) as client:
            client.execute_command("REPLICAOF", "NO", "ONE")

    def inject(self, stage: Stage) -> None:
        stage.target.kill()
        self._promote(stage)


class NetworkSlow(ProxyFault):
    """Every answer takes 200 ms longer."""

    name = "proxy delays 200 ms"
    serves = True

    def inject(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.delay(0.2)


class NetworkCut(ProxyFault):
    """All connections are reset, ten times a second; not for as long as a lease, see `ClientsKilled`."""

    name = "proxy cuts all"
    seconds = 1.0
    serves = True

    def inject(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.cut()

    def again(self, stage: Stage) -> None:
        self.inject(stage)


class ConnectionsForsaken(ProxyFault):
    """Connections stay open and bring nothing any more, as behind a gateway that forgot them; new ones work.

    BullMQ#2466, #2543, #4484: a blocking read on a dead connection never returned, for days.
    """

    name = "connections go silent"
    lapses = True
    seconds = ANSWER_SECONDS + 0.5
    """By then everybody who waits for an answer has given up."""

    def inject(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.forsake()


class Swallowed(ProxyFault):
    """One direction vanishes silently for longer than a lease."""

    seconds = 2.5
    lapses = True
    _direction: ClassVar[Direction]

    def inject(self, stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.swallow(self._direction)


class RequestsSwallowed(Swallowed):
    """What schedulers send never arrives."""

    name = "proxy swallows requests"
    _direction = "requests"


class AnswersSwallowed(Swallowed):
    """What schedulers send is carried out, and they never hear of it."""

    name = "proxy swallows answers"
    _direction = "answers"


class DataReplaced(Fault):
    """A server is killed, and started again on other data than it had."""

    lapses = True
    seconds = 0.5

    def inject(self, stage: Stage) -> None:
        stage.target.kill()
        self._replace(stage)

    def _replace(self, stage: Stage) -> None:
        raise AssertionError(f"{self.name} replaces nothing")

    def heal(self, stage: Stage) -> None:
        stage.target.restart()


class TailLost(DataReplaced):
    """A crash with ``appendfsync everysec``: the last second or so of the AOF is gone, the rest ends in mid-command."""

    name = "AOF tail truncated"
    loses = True
    server_options: ClassVar[Mapping[str, str]] = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
    }
    _size = 0

    def prepare(self, stage: Stage) -> None:
        # Between two iterations of the server's loop, so this is where a command ends.
        self._size = _aof(stage).stat().st_size

    def _replace(self, stage: Stage) -> None:
        path = _aof(stage)
        assert path.stat().st_size > self._size, "nothing was written, so nothing can be lost"
        with path.open("r+b") as file:
            file.truncate(self._size + 5)


class BackupRestored(DataReplaced):
    """A server comes back with the data it had a second before its death, as from a backup."""

    name = "old backup restored"
    loses = True

    def prepare(self, stage: Stage) -> None:
        shutil.copytree(stage.target.folder, _backup(stage))

    def _replace(self, stage: Stage) -> None:
        shutil.rmtree(stage.target.folder)
        _backup(stage).rename(stage.target.folder)


class Emptied(DataReplaced):
    """A server comes back empty, which is reported and served by nobody, until it gets its data back."""

    name = "server emptied"
    reports = True
    seconds = 1.5

    def _replace(self, stage: Stage) -> None:
        folder = Path(stage.target.folder)
        folder.rename(_backup(stage))
        folder.mkdir()
        stage.target.restart()

    def heal(self, stage: Stage) -> None:
        with admin(stage.target) as client:
            assert client.keys("*:tasks") == [], "somebody wrote tasks to an empty server"
        stage.target.kill()
        shutil.rmtree(stage.target.folder)
        _backup(stage).rename(stage.target.folder)
        stage.target.restart()


def _aof(stage: Stage) -> Path:
    """The file that the server appends to: one of several since 7.0."""
    folder = Path(stage.target.folder)
    return next(iter([*folder.glob("appendonlydir/*.incr.aof"), folder / "appendonly.aof"]))


def _backup(stage: Stage) -> Path:
    return stage.folder / "backup"


class HostileHandlers(Fault):
    """Tasks whose handlers do anything at all, each deed of `testing.hostility` several times, among healthy ones.

    rails#55775, celery#6990, sentry#20100: they took the worker along. Afterwards all slots are still there.
    """

    name = "hostile handlers"
    serves = True
    fills = True
    _filling = 0.3

    def inject(self, stage: Stage) -> None:
        jobs = [
            Job(f"hostile-{number}-{name}", payload=_payload(0.0, name), retry=Retry(_HOSTILE_RETRIES, 0.05))
            for number in range(2)
            for name in DEEDS
        ]
        stage.random.shuffle(jobs)
        with stage.scheduler() as scheduler:
            scheduler.start_task_accept()
            scheduler.assign_tasks(jobs)

    def heal(self, stage: Stage) -> None:
        count = 2 * len(stage.workers) * stage.options["concurrency"]
        with stage.scheduler() as scheduler:
            scheduler.start_task_accept()
            scheduler.assign_tasks(Job(f"filling-{n}", payload=_payload(self._filling)) for n in range(count))

    def violations(self, observed: Observed, dead: Collection[str]) -> list[str]:
        found = []
        for number in range(2):
            for name, deed in DEEDS.items():
                task_id = f"hostile-{number}-{name}"
                runs = [run for run in observed.runs if run.id == task_id]
                expected = {ENDS: (1, False), GIVES_UP: (1, True)}.get(deed.follows, (1 + _HOSTILE_RETRIES, True))
                if (len(runs), task_id in dead) != expected:
                    end = "is a dead letter" if task_id in dead else "is no dead letter"
                    found.append(f"hostile: {task_id} {deed.follows}, ran {len(runs)} times and {end}")
        return found


_HOSTILE_RETRIES = 1


def _payload(work: float, deed: str = "") -> dict[str, Any]:
    return {"version": 1, "work": work, **({"deed": deed} if deed else {})}


FAULTS: tuple[type[Fault], ...] = (
    WorkerKilled,
    WorkersKilled,
    WorkerStopped,
    ProducerKilled,
    ServerKilled,
    ServerStopped,
    ScriptsFlushed,
    ClientsKilled,
    ReadOnly,
    FailedOver,
    ReplicaBehind,
    MemoryFull,
    NetworkSlow,
    NetworkCut,
    ConnectionsForsaken,
    RequestsSwallowed,
    AnswersSwallowed,
    TailLost,
    BackupRestored,
    Emptied,
    HostileHandlers,
)
