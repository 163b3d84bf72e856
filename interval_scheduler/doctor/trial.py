"""Every script run for real on one instance, as schedulers and workers run them, in a namespace of its own.

The throw-away namespace of ``app`` is ``app:doctor-<random>``. Its keys fit the same ACL patterns as those of ``app``
(see docs/acl.md), and they cannot be anybody else's: no namespace of an application contains a colon.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..core.settlement import End, Outcome
from ..model.errors import PartitionUnavailable, SchedulerError
from ..model.options import Options
from ..model.task import Task
from ..protocol import calls, keys
from ..protocol.audit import audit
from ..protocol.commands import Command, Partition, Reply
from ..protocol.operation import Operation, drive
from ..protocol.settling import ClaimedRun, claimed_run, settle_run
from ..protocol.tasks import Operations
from ..protocol.topology import Layout, join
from ..servers.requirements import Finding
from ..support.runtime import Runtime
from .connection import Connection

T = TypeVar("T")

HINT_SECONDS = 2.0
"""Longest wait for a hint that was published. It takes one round trip where it is passed on at all."""
_BUCKET_MS = 86_400_000
_LEASE_MS = 60_000
_HOUR = 3600
_GIVEN_UP = Outcome(End.ABANDONED, "tried by the doctor")


def trial_namespace(namespace: str) -> str:
    """A throw-away namespace beside that of an application."""
    return f"{namespace}:doctor-{secrets.token_hex(8)}"


class _Unexpected(Exception):
    """A script answered something else than it must."""


@dataclass
class _TrialTask(Task):
    id: str
    execute_on: float | None = None

    def serialize(self) -> Any:
        return self.id


class Trial:
    """One run of every script on the instance `name`, in the throw-away `namespace`."""

    def __init__(
        self,
        name: str,
        namespace: str,
        options: Options,
        execute: Callable[[Sequence[Command]], list[Reply]],
        connection: Connection,
        runtime: Runtime,
    ) -> None:
        self._name = name
        self._execute = execute
        self._connection = connection
        self._runtime = runtime
        [instance] = [replace(instance, weight=1.0) for instance in options.instances if instance.name == name]
        # One partition, and buckets of a day: so the name of every key that can be made is known, and can be deleted.
        storage = replace(
            options.storage, instances=(instance,), master_index=0, task_interval_seconds=_BUCKET_MS / 1000
        )
        self._options = replace(options, storage=storage, namespace=namespace, partitions=1)
        self._step = ""

    def run(self) -> list[Finding]:
        """Tries everything, and deletes every key that was made for it."""
        try:
            hinted = self._steps()
        except (SchedulerError, _Unexpected, LookupError, TypeError, ValueError) as error:
            # The last three: a reply has another form, as behind a proxy that changes replies.
            reason = str(error)
            if isinstance(error, PartitionUnavailable):
                # redis-py takes the code out of an error (OOM, READONLY…) and gives it a class instead.
                reason = f"{type(error.__cause__).__name__}: {error.reason}"
            message = f"{self._step} failed ({reason}): schedulers would fail too"
            findings = [Finding("error", self._name, "scripts", message, _fix(reason))]
        else:
            message = "a task was assigned, claimed, settled, and everything else done"
            findings = [Finding("ok", self._name, "scripts", message), self._hint_finding(hinted)]
        finally:
            left = self._delete()
        if left:
            message = "keys of the throw-away namespace are left behind: they only take memory"
            findings.append(Finding("warning", self._name, "scripts", message, f"run DEL {' '.join(left)}"))
        return findings

    def _hint_finding(self, hinted: bool) -> Finding:
        if hinted:
            return Finding("ok", self._name, "hints", "a hint arrived")
        return Finding(
            "warning",
            self._name,
            "hints",
            f"a hint published with a task did not arrive within {HINT_SECONDS:g} s: workers notice new tasks only "
            "every check_tasks_every_seconds",
            "configure the proxy before the server to pass pub/sub on, or connect without it",
        )

    def _steps(self) -> bool:
        self._step = "joining a topology"
        layout = drive(join(self._options, self._runtime.script_now()), self._execute)
        operations = Operations(layout, self._options, self._runtime)
        [home] = layout.partitions
        with self._connection.another() as listener:
            self._step = "listening to hints"
            channel = keys.hint_channel(self._options.namespace, 0)
            self._expect(listener.one("SUBSCRIBE", channel), lambda answer: not isinstance(answer, Exception))
            self._do("assigning a task", operations.assign_task(_TrialTask("now")))
            hint = listener.hear(HINT_SECONDS)
        self._run_one(operations, home)
        self._plan(operations, layout)
        self._bury(operations, home)
        self._take_turns(operations)
        self._do("clearing", operations.clear_all_tasks(None), 0)
        return isinstance(hint, list) and hint[0] == b"message"

    def _run_one(self, operations: Operations, home: Partition) -> None:
        """A run that is confirmed, as with ``confirm="manual"``."""
        run = self._claim(home)
        token = run.header.token
        self._step = "prolonging a lease"
        [reply] = self._execute([calls.renew(home, self._now, _LEASE_MS, ("now", str(token)))])
        self._expect(calls.read_renew(home, reply).answers, lambda answers: answers == bytes([calls.RENEWED]))
        self._do("confirming a run", operations.confirm_task("now", token))
        self._settle(home, run, Outcome(End.DONE))
        self._do("reading a task", operations.is_scheduled("now"), False)

    def _plan(self, operations: Operations, layout: Layout) -> None:
        """What is done to tasks that wait."""
        later = self._runtime.time() + _HOUR
        result = self._do("assigning tasks", operations.assign_tasks([_TrialTask("now", later)]), None)
        self._expect(result.created, lambda created: created == 1)
        self._do("moving a task", operations.reschedule_task("now", 2 * _HOUR, None))
        reader = operations.upcoming(0, None, None)
        self._do("reading what is upcoming", reader.fill(), None)
        self._expect(len(reader.take()), lambda count: count == 1)
        self._do("counting", operations.counts(), (1, 1))
        audited = self._do("auditing", audit(layout, self._options, self._runtime, True, None), None)
        self._expect(audited, lambda found: found.tasks == 1 and not found.problems)
        self._do("running a task now", operations.run_task_now("now"))

    def _bury(self, operations: Operations, home: Partition) -> None:
        """Dead letters: made, read, revived, purged; and the task that is left is removed."""
        for _ in range(2):
            self._settle(home, self._claim(home), _GIVEN_UP)
            found = self._do("reading dead letters", operations.dead_tasks(), None)
            self._expect(len(found), lambda count: count == 1)
            if self._do("reviving a dead letter", operations.retry_dead_tasks(["now"]), None) != 1:
                raise _Unexpected("the dead letter was not found")
        self._settle(home, self._claim(home), _GIVEN_UP)
        self._do("purging dead letters", operations.purge_dead_tasks(), 1)
        self._do("removing a task", operations.remove_tasks(["now"]), 1)

    def _take_turns(self, operations: Operations) -> None:
        """Locks, what workers tell each other, and what connections tell a server that was started."""
        first = self._do("taking a lock", operations.lock("doctor", "take", "a", _LEASE_MS), None)
        self._expect(first, lambda token: token > 1)
        self._do("taking a lock twice", operations.lock("doctor", "take", "b", _LEASE_MS), 0)
        self._do("extending a lock", operations.lock("doctor", "extend", "a", _LEASE_MS), 1)
        self._do("releasing a lock", operations.lock("doctor", "release", "a", 0), 1)
        self._step = "reporting a worker, passing on a hint, or the handshake with a server"
        namespace = self._options.namespace
        requests = [calls.workers(self._name, namespace, self._now, "doctor", ttl) for ttl in (_LEASE_MS, 0)]
        requests.append(calls.nudge(self._name, namespace, "doctor", 0, 0))
        requests.append(calls.handshake(self._name, [keys.meta(namespace, 0)], "doctor", [0]))
        *reports, nudged, shaken = self._execute(requests)
        self._expect([calls.read_workers(reply) for reply in reports], lambda alive: alive == [["doctor"], []])
        calls.read_nudge(nudged)
        self._expect(len(calls.read_handshake(shaken)), lambda partitions: partitions == 1)

    def _claim(self, home: Partition) -> ClaimedRun:
        self._step = "claiming a task"
        [reply] = self._execute([calls.claim(home, self._now, 1, _LEASE_MS, 1, 1024, is_first=True)])
        claimed = calls.read_claim(home, reply)
        tasks = dict(calls.pairs(claimed.entries))
        self._expect(list(tasks), lambda ids: ids == [b"now"])
        return claimed_run(b"now", tasks[b"now"], claimed.now_us // 1000)

    def _settle(self, home: Partition, run: ClaimedRun, outcome: Outcome) -> None:
        self._do("settling a run", settle_run(home, run, outcome, self._now, run.claimed_at, _LEASE_MS))

    @property
    def _now(self) -> str:
        return self._runtime.script_now()

    def _do(self, step: str, operation: Operation[T], expected: object = True) -> T:
        """Carries an operation out; `expected` None takes any result."""
        self._step = step
        result = drive(operation, self._execute)
        if expected is not None and result != expected:
            raise _Unexpected(f"the answer is {result!r}, not {expected!r}")
        return result

    def _expect(self, answer: T, holds: Callable[[T], bool]) -> None:
        if not holds(answer):
            raise _Unexpected(f"the answer is {answer!r}")

    def _delete(self) -> list[str]:
        """Deletes every key that the trial can have made; the names of those that are left."""
        namespace = self._options.namespace
        meta = keys.meta(namespace, 0)
        names = [keys.of_partition(meta, name) for name in keys.PARTITION_KEYS]
        names += [keys.topology(namespace), keys.instance_name(namespace), keys.workers(namespace)]
        names += [keys.lock(namespace, "doctor"), keys.lock_sequence(namespace)]
        time = self._connection.one("TIME")
        seconds = self._runtime.time() if isinstance(time, Exception) else int(time[0])
        today = int(seconds * 1000) // _BUCKET_MS
        names += [keys.bucket(meta, (today + day) * _BUCKET_MS) for day in (-1, 0, 1)]
        self._connection.ask(*(("DEL", name) for name in names))
        answers = self._connection.ask(*(("EXISTS", name) for name in names))
        return [name for name, answer in zip(names, answers, strict=True) if answer != 0]


def _fix(reason: str) -> str:
    """What to do about a server's error."""
    for pattern, fix in (
        ("NoPermission|NOPERM|ACL failure", "give the user the rights of docs/acl.md"),
        ("OutOfMemory|OOM|maxmemory", "raise maxmemory or make room: the server takes no new data"),
        ("ReadOnly|READONLY", "use the address of the primary"),
        ("MISCONF", "repair its persistence: the server's log names the cause"),
        (
            "Moved|MOVED|CrossSlot|CROSSSLOT|ClusterDown|CLUSTERDOWN",
            "this is a node of a Redis Cluster: use a server that stands alone",
        ),
        ("unknown command|disabled", "use a server, plan or proxy that allows Lua scripts and all commands they use"),
    ):
        if re.search(pattern, reason):
            return fix
    return "look for the cause in the server's log, and for a proxy on the way that changes commands"
