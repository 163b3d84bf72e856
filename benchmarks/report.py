"""The table and the JSON of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import OURS, Question, Row, Table, shown

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def as_json(table: Table, questions: Sequence[Question], about: Mapping[str, Any]) -> str:
    """Everything measured, every repetition, with the goals."""
    rows = []
    for row in table.rows.values():
        entry: dict[str, Any] = {"question": row.question, "what": row.what, "subject": row.subject}
        if row.values:
            entry |= {"unit": row.unit, "values": row.values, "median": row.median}
        else:
            entry["missing"] = row.reason
        rows.append(entry)
    goals = [
        {"question": question.name, "what": goal.what, "reach": goal.reach, "beyond": goal.beyond, "most": goal.most}
        for question in questions
        for goal in question.goals
    ]
    return json.dumps({"about": about, "rows": rows, "goals": goals}, indent=1) + "\n"


def as_markdown(table: Table, questions: Sequence[Question], about: Mapping[str, Any]) -> str:
    """The table of every question, and what it was measured on."""
    lines = [", ".join(f"{name} {value}" for name, value in about["machine"].items()) + "."]
    lines += [about["how"], ""]
    for question in questions:
        rows = table.of(question.name)
        if not rows:
            continue
        lines += [f"### {question.name}: {question.title}", ""]
        if question.notes:
            lines += [question.notes, ""]
        lines += ["| | | median | ± | reach | beyond | |", "|---|---|---:|---:|---:|---:|---|"]
        lines += [_line(row, question) for row in rows] + [""]
    return "\n".join(lines)


def _line(row: Row, question: Question) -> str:
    if not row.values:
        return f"| {row.what} | {row.subject} | - | | | | {row.reason.replace('|', '/')} |"
    spread = f"{row.spread:.0%}" if len(row.values) > 1 else ""
    reach = beyond = verdict = ""
    goal = next((goal for goal in question.goals if goal.what == row.what), None)
    if goal is not None and row.subject == OURS:
        sign = "≤" if goal.most else "≥"
        reach = "" if goal.reach is None else f"{sign} {shown(goal.reach)}"
        beyond = "" if goal.beyond is None else f"{sign} {shown(goal.beyond)}"
        verdict = goal.verdict(row.median)
    name = f"**{row.subject}**" if row.subject == OURS else row.subject
    return f"| {row.what} | {name} | {shown(row.median, row.unit)} | {spread} | {reach} | {beyond} | {verdict} |"


def write_between_markers(path: Path, text: str) -> None:
    """Replaces what stands between the markers of a file.

    Raises:
        SystemExit: where the file has no markers.
    """
    old = path.read_text()
    pattern = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(old):
        raise SystemExit(f"{path} has no lines {BEGIN} and {END}")
    path.write_text(pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", old))
