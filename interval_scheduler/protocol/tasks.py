"""The operations on single tasks, on dead letters and locks. `operation` says what an operation is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core.preparation import task_id_of
from ..core.record import split_record
from ..core.settlement import End, Outcome
from ..model.errors import InvalidTask, TaskChanged
from ..model.members import encode_id
from ..model.times import CENTURY_MS, parse_duration, parse_execute_on
from . import calls
from .bulk import CALLS_AT_ONCE, BulkAssignments, require_several
from .calls.locks import Action
from .commands import Partition
from .operation import Operation, batches
from .queries import Queries
from .settling import claimed_run, settle_run

CLEAR_STEP = 400
"""Entries that one call deletes: about two milliseconds of server time."""
CLEAR_AT_ONCE = 16
"""Partitions that are cleared side by side."""
REVIVE_STEP = 100
"""Dead letters in one call: their records travel there and back."""


class Operations(Queries, BulkAssignments):
    """All operations on one namespace."""

    # -- tasks -------------------------------------------------------------------------------------------------------

    def assign_task(self, task: object, if_version: str | None = None) -> Operation[bool]:
        prepared = self.prepare(task)
        task_id = prepared[0]
        home = self.home(task_id)
        if if_version is not None and (
            not isinstance(if_version, str) or " " in if_version or not if_version.isascii()
        ):
            raise InvalidTask("assign_task", "if_version", f"is {if_version!r}", "use ScheduledTask.version, or ''")
        command = calls.assign(home, self._now, self._runtime.random_id(), prepared, if_version)
        assigned = yield from self._ask(home, command, calls.read_assign)
        if assigned.answers[0] == calls.OTHER_VERSION:
            raise TaskChanged(task_id.decode(), if_version or "")
        return assigned.answers[0] == calls.CREATED

    def remove_tasks(self, tasks: Iterable[object]) -> Operation[int]:
        """Counts what was removed."""
        require_several(tasks, "remove_tasks", "remove_task")
        homes: dict[Partition, list[bytes]] = {}
        for task_id in dict.fromkeys(task_id_of(task) for task in tasks):
            homes.setdefault(self.home(task_id), []).append(task_id)
        removals = [(home, batch) for home, ids in homes.items() for batch in batches(ids)]
        removed = 0
        for part in batches(removals, CALLS_AT_ONCE):
            replies = yield [calls.remove(home, self._now, ids) for home, ids in part]
            for (home, _), reply in zip(part, replies, strict=True):
                removed += self._read(home, reply, calls.read_remove).count
        return removed

    def reschedule_task(self, task: object, delay: object, execute_on: object) -> Operation[bool]:
        task_id = task_id_of(task)
        if (delay is None) == (execute_on is None):
            rule = f"and execute_on are both {'missing' if delay is None else 'given'}"
            raise InvalidTask("reschedule_task", "delay", rule, "give exactly one of them")
        if delay is not None:
            when = f"+{parse_duration(delay, 'reschedule_task', 'delay', maximum_ms=CENTURY_MS)}"
        else:
            when = f"={parse_execute_on(execute_on, 'reschedule_task')}"
        home = self.home(task_id)
        command = calls.reschedule(home, self._now, self._runtime.random_id(), task_id, when)
        return (yield from self._ask(home, command, calls.read_reschedule)).done

    def run_task_now(self, task: object) -> Operation[bool]:
        task_id = task_id_of(task)
        home = self.home(task_id)
        command = calls.run_now(home, self._now, self._runtime.random_id(), task_id)
        return (yield from self._ask(home, command, calls.read_run_now)).done

    def confirm_task(self, task: object, token: int) -> Operation[bool]:
        task_id = task_id_of(task)
        if isinstance(token, bool) or not isinstance(token, int) or token < 1:
            raise InvalidTask(
                "confirm_task", "fencing_token", f"is {token!r}", "use current_execution().fencing_token of the run"
            )
        home = self.home(task_id)
        found = yield from self._ask(home, calls.confirm(home, self._now, task_id, token), calls.read_confirm)
        if found.record:
            # The handler has returned. If this fails, whoever claims the task next settles it.
            now_ms = found.now_us // 1000
            run, outcome = claimed_run(task_id, found.record, now_ms), Outcome(End.DONE)
            yield from settle_run(home, run, outcome, self._now, now_ms, self._options.lease_ms)
        return found.confirmed

    def clear_all_tasks(self, progress: Callable[[int], None] | None) -> Operation[int]:
        pending = list(self._layout.partitions)
        total = 0
        while pending:
            again = []
            step, pending = pending[:CLEAR_AT_ONCE], pending[CLEAR_AT_ONCE:]
            replies = yield [calls.clear(partition, self._now, CLEAR_STEP) for partition in step]
            for partition, reply in zip(step, replies, strict=True):
                cleared = self._read(partition, reply, calls.read_clear)
                total += cleared.tasks
                if cleared.more:
                    again.append(partition)
            pending = again + pending
            if progress is not None:
                progress(total)
        return total

    # -- dead letters ------------------------------------------------------------------------------------------------

    def retry_dead_tasks(self, ids: Iterable[str] | None) -> Operation[int]:
        if ids is not None:
            require_several(ids, "retry_dead_tasks", "retry_dead_tasks([id])")
        wanted = None if ids is None else {encode_id(task_id, "retry_dead_tasks") for task_id in ids}
        revived = 0
        for partition in self._layout.partitions:
            if wanted is not None and not any(self.home(task_id) == partition for task_id in wanted):
                continue
            found = yield from self.dead_letters(partition)
            chosen = [dead_letter for dead_letter in found if wanted is None or dead_letter[0] in wanted]
            for batch in batches(chosen, REVIVE_STEP):
                bodies = ((task_id, record, split_record(record)[1]) for task_id, record in batch)
                command = calls.revive(partition, self._now, self._runtime.random_id(), bodies)
                revived += (yield from self._ask(partition, command, calls.read_revive)).count
        return revived

    def purge_dead_tasks(self, before: object = None) -> Operation[int]:
        before_ms = parse_execute_on(before, "purge_dead_tasks", "before")
        purged = 0
        for partition in self._layout.partitions:
            count = CLEAR_STEP
            while count == CLEAR_STEP:
                command = calls.purge(partition, self._now, CLEAR_STEP, before_ms)
                count = (yield from self._ask(partition, command, calls.read_purge)).count
                purged += count
        return purged

    # -- locks -------------------------------------------------------------------------------------------------------

    def lock(self, name: str, action: Action, holder: str, ttl_ms: int) -> Operation[int]:
        """The fencing token of a lock taken, 1 for one extended or released, 0 where somebody else holds it."""
        [reply] = yield [calls.lock(self._layout.master, self._layout.namespace, name, action, holder, ttl_ms)]
        return calls.read_lock(reply)
