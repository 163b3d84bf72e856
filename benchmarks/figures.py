"""Figures: the results of a measurement, the goals, and the table that collects all repetitions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, measured once. `what` and `subject` together name its row."""

    what: str
    subject: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A figure that could not be measured, and why."""

    what: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Goal:
    """The value that a row of ours should reach (None: there is none), and one that is better than asked for.

    `most`: smaller is better.
    """

    what: str
    reach: float | None
    beyond: float | None = None
    most: bool = False

    def verdict(self, value: float) -> str:
        """How a value compares with the goal: short, reached or beyond; empty where there is nothing to reach."""
        if self.beyond is not None and self._reaches(value, self.beyond):
            return "beyond"
        if self.reach is None:
            return ""
        return "reached" if self._reaches(value, self.reach) else "short"

    def _reaches(self, value: float, bound: float) -> bool:
        return value <= bound if self.most else value >= bound


@dataclass(slots=True)
class Row:
    """All repetitions of a figure."""

    question: str
    what: str
    subject: str
    unit: str = ""
    values: list[float] = field(default_factory=list)
    reason: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Half the range over the median."""
        return (max(self.values) - min(self.values)) / 2 / abs(self.median) if self.median else 0.0


OURS = "interval_scheduler"


class Table:
    """The rows of a run, in the order in which they first came."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], Row] = {}

    def add(self, question: str, result: Figure | Missing) -> Row:
        row = self.rows.setdefault((question, result.what, result.subject), Row(question, result.what, result.subject))
        if isinstance(result, Missing):
            row.reason = result.reason
        else:
            row.unit = result.unit
            row.values.append(result.value)
        return row

    def of(self, question: str) -> list[Row]:
        return [row for row in self.rows.values() if row.question == question]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def format_value(value: float, unit: str = "") -> str:
    """A value with at least three significant digits, and its unit."""
    size = abs(value)
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f} {unit}".strip()


def ratio(what: str, subject: str, value: float, of: float) -> Figure:
    """One value divided by another that was measured beside it."""
    return Figure(what, subject, value / of if of else 0.0, "×")
