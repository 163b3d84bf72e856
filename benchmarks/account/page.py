"""One account: the parts of a cost beside the whole."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

ROUNDS = 5
"""Every part is measured so often, and the least counts: what else the machine does only adds."""


@dataclass(slots=True)
class Account:
    """What a task costs, in µs: `whole`, and its parts. `left` names what the parts do not explain."""

    title: str
    whole: float
    left: str
    closing: str
    parts: list[tuple[str, str, float]] = field(default_factory=list)

    def add(self, where: str, what: str, microseconds: float) -> None:
        self.parts.append((where, what, microseconds))

    def lines(self) -> list[str]:
        """The account in Markdown."""
        left = self.whole - sum(cost for _, _, cost in self.parts)
        rows = [*self.parts, ("", self.left, left), ("", "**the whole**", self.whole)]
        lines = [f"## {self.title}", "", "| where | what | µs a task | of the whole |", "|---|---|---:|---:|"]
        lines += [f"| {where} | {what} | {cost:.2f} | {cost / self.whole:.0%} |" for where, what, cost in rows]
        return [*lines, "", self.closing, ""]


def least(act: Callable[[], object], count: int) -> float:
    """Microseconds of processor time for each of `count` things that `act` does, at its quickest."""
    times = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        act()
        times.append(time.process_time() - begin)
    return min(times) * 1e6 / count


def least_each(results: Callable[[], Iterable[object]], count: int) -> float:
    """The same for what a generator does to `count` things; its results are dropped as they come."""
    return least(lambda: deque(results(), maxlen=0), count)
