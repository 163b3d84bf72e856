"""A small pure model of one partition, for the state machine: what every script should do, in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from interval_scheduler.core.record import (
    CONFIRMED,
    EXTRA,
    RETRYING,
    RUN_NOW,
    RUNNING,
    SCHEDULED,
    UNCONFIRMED,
    UNCONFIRMED_LAPSE,
    Header,
)


@dataclass
class Entry:
    """A task as the model sees it; `deadline` is set while it runs."""

    header: Header
    payload: str
    interval: int | None
    deadline: int = 0

    @property
    def state(self) -> str:
        return self.header.state

    def change(self, **changes: object) -> None:
        self.header = replace(self.header, **changes)  # type: ignore[arg-type]


@dataclass
class Model:
    """All tasks of one partition, and its dead letters (id to count)."""

    tasks: dict[str, Entry] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)

    def assign(self, task_id: str, when: int | None, payload: str, interval: int | None, now: int, rev: str) -> bool:
        slot = now if when is None else when
        entry = self.tasks.get(task_id)
        if entry is None:
            self.tasks[task_id] = Entry(Header(SCHEDULED, slot, rev + "+"), payload, interval)
            return True
        entry.payload, entry.interval = payload, interval
        if entry.state == RUNNING and not entry.header.follow and EXTRA not in entry.header.flags:
            entry.change(follow=f"{'~' if when is None else '='}{slot}")
        entry.change(revision=rev)
        return False

    def remove(self, task_id: str) -> bool:
        alive = self.tasks.pop(task_id, None) is not None
        return self.dead.pop(task_id, None) is not None or alive

    def reschedule(self, task_id: str, due: int, rev: str) -> bool:
        entry = self.tasks.get(task_id)
        if entry is None:
            return False
        if EXTRA in entry.header.flags:
            entry.change(follow=str(due))
        elif entry.state == RUNNING:
            entry.change(follow=f">{due}")
        else:
            entry.change(slot=entry.header.grid, due=due)
        entry.change(revision=rev)
        return True

    def run_now(self, task_id: str, now: int, rev: str) -> bool:
        entry = self.tasks.get(task_id)
        if entry is None:
            return False
        header = entry.header
        if entry.state == RUNNING:
            if RUN_NOW not in header.flags:
                entry.change(flags=header.flags + RUN_NOW)
        elif header.due <= now:
            return True
        elif entry.state == RETRYING:
            entry.change(slot=header.grid, due=now)
        else:
            entry.change(slot=header.grid, due=now, flags=header.flags + EXTRA, follow=str(header.due))
        entry.change(revision=rev)
        return True

    def claim(self, limit: int, suspects: int, now: int, lease: int) -> list[str]:
        """The ids a claim takes, in order; tokens are left to the caller, who knows them from the reply."""
        lapsed = sorted((e.deadline, i) for i, e in self.tasks.items() if e.state == RUNNING and e.deadline <= now)
        waiting = sorted(
            (e.header.due, e.state != RETRYING, i)
            for i, e in self.tasks.items()
            if e.state != RUNNING and e.header.due <= now
        )
        chosen = []
        for _, task_id in lapsed[:limit]:
            header = self.tasks[task_id].header
            suspect = header.strikes and UNCONFIRMED not in header.flags and CONFIRMED not in header.flags
            suspects -= bool(suspect)
            if not suspect or suspects >= 0:
                chosen.append(task_id)
        chosen += [i for _, _, i in waiting[: limit - len(chosen)]]
        taken = []
        for task_id in chosen:
            self._lapse(self.tasks[task_id])
            self.tasks[task_id].deadline = now + lease
            self.tasks[task_id].change(state=RUNNING)
            taken.append(task_id)
        return taken

    def _lapse(self, entry: Entry) -> None:
        """What the end of a lease means."""
        header = entry.header
        if entry.state != RUNNING or CONFIRMED in header.flags:
            return
        if UNCONFIRMED in header.flags:
            entry.change(attempt=header.attempt + 1, flags=header.flags.replace(UNCONFIRMED, UNCONFIRMED_LAPSE))
        else:
            entry.change(strikes=header.strikes + 1)

    def settle(self, task_id: str, new: Header | None, dead: bool) -> None:
        if dead:
            self.dead[task_id] = self.dead.get(task_id, 0) + 1
        if new is None:
            del self.tasks[task_id]
        else:
            self.tasks[task_id].header = new

    def clear(self) -> int:
        count = len(self.tasks)
        self.tasks.clear()
        self.dead.clear()
        return count
