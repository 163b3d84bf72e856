"""The tasks of the measurements, as an application would write them."""

from __future__ import annotations

from interval_scheduler import Task

from ..adapter import Item


class Job(Task):
    """Runs once, or again and again."""

    def __init__(self, item: Item, every: float | None = None) -> None:
        self.id = f"user:{item.number:010d}"
        self.execute_on = item.due
        self.text = item.payload
        if every is not None:
            self.reschedule_interval = every

    def serialize(self) -> str:
        return self.text
