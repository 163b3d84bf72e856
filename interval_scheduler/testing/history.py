"""What happened in a run, and whether it was allowed to.

The checker knows nothing of how the scheduler works: it compares what producers were told, what handlers saw and what
the servers carried out with the promises.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ..core.record import Header, parse_header, split_record
from ..protocol import calls
from ..protocol.commands import Partition, is_refused
from .kernel import Process
from .servers import Executed, SimulatedServer

_SERVED_SECONDS = 20.0
"""What has been due for that long has run, where the faults are over for longer still."""
_NOTICED_SECONDS = 15.0
"""By then, a producer that was told of lost writes has reported them, if it still lives."""


@dataclass(slots=True)
class Call:
    """One call of a producer. `outcome`: "ok", "failed" (nothing was written) or "unknown"."""

    operation: str
    task_id: str
    start: float
    version: int = 0
    due: int | None = None
    interval: int | None = None
    process: Process | None = None
    server: str = ""
    end: float = float("inf")
    outcome: str = "unknown"
    result: Any = None


@dataclass(slots=True)
class HandlerRun:
    """One run of a handler. `end` is None where its process died; `deadline` is the last it knew of its lease."""

    task_id: str
    version: int
    token: int
    attempt: int
    due: int
    process: Process
    server: SimulatedServer
    start: float
    server_ms: int
    deadline: float
    end: float | None = None
    how: str = "died"


@dataclass(slots=True)
class Loss:
    """Writes that a server lost: those from `since` to `at`."""

    server: str
    since: float
    at: float
    commands: int
    reported: bool = False


@dataclass(slots=True)
class Occurrence:
    """What a claim gave out."""

    token: int
    header: Header
    claimed_ms: int
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a task at the end: which version, and for how many seconds it has been waiting though due."""

    version: int
    overdue: float = 0.0


@dataclass
class History:
    """Everything that was observed, and `violations`: what the servers did that they must not."""

    concurrency: int = 1
    calls: list[Call] = field(default_factory=list)
    runs: list[HandlerRun] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    steps: list[tuple[str, float, float]] = field(default_factory=list)
    """Clock steps: server, virtual time, seconds."""
    stalls: list[tuple[Process, float, float]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    commands: int = 0
    _claims: dict[tuple[str, str], Occurrence] = field(default_factory=dict)
    _tokens: dict[bytes, int] = field(default_factory=dict)
    _completed: dict[str, list[tuple[float, str, Header, Header | None, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    # -- what the servers do, as they do it --------------------------------------------------------------------------

    def observe(self, server: SimulatedServer, entry: Executed) -> None:
        """Called for every script that a server carries out."""
        self.commands += 1
        if isinstance(entry.reply, Exception):
            self.violations.append(f"{entry.script} failed on {server.name}: {entry.reply}")
        elif is_refused(entry.reply):
            return
        elif entry.script == "claim":
            self._claimed(server, entry)
        elif entry.script == "settle":
            self._settled(server, entry)

    def _claimed(self, server: SimulatedServer, entry: Executed) -> None:
        for raw_id, record in calls.pairs(calls.read_claim(_partition(server, entry), entry.reply).entries):
            task_id, header = raw_id.decode(), parse_header(split_record(record)[0])
            if header.token <= self._tokens.get(entry.keys[0], 0):
                self._violate(entry, f"{task_id} was given token {header.token}, not larger than the one before")
            self._tokens[entry.keys[0]] = header.token
            self._claims[server.name, task_id] = Occurrence(header.token, header, entry.now_ms)

    def _settled(self, server: SimulatedServer, entry: Executed) -> None:
        answers = calls.read_settle(_partition(server, entry), entry.reply).answers
        for answer, (raw_id, held, new) in zip(answers, calls.settled_runs(entry.args), strict=True):
            if answer != calls.ACCEPTED:
                continue
            task_id, expected = raw_id.decode(), parse_header(held)
            current = self._claims.get((server.name, task_id))
            following = parse_header(new) if new else None
            if current is None and any(loss.server == server.name for loss in self.losses):
                continue  # the claim may be among what was lost
            if current is None or current.token != expected.token:
                self._violate(entry, f"the stale run of {task_id} with token {expected.token} was accepted")
            elif current.finished:
                self._violate(entry, f"the run of {task_id} with token {expected.token} was settled twice")
            else:
                current.finished = following is None or following.state != "r"
                if current.finished:
                    done = (entry.time, server.name, current.header, following, current.claimed_ms)
                    self._completed[task_id].append(done)

    def _violate(self, entry: Executed, what: str) -> None:
        self.violations.append(f"at {entry.time:.3f}: {what}")

    def lost(self, server: SimulatedServer, seconds: float, commands: int) -> None:
        """A server came back without its last writes."""
        now = server.kernel.now
        self.losses.append(Loss(server.name, now - seconds, now, commands))
        for key in [key for key in self._claims if key[0] == server.name]:
            del self._claims[key]

    # -- the end -----------------------------------------------------------------------------------------------------

    def check(self, final: Mapping[str, Remaining], prompt: float | None) -> list[str]:
        """All violations, when every process has ended. `prompt`: the seconds by which nothing may be late, where
        nothing was in its way."""
        calls: dict[str, list[Call]] = defaultdict(list)
        runs: dict[str, list[HandlerRun]] = defaultdict(list)
        for call in self.calls:
            calls[call.task_id].append(call)
        for run in self.runs:
            runs[run.task_id].append(run)
        found = list(self.violations)
        for task_id, of_id in calls.items():
            found += self._never_lost(task_id, of_id, runs[task_id], final.get(task_id))
            found += self._on_its_grid(task_id, of_id)
        crowded = [] if prompt is None else self._crowded()
        for task_id, started in runs.items():
            found += self._one_at_a_time(task_id, started, calls[task_id])
            found += self._never_early(started)
            if prompt is not None:
                found += self._prompt(started, prompt, crowded)
        for loss in self.losses:
            if any(self._knew(call, loss) for call in self.calls) and not loss.reported:
                found.append(f"{loss.server} lost {loss.commands} commands at {loss.at:.3f}, unnoticed")
        return found

    def _knew(self, call: Call, loss: Loss) -> bool:
        """Whether a producer that is still there was told of a write that was lost."""
        ended = None if call.process is None else call.process.ended_at
        return (
            call.outcome == "ok"
            and call.server == loss.server
            and loss.since <= call.start
            and call.end <= loss.at
            and (ended is None or ended > loss.at + _NOTICED_SECONDS)
        )

    def _never_lost(
        self,
        task_id: str,
        calls: list[Call],
        runs: list[HandlerRun],
        final: Remaining | None,
    ) -> Iterator[str]:
        """Every acknowledged assignment ran, was removed, or is a dead letter."""
        for position, call in enumerate(calls):
            if call.operation != "assign" or call.outcome != "ok":
                continue
            later = calls[position + 1 :]
            if any(other.operation in ("remove", "clear") and other.outcome != "failed" for other in later):
                continue
            if self._lost_between(call.start, float("inf")):
                continue
            if final is not None and final.version >= call.version:
                if final.overdue > _SERVED_SECONDS:
                    yield f"{task_id} waits since {final.overdue:.1f} s and nobody runs it"
                continue
            if not any(run.version >= call.version and run.how == "done" for run in runs):
                yield f"{task_id}, version {call.version}, acknowledged at {call.end:.3f}, was lost"

    def _lost_between(self, start: float, end: float) -> bool:
        return any(loss.since <= end and loss.at >= start for loss in self.losses if loss.commands)

    def _on_its_grid(self, task_id: str, calls: list[Call]) -> Iterator[str]:
        """Occurrence k is at first + k * interval, each ends once, and none is left out but those a late one covers."""
        first = calls[0]
        simple = all(call.operation in ("assign", "run_now") for call in calls)
        if first.operation != "assign" or first.due is None or not simple or self._lost_between(first.start, 1e18):
            return
        interval = first.interval
        if any(call.interval != interval or call.due != first.due for call in calls if call.operation == "assign"):
            return
        expected: int | None = None
        for time, _, header, following, claimed_ms in self._completed[task_id]:
            if "x" in header.flags:
                continue
            if interval is None:
                continue
            slot = header.grid
            if (slot - first.due) % interval:
                yield f"at {time:.3f}: {task_id} ran for {slot}, off its grid {first.due} + k * {interval}"
            if expected is not None and slot != expected:
                yield f"at {time:.3f}: {task_id} ran for {slot}, but {expected} was next"
            if following is None:
                yield f"at {time:.3f}: {task_id} recurs and was ended"
                return
            if following.grid != slot:
                reference = max(slot, claimed_ms)
                expected = first.due + ((reference - first.due) // interval + 1) * interval
                if following.grid != expected:
                    yield f"at {time:.3f}: after {slot}, claimed at {claimed_ms}, {task_id} goes on at {following.grid}"

    def _one_at_a_time(self, task_id: str, runs: list[HandlerRun], calls: list[Call]) -> Iterator[str]:
        """No second live run before the lease of the first one ended, as far as that one knew."""
        for first, second in pairwise(runs):
            if second.token <= first.token:
                yield f"{task_id}: token {second.token} came after {first.token}"
            alive_until = self._alive_until(first)
            if second.start >= alive_until:
                continue
            if any(call.operation in ("remove", "clear") and call.start <= second.start for call in calls):
                continue  # it was removed while it ran
            if second.start < first.deadline - 0.001 and not self._disturbed(first, second.start):
                yield (
                    f"at {second.start:.3f}: {task_id} was started with token {second.token} while token {first.token} "
                    f"was live on {first.process.name}, with a lease until {first.deadline:.3f}"
                )

    def _alive_until(self, run: HandlerRun) -> float:
        if run.end is not None:
            return run.end
        return self._died.get(run.process.name, float("inf"))

    @property
    def _died(self) -> dict[str, float]:
        return {run.process.name: run.process.ended_at for run in self.runs if run.process.ended_at is not None}

    def _disturbed(self, run: HandlerRun, until: float) -> bool:
        """Whether its server's clock stepped forward, or its server lost writes, during a run."""
        name = run.server.name
        stepped = any(server == name and run.start - 1 <= at <= until and by > 0 for server, at, by in self.steps)
        return stepped or any(
            loss.server == name and loss.commands and loss.since <= until and loss.at >= run.start
            for loss in self.losses
        )

    def _never_early(self, runs: Iterable[HandlerRun]) -> Iterator[str]:
        for run in runs:
            back = any(
                server == run.server.name and by < 0 and run.start - 15 <= at <= run.start
                for server, at, by in self.steps
            )
            if run.server_ms < run.due and not back:
                yield f"{run.task_id} started {run.due - run.server_ms} ms early"

    def _crowded(self) -> list[tuple[float, float]]:
        """When all slots of some worker were taken, and somebody else had to stand in."""
        changes: list[tuple[float, int, str]] = []
        for run in self.runs:
            changes.append((run.start, 1, run.process.name))
            changes.append((run.end if run.end is not None else run.process.ended_at or 1e18, -1, run.process.name))
        live: dict[str, int] = defaultdict(int)
        since: dict[str, float] = {}
        spans = []
        for time, change, name in sorted(changes):
            live[name] += change
            if live[name] >= self.concurrency:
                since.setdefault(name, time)
            elif name in since:
                spans.append((since.pop(name), time + 0.2))
        return spans

    def _prompt(self, runs: Iterable[HandlerRun], prompt: float, crowded: list[tuple[float, float]]) -> Iterator[str]:
        for run in runs:
            late = run.server_ms - run.due
            own = any(
                other.task_id == run.task_id and other is not run and (other.end or 1e18) > run.start - late / 1000
                for other in self.runs
                if other.start < run.start
            )
            span = run.start - late / 1000, run.start
            full = any(since <= span[1] and until >= span[0] for since, until in crowded)
            changed = (
                own
                or full
                or any(
                    call.task_id == run.task_id and run.start - late / 1000 - 1 <= call.end <= run.start + 1
                    for call in self.calls
                )
            )
            if run.attempt == 1 and late > prompt * 1000 and not changed:
                yield f"at {run.start:.3f}: {run.task_id} started {late} ms late, with nothing in its way"


def _partition(server: SimulatedServer, entry: Executed) -> Partition:
    """The partition that a script worked on; its number is of no interest here."""
    return Partition(-1, server.name, entry.keys[0].decode())
