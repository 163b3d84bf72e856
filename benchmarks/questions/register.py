"""All questions, in the order in which they are measured."""

from __future__ import annotations

from ..figures import Question
from . import assign_bulk, assign_one, lateness, run

QUESTIONS: dict[str, Question] = {
    module.QUESTION.name: module.QUESTION for module in (assign_one, assign_bulk, run, lateness)
}
