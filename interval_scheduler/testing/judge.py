"""Compares what producers were told, what handlers saw and what servers did with the promises.

There is one judge for the simulation and for the tests of real processes (`tests/chaos`). It knows nothing of how the
promises are kept. What differs is what a history knows, and that is in its `Terms`: real clocks are compared with some
slack, a fault has a beginning and an end, and only simulated servers tell what they did (`History.server_log`, empty
for real ones). Violations are texts, so that a failure says what happened. The rules, by kind:

========== ======================== =====================================================================
kind       rule                     what must hold
========== ======================== =====================================================================
lost       `_judge_occurrence`      what was acknowledged was run, removed, or is a dead letter; what remains and is
                                    due does not wait for ever; with a cutoff: each time of a recurring task was run
early      `_early`                 no run starts before its due time
duplicated `_overlapping`           no second run while the first one is live and owns its lease
duplicated `_repeated`              no second run of an occurrence that was completed
late       `_judge_occurrence`      an occurrence waits at most `recovery` seconds after a fault
late       `_late`                  where nothing goes wrong, every run starts within `prompt` seconds
other      `_tokens`                the tokens of a task grow from run to run
other      `_off_grid`              a run is due at an assigned time, or on its task's grid
other      `_unwanted`              no run starts after its task was removed (and the lease of a claim before that)
other      `_untold`                a jump of a server's clock is told once by each worker that could see it, and no
                                    other one is
other      `_unlike`                after a hostile deed follows what is documented
other      `_unfilled`              a worker that is given enough to do runs as many tasks at once as it has slots, and
                                    never more
other      `_unnoticed`             lost writes are told by "data-loss", and nothing else is
other      `_given`                 servers: the tokens of a partition grow from claim to claim
other      `_accepted`              servers: reports of stale runs are refused, and a run ends once
other      `_drift`                 servers: occurrence k is at first + k * interval, and none is left out but those
                                    that a late one covers; a recurring task never ends by itself
other      `History.failures`       servers: no script fails
========== ======================== =====================================================================

Each is proved by a made-up history that breaks it, in ``tests/chaos/test_judge.py``; the simulation proves them again
with broken scripts, in ``tests/simulation/test_broken_scripts.py``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from .history import ASSIGN, REMOVALS, Call, Claim, ClockStep, History, Jump, LossWindow, Report, Run
from .hostility import ENDS, GIVES_UP
from .occurrences import Occurrence, occurrences

KINDS = ("lost", "early", "duplicated", "late", "other")
"""The kinds of violations, each a list of a `Verdict`."""
_LEASE_SLACK = 0.001
"""Seconds: deadlines are whole milliseconds."""
_SERVED_SECONDS = 20.0
"""What has been due for that long has run, where the faults are over for longer still."""
_NOTICED_SECONDS = 15.0
"""By then, a producer that was told of lost writes has reported them, if it still lives."""
_STEP_SECONDS = 15.0
"""So long after a server's clock went back, a run may still seem early: it was claimed before."""
_SEEN_SECONDS = 30.0
"""So long a jump is seen, whatever messages and pauses of a worker were around it."""
_STAND_IN_SECONDS = 0.2
"""What a full worker leaves is taken by others within that time."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one kind of history knows, and what it excuses. Times are seconds, as in the history."""

    lease: float
    clock: float = 0.0
    """By how much clocks that are compared with due times may differ."""
    cutoff: float | None = None
    """Occurrences due by then have been run. None: what is due is known at the servers only, see `remaining`."""
    lapses: tuple[float, float] | None = None
    """When a run may be out of touch with its server for longer than its lease, and so may be repeated."""
    late_writes: bool = False
    """A call with an unknown outcome may be carried out after later calls."""
    late_starts: bool = False
    """A process may be stopped between a claim and the note of a run's start."""
    disturbed: float = 0.0
    """Runs that started before that time count as prompt."""
    served: float = 0.0
    """From then on work has to be prompt."""
    recovery: float | None = None
    """The longest wait of an occurrence since `served`."""
    prompt: float | None = None
    """By how much a run may start late where nothing is in its way. None: something always may be."""
    concurrency: int = 1
    retries: int = 0
    """How often a hostile task is repeated before it is a dead letter."""
    filled: float = inf
    """From then on there was enough to do for all slots of `crew`."""
    crew: tuple[str, ...] = ()
    """The worker processes that live at the end."""
    notice: bool | None = None
    """Whether "data-loss" must be told. None: for each loss that somebody can notice."""
    false_alarms: bool = False
    """Without `notice`: whether "data-loss" may be told of a server that lost nothing."""


@dataclass
class Verdict:
    """What was found. `recovery` is the longest wait in seconds, that of `slowest`."""

    due: int = 0
    run: int = 0
    dead: int = 0
    recovery: float = 0.0
    slowest: str = ""
    lost: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return [
            f"{kind}: {text}"
            for kind in KINDS
            for text in getattr(self, kind)  # one list per kind
        ]


class Judge:
    """Judges one history by its terms."""

    def __init__(self, history: History, terms: Terms) -> None:
        self._history = history
        self._terms = terms
        self._calls: dict[str, list[Call]] = defaultdict(list)
        self._runs: dict[str, list[Run]] = defaultdict(list)
        for call in history.calls:
            self._calls[call.id].append(call)
        for run in sorted(history.runs, key=lambda run: run.start):
            self._runs[run.id].append(run)

    def pending(self) -> list[Occurrence]:
        """What is due, was not lost by a server, and has not been run to its end."""
        return [
            occurrence
            for occurrence in self._occurrences()
            if self._keeper(occurrence) is None and not self._forgotten(occurrence)
        ]

    def verdict(self) -> Verdict:
        """Everything that can be said."""
        found = Verdict()
        for occurrence in self._occurrences():
            self._judge_occurrence(occurrence, found)
        if self._terms.recovery is not None and found.recovery > self._terms.recovery:
            found.late.append(f"{found.slowest} waited {found.recovery:.2f} s, limit {self._terms.recovery:g} s")
        crowded = [] if self._terms.prompt is None else self._crowded()
        for task_id, runs in self._runs.items():
            calls = self._calls.get(task_id, [])
            found.early += self._early(runs)
            found.duplicated += self._overlapping(calls, runs)
            found.duplicated += self._repeated(calls, runs)
            found.late += self._late(calls, runs, crowded)
            found.other += self._tokens(runs)
            found.other += self._off_grid(calls, runs)
            found.other += self._unwanted(calls, runs)
        found.other += self._unnoticed()
        found.other += self._untold()
        found.other += self._unlike()
        found.other += self._unfilled()
        found.other += self._history.failures
        found.other += self._given()
        ended = _Ended(self._history)
        found.other += ended.violations
        for task_id, calls in self._calls.items():
            found.other += self._drift(calls, ended.occurrences[task_id])
        return found

    # -- occurrences -------------------------------------------------------------------------------------------------

    def _occurrences(self) -> Iterator[Occurrence]:
        for calls in self._calls.values():
            yield from occurrences(calls, self._history, self._terms.cutoff)

    def _forgotten(self, occurrence: Occurrence) -> bool:
        return self._history.may_have_lost(occurrence.server, occurrence.acknowledged, occurrence.acknowledged)

    def _judge_occurrence(self, occurrence: Occurrence, found: Verdict) -> None:
        found.due += 1
        remaining = self._history.remaining.get(occurrence.id)
        remains = remaining is not None and remaining.version >= occurrence.version
        if (
            remaining is not None
            and remains
            and remaining.overdue > _SERVED_SECONDS
            and not self._forgotten(occurrence)
        ):
            found.lost.append(f"{occurrence.id} waits since {remaining.overdue:.1f} s and nobody runs it")
        elif self._keeper(occurrence) is not None:
            found.run += 1
            late = self._lateness(occurrence)
            if late > found.recovery:
                found.recovery, found.slowest = late, f"{occurrence.id} due {occurrence.due}"
        elif remaining is not None and remains:
            found.dead += remaining.dead
        elif not self._forgotten(occurrence):
            found.lost.append(str(occurrence))

    def _keepers(self, occurrence: Occurrence) -> Iterator[Run]:
        for run in self._runs[occurrence.id]:
            if run.how == "done" and occurrence.kept_by(run, self._terms.clock):
                yield run

    def _keeper(self, occurrence: Occurrence) -> Run | None:
        """The first run that kept an occurrence."""
        return next(self._keepers(occurrence), None)

    def _lateness(self, occurrence: Occurrence) -> float:
        """How long an occurrence waited for its last start from when it was ready and nothing was in its way."""
        if self._terms.cutoff is None:
            return 0.0  # when it was ready is not known
        for run in self._keepers(occurrence):
            if self._history.stood_still(run, run.end or run.start) and self._repeats(run):
                continue  # somebody else had to do it, and that is what counts
            if run.start < self._terms.disturbed or run.attempt > 1:
                return 0.0
            return run.start - max(self._terms.served, occurrence.ready)
        return 0.0

    def _repeats(self, run: Run) -> bool:
        """Whether a run was followed by another one of the same occurrence."""
        return any(other.due == run.due and other.start > run.start for other in self._runs[run.id])

    # -- what handlers saw -------------------------------------------------------------------------------------------

    def _early(self, runs: list[Run]) -> Iterator[str]:
        for run in runs:
            early = run.due - run.started_ms
            back = any(by < 0 for by in self._history.stepped(run.server, run.start - _STEP_SECONDS, run.start))
            if early > self._terms.clock * 1000 and not back:
                yield f"{_name(run)} started {early:.1f} ms early"

    def _overlapping(self, calls: list[Call], runs: list[Run]) -> Iterator[str]:
        for position, second in enumerate(runs):
            for first in runs[:position]:
                live_until = self._history.died_at(first.process) if first.end is None else first.end
                if second.start >= live_until or second.start >= first.lease - _LEASE_SLACK:
                    continue
                if self._disturbed(first, second.start) or _made_again(calls, second.start):
                    continue
                yield (
                    f"{_name(second)} started {live_until - second.start:.3f} s before the end of {_name(first)} "
                    f"on {first.process}, whose lease had {first.lease - second.start:.3f} s to go"
                )

    def _disturbed(self, run: Run, until: float) -> bool:
        """Whether its server lost writes, or its server's clock stepped forward, during a run."""
        if self._history.may_have_lost(run.server, run.start, until):
            return True
        return any(by > 0 for by in self._history.stepped(run.server, run.start - 1, until))

    def _repeated(self, calls: list[Call], runs: list[Run]) -> Iterator[str]:
        done: dict[int, Run] = {}
        for second in runs:
            if second.how != "done":
                continue
            first = done.get(second.due)
            done[second.due] = second
            if first is None or self._history.stood_still(first, second.start):
                continue
            if self._disturbed(first, second.start) or _assigned_again(calls, runs, first, second):
                continue
            lapsed = second.start >= first.lease - _LEASE_SLACK
            if not (lapsed and self._may_lapse(first.start, second.start)):
                yield f"{_name(second)} and {_name(first)} both completed, {second.start - first.start:.3f} s apart"

    def _may_lapse(self, start: float, end: float) -> bool:
        """Whether a run in this time may have been out of touch with its server for longer than its lease."""
        lapses = self._terms.lapses
        return lapses is not None and start <= lapses[1] and end >= lapses[0]

    def _tokens(self, runs: list[Run]) -> Iterator[str]:
        for first, second in pairwise(runs):
            # Such a run may begin late, and its report is refused: only later claims must have larger tokens.
            late = self._terms.late_starts and self._history.stood_still(second, second.start)
            if second.token <= first.token and not late:
                yield f"{_name(second)} came after {_name(first)}"

    def _off_grid(self, calls: list[Call], runs: list[Run]) -> Iterator[str]:
        assigned = [call for call in calls if call.operation == ASSIGN]
        if not assigned or any(call.due is None for call in assigned):
            return
        if any(call.operation != ASSIGN and call.operation not in REMOVALS for call in calls):
            return  # its owner chose other times
        first = assigned[0]
        dues = {call.due for call in assigned}
        for run in runs:
            if run.attempt > 1:
                continue  # due when the retry was
            fits = run.due in dues if first.interval is None else (run.due - (first.due or 0)) % first.interval == 0
            if not fits:
                yield f"{_name(run)} was never assigned for that time"

    def _unwanted(self, calls: list[Call], runs: list[Run]) -> Iterator[str]:
        """Runs that started after their task was removed; what was claimed before may still begin under its lease."""
        if not calls or calls[-1].operation not in REMOVALS or calls[-1].outcome != "ok" or self._history.losses:
            return
        if self._terms.late_writes and any(call.operation == ASSIGN and call.outcome == "unknown" for call in calls):
            return
        for run in runs:
            late = run.start - calls[-1].end
            if late > self._terms.lease:
                yield f"{_name(run)} started {late:.3f} s after its task was removed"

    # -- promptness --------------------------------------------------------------------------------------------------

    def _late(self, calls: list[Call], runs: list[Run], crowded: list[tuple[float, float]]) -> Iterator[str]:
        if self._terms.prompt is None:
            return
        for run in runs:
            late = (run.started_ms - run.due) / 1000
            if run.attempt > 1 or late <= self._terms.prompt:
                continue
            ready = run.start - late
            own = any(other.start < run.start and (other.end or inf) > ready for other in runs)
            full = any(since <= run.start and until >= ready for since, until in crowded)
            changed = any(ready - 1 <= call.end <= run.start + 1 for call in calls)
            if not (own or full or changed):
                yield f"{_name(run)} started {late:.3f} s late, with nothing in its way"

    def _crowded(self) -> list[tuple[float, float]]:
        """When all slots of some worker were taken, and somebody else had to stand in."""
        changes: list[tuple[float, int, str]] = []
        for run in self._history.runs:
            changes.append((run.start, 1, run.process))
            changes.append((run.end if run.end is not None else self._history.died_at(run.process), -1, run.process))
        live: dict[str, int] = defaultdict(int)
        since: dict[str, float] = {}
        spans = []
        for time, change, name in sorted(changes):
            live[name] += change
            if live[name] >= self._terms.concurrency:
                since.setdefault(name, time)
            elif name in since:
                spans.append((since.pop(name), time + _STAND_IN_SECONDS))
        return spans

    # -- losses ------------------------------------------------------------------------------------------------------

    def _unnoticed(self) -> Iterator[str]:
        notices, expected = self._history.notices, self._terms.notice
        if expected is not None and bool(notices) != expected:
            yield f"data-loss was told {len(notices)} times, expected: {expected}"
        for loss in self._history.losses:
            told = any(loss.server == notice.server and notice.at >= loss.until for notice in notices)
            if expected is None and not told and any(self._knew(call, loss) for call in self._history.calls):
                yield f"{loss.server} lost what it wrote until {loss.until:.3f}, unnoticed"
        for notice in notices:
            lossy = any(loss.server == notice.server and loss.until <= notice.at for loss in self._history.losses)
            if expected is None and not lossy and not self._terms.false_alarms:
                yield f"at {notice.at:.3f}: data-loss was told of {notice.server}, which lost nothing"

    def _knew(self, call: Call, loss: LossWindow) -> bool:
        """Whether a producer that is still there was told of a write that was lost."""
        return (
            call.outcome == "ok"
            and call.server == loss.server
            and loss.since <= call.start
            and call.end <= loss.until
            and self._history.died_at(call.process) > loss.until + _NOTICED_SECONDS
        )

    # -- clocks ------------------------------------------------------------------------------------------------------

    def _untold(self) -> Iterator[str]:
        told: dict[tuple[str, str], list[Jump]] = defaultdict(list)
        for jump in self._history.jumps:
            told[jump.process, jump.server].append(jump)
            if not self._stepped_before(jump):
                yield f"at {jump.at:.3f}: {jump.process} told that {jump.server} jumped by {jump.seconds:.3f} s"
        for (process, server), jumps in told.items():
            steps = [step for step in self._history.steps if step.server == server]
            if len(jumps) > len(steps):
                yield f"{process} told of {len(jumps)} jumps of {server}, whose clock jumped {len(steps)} times"
        for step in self._history.steps:
            for process in self._witnesses(step):
                if not any(jump.at >= step.at for jump in told[process, step.server]):
                    yield f"{process} did not tell that the clock of {step.server} jumped by {step.seconds} s"

    def _stepped_before(self, jump: Jump) -> bool:
        """Whether a clock jumped so before: once, or some times one after another and nobody looked between them."""
        before = [step.seconds for step in self._history.steps if step.server == jump.server and step.at <= jump.at]
        sums = (sum(before[first:last]) for last in range(len(before) + 1) for first in range(last))
        return any(abs(seconds - jump.seconds) <= _SEEN_SECONDS / 2 and seconds * jump.seconds > 0 for seconds in sums)

    def _witnesses(self, step: ClockStep) -> set[str]:
        """The workers that must have seen a jump: they knew the server's clock before, and live for long enough.

        A jump that is shorter than the messages around it may be hidden by them, and a further one may undo it.
        """
        others = [other for other in self._history.steps if other.server == step.server and other is not step]
        if abs(step.seconds) < _SEEN_SECONDS:
            return set()
        last = max((other.at for other in others if other.at <= step.at), default=-inf)
        if any(other.at > step.at for other in others):
            return set()
        return {
            run.process
            for run in self._history.runs
            if run.server == step.server
            and last <= run.start - self._terms.lease
            and run.start < step.at
            and self._history.died_at(run.process) > step.at + _NOTICED_SECONDS + _SERVED_SECONDS
        }

    # -- hostile handlers --------------------------------------------------------------------------------------------

    def _unlike(self) -> Iterator[str]:
        reports = {(entry.id, entry.token): entry for entry in self._history.server_log if isinstance(entry, Report)}
        for run in self._history.runs:
            report = reports.get((run.id, run.token))
            if not run.follows or report is None or len(self._calls[run.id]) != 1:
                continue  # what is assigned again meanwhile wins over what a run did
            if run.follows == ENDS:
                expected = 0, False
            elif run.follows == GIVES_UP or run.attempt > self._terms.retries:
                expected = 0, True
            else:
                expected = run.attempt, False
            if (report.retries, report.is_dead) != expected:
                yield f"{_name(run)} {run.follows} in attempt {run.attempt}, and what followed was {report}"

    def _unfilled(self) -> Iterator[str]:
        if self._terms.filled == inf:
            return
        most: dict[str, int] = defaultdict(int)
        live: dict[str, int] = defaultdict(int)
        changes = [(run.end, -1, run.process) for run in self._history.runs if run.end is not None]
        changes += [(run.start, 1, run.process) for run in self._history.runs]
        for time, change, process in sorted(changes):
            live[process] += change
            if live[process] > self._terms.concurrency:
                yield f"at {time:.3f}: {process} ran {live[process]} tasks on {self._terms.concurrency} slots"
            if time >= self._terms.filled:
                most[process] = max(most[process], live[process])
        for process in self._terms.crew:
            if most[process] < self._terms.concurrency:
                yield f"{process} never ran more than {most[process]} of {self._terms.concurrency} tasks at once"

    # -- what servers did --------------------------------------------------------------------------------------------

    def _given(self) -> Iterator[str]:
        """Tokens that a partition gave out though it had given out larger ones."""
        largest: dict[bytes, int] = {}
        for entry in self._history.server_log:
            if isinstance(entry, Claim):
                if entry.token <= largest.get(entry.partition, 0):
                    yield f"at {entry.at:.3f}: {entry.id} was given token {entry.token}, not larger than the one before"
                largest[entry.partition] = entry.token

    def _drift(self, calls: list[Call], ended: list[tuple[Claim, Report]]) -> Iterator[str]:
        first = calls[0]
        assigned = [call for call in calls if call.operation == ASSIGN]
        plain = all(call.operation in (ASSIGN, "run_now") for call in calls)
        if first.operation != ASSIGN or first.due is None or first.interval is None or not plain:
            return
        if any(call.interval != first.interval or call.due != first.due for call in assigned):
            return
        if not self._history.may_have_lost("", first.start):
            yield from _off_schedule(first.due, first.interval, ended)


class _Ended:
    """The occurrences that servers took as ended, by task id; `violations` are reports that had to be refused."""

    def __init__(self, history: History) -> None:
        self.occurrences: dict[str, list[tuple[Claim, Report]]] = defaultdict(list)
        self.violations: list[str] = []
        self._held: dict[tuple[str, str], Claim] = {}
        self._over: set[tuple[str, str]] = set()
        self._lossy: set[str] = set()
        for entry in history.server_log:
            if isinstance(entry, Claim):
                self._held[entry.server, entry.id] = entry
                self._over.discard((entry.server, entry.id))
            elif isinstance(entry, Report):
                self._accepted(entry)
            else:
                self._lossy.add(entry.server)
                self._held = {key: claim for key, claim in self._held.items() if key[0] != entry.server}

    def _accepted(self, report: Report) -> None:
        key = report.server, report.id
        claim = self._held.get(key)
        what = f"at {report.at:.3f}: the report of {report.id} with token {report.token} was accepted"
        if claim is None and report.server in self._lossy:
            return  # the claim may be among what was lost
        if claim is None or claim.token != report.token:
            self.violations.append(f"{what}, though the run is stale")
        elif key in self._over:
            self.violations.append(f"{what} twice")
        elif report.is_last:
            self._over.add(key)
            self.occurrences[report.id].append((claim, report))


def _off_schedule(first: int, interval: int, ended: list[tuple[Claim, Report]]) -> Iterator[str]:
    """Where a recurring task left its grid, left out an occurrence, or ended."""
    expected: int | None = None
    for claim, report in ended:
        due, at = claim.scheduled_due, f"at {report.at:.3f}: {claim.id}"
        if claim.extra:
            continue
        if (due - first) % interval:
            yield f"{at} ran for {due}, off its grid {first} + k * {interval}"
        if expected is not None and due != expected:
            yield f"{at} ran for {due}, but {expected} was next"
        if report.next_due is None:
            yield f"{at} recurs and was ended"
            return
        if report.next_due != due:
            reference = max(due, claim.claimed_ms)
            expected = first + ((reference - first) // interval + 1) * interval
            if report.next_due != expected:
                yield f"{at} goes on at {report.next_due} after {due}, claimed at {claim.claimed_ms}"


def _made_again(calls: list[Call], until: float) -> bool:
    """Whether a task may have been removed and assigned again before a time, while it ran."""
    removals = [position for position, call in enumerate(calls) if call.removes and call.start <= until]
    return bool(removals) and any(
        call.assigns and call.start <= until and (position > removals[0] or call.outcome == "unknown")
        for position, call in enumerate(calls)
    )


def _assigned_again(calls: list[Call], runs: list[Run], first: Run, second: Run) -> bool:
    """Whether somebody may have asked for a due time once more, after its first run began.

    A recurring task goes on where it is, unless it was gone: removed, or a dead letter.
    """
    gone = any(call.removes and call.start <= second.start for call in calls)
    gone = gone or any(run.how == "failed" and first.start <= run.start <= second.start for run in runs)
    for call in calls:
        if not call.assigns or call.start > second.start or (call.end < first.start and call.outcome == "ok"):
            continue
        if gone if call.interval is not None else call.due == second.due:
            return True
    return False


def _name(run: Run) -> str:
    return f"{run.id} due {run.due} token {run.token}"
