"""All questions, in the order in which they are measured: the last one summarises those before it."""

from __future__ import annotations

from ..question import Question
from . import (
    assign_bulk,
    assign_gathered,
    assign_one,
    blocking,
    crash,
    every_second,
    growth,
    herd,
    idle,
    instances,
    lateness,
    memory,
    recur,
    run,
    startup,
)

_MODULES = (
    assign_one,
    assign_bulk,
    assign_gathered,
    run,
    recur,
    lateness,
    herd,
    memory,
    growth,
    idle,
    instances,
    startup,
    every_second,
    crash,
    blocking,
)
QUESTIONS: dict[str, Question] = {module.QUESTION.name: module.QUESTION for module in _MODULES}
