"""A question: what is measured, and the goals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .bench import Bench
from .figures import Figure, Goal, Missing


@dataclass(frozen=True, slots=True)
class Question:
    """One question, and how to answer it: `measure` is called once a repetition.

    Goals are for the rows of `OURS`; the others stand beside them.
    """

    name: str
    title: str
    measure: Callable[[Bench], Iterator[Figure | Missing]]
    goals: Sequence[Goal] = ()
    notes: str = ""
