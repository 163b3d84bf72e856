"""``verify`` and ``repair``: every invariant of what is stored, checked and repaired on a live system.

One step of ``audit.lua`` checks some hundred entries at once, atomically, so what it finds is wrong at that moment and
no race; meanwhile everybody goes on. Records come first: they are the only copies of tasks, and everything else follows
from them. Redis' ``HSCAN`` and ``ZSCAN`` make sure that whatever is there from beginning to end is seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.definition import decode_body
from ..core.record import split_record
from ..model.errors import CorruptRecord, PartitionUnavailable, TopologyMismatch
from ..model.options import Options
from ..support.runtime import Runtime
from ..support.text import repr_of, short_repr
from . import calls, keys
from .commands import Partition
from .operation import Operation
from .topology import Layout

STEP = 200
"""Entries of one step: about a millisecond of server time."""
AT_ONCE = 64
"""Partitions that are audited side by side."""
_KEYS = "keys"
_PARTS = (_KEYS, keys.TASKS, keys.INDEX, keys.RETRIES, keys.LEASES, keys.DEAD_RECORDS, keys.DEAD)
_MAX_FOUND = 200
"""Most characters of what was found that a problem keeps."""
ProblemKind = Literal["header", "body", "home", "place", "entry", "index", "token", "dead", "key"]


@dataclass(frozen=True, slots=True, repr=False)
class Problem:
    """One broken invariant, as `verify` finds it. `id` is that of a task, or the name of a bucket."""

    kind: ProblemKind
    """``header``, ``body``: of a record that cannot be read. ``home``: a task in a partition that its id does not
    belong to. ``place``: a task that is not where its state says, so that nobody would run it. ``entry``: something
    listed as due, retrying or running that is not. ``index``: a bucket that would not be found. ``token``: a fencing
    token above the sequence. ``dead``: a dead letter that is not listed, or listed and not there. ``key``: a key of the
    partition that cannot be read, such as one of a wrong type."""
    id: str
    partition: int
    instance: str
    found: str
    repaired: bool
    """Whether `repair` has repaired it. It leaves ``body`` and ``home`` alone, and a ``key`` that holds records."""

    def __repr__(self) -> str:
        place = f"partition {self.partition} on {short_repr(self.instance, 30)}"
        state = "repaired" if self.repaired else ""
        return repr_of(self, self.kind, short_repr(self.id, 40), place, state, f"found {short_repr(self.found, 50)}")


@dataclass(frozen=True, slots=True, repr=False)
class Audit:
    """What `verify` and `repair` checked and found."""

    tasks: int
    dead: int
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong, or everything that was has been repaired."""
        return all(problem.repaired for problem in self.problems)

    def __repr__(self) -> str:
        repaired = sum(problem.repaired for problem in self.problems)
        problems = f"{len(self.problems)} problems, {repaired} repaired" if self.problems else "no problems"
        return repr_of(self, f"tasks={self.tasks}", f"dead={self.dead}", problems)


def audit(
    layout: Layout, options: Options, runtime: Runtime, repair: bool, progress: Callable[[int], None] | None
) -> Operation[Audit]:
    """Checks all partitions; `progress` is called with the number of entries checked so far."""
    waiting = deque(layout.partitions)
    active: list[_Audit] = []
    done: list[_Audit] = []
    while waiting or active:
        now = runtime.script_now()
        while waiting and len(active) < AT_ONCE:
            active.append(_Audit(waiting.popleft(), layout))
        steps = [
            calls.audit(one.partition, now, *one.step, STEP, repair=repair, lease_ms=options.lease_ms) for one in active
        ]
        for one, reply in zip(active, (yield steps), strict=True):
            try:
                one.learn(calls.read_audit(one.partition, reply))
            except PartitionUnavailable as error:
                if not error.refused:
                    raise
                one.skip(error.reason)  # damage of one key must not hide that of the others
            except TopologyMismatch as error:
                one.end(str(error))
        done += [one for one in active if one.is_done]
        active = [one for one in active if not one.is_done]
        if progress is not None:
            progress(sum(one.checked for one in (*done, *active)))
    done.sort(key=lambda one: one.partition.number)
    problems = [problem for one in done for problem in one.problems]
    return Audit(sum(one.tasks for one in done), sum(one.dead for one in done), tuple(problems))


class _Audit:
    """How far the audit of one partition is. `step`: the part that is next, and the cursor."""

    def __init__(self, partition: Partition, layout: Layout) -> None:
        self.partition = partition
        self.problems: list[Problem] = []
        self.tasks = self.dead = self.checked = 0
        self._layout = layout
        self._parts = deque(_PARTS)
        self._cursor = "0"
        # A scan may show the same entry twice.
        self._seen: set[tuple[str, bytes]] = set()

    @property
    def is_done(self) -> bool:
        return not self._parts

    @property
    def step(self) -> tuple[str, str]:
        return self._parts[0], self._cursor

    def skip(self, reason: str) -> None:
        """The server cannot work on this part."""
        self._add("key", self._parts.popleft().encode(), reason, False)
        self._cursor = "0"

    def end(self, reason: str) -> None:
        """The server has no such partition."""
        self._add("key", keys.META.encode(), reason, False)
        self._parts.clear()

    def learn(self, audited: calls.Audited) -> None:
        """Takes what the step found."""
        part = self._parts[0]
        self.checked += audited.checked
        for problem in audited.problems:
            self._add(problem.kind, problem.name, problem.found, problem.repaired)
        if part == keys.TASKS:
            self.tasks += audited.checked
            self._check_bodies(audited.contents)
        elif part == keys.DEAD_RECORDS:
            self.dead += audited.checked
            self._check_bodies(audited.contents)
        elif part == keys.INDEX:
            self._parts.extend(keys.BUCKET + name.decode("utf-8", "replace") for name in audited.contents)
        self._cursor = audited.cursor
        if self._cursor == "0":
            self._parts.popleft()

    def _check_bodies(self, contents: Sequence[bytes]) -> None:
        """What only Python knows: whether bodies can be read, and where an id is at home."""
        for task_id, record in calls.pairs(contents):
            try:
                decode_body(split_record(record)[1])
            except CorruptRecord as error:
                self._add("body", task_id, str(error.__cause__ or error), False)
            if self._layout.home(task_id) != self.partition:
                self._add("home", task_id, f"belongs into partition {self._layout.home(task_id).number}", False)

    def _add(self, kind: str, name: bytes, found: str, repaired: bool) -> None:
        if (kind, name) not in self._seen:
            self._seen.add((kind, name))
            short = found if len(found) <= _MAX_FOUND else f"{found[:_MAX_FOUND]}…"
            self.problems.append(
                Problem(
                    kind,  # type: ignore[arg-type]
                    name.decode("utf-8", "backslashreplace"),
                    self.partition.number,
                    self.partition.instance,
                    short,
                    repaired,
                )
            )
