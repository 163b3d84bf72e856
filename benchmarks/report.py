"""The pages of a run: ``python -m benchmarks.report [benchmarks/results/results.json]`` makes them again.

README.md gets two tables between its markers, the goals and the peers; RESULTS.md gets every figure.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from .figures import OURS, Figure, Goal, Missing, Row, Table, format_value
from .peers.registry import PEERS
from .question import Question
from .questions.register import QUESTIONS

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "results.json"
"""Where a run leaves what it measured. The folder is not kept in git."""


class PeerNote(TypedDict):
    """What the results say of a peer; `missing` is why it was not measured."""

    versions: NotRequired[dict[str, str]]
    configuration: NotRequired[str]
    missing: NotRequired[str]


class About(TypedDict):
    """When, where and how the results were measured, and the peers."""

    date: str
    machine: dict[str, str]
    how: str
    quick: bool
    peers: dict[str, PeerNote]


PEER_FIGURES = {
    "assigns, one by one /s": (("B1", "one call at a time, asyncio"), ("B1", "one call at a time")),
    "assigns in bulk /s": (("B2", "bulk, due over 24 hours"), ("B2", "bulk")),
    "runs /s": (("B4", "run due tasks, coroutine"), ("B4", "run due tasks")),
    "late at 100/s, p99 ms": (("B6", "100/s: p99"), ("B6", "100/s: p99")),
    "late at 1,000/s, p99 ms": (("B6", "1,000/s: p99"), ("B6", "1,000/s: p99")),
    "bytes a pending task": (("B8", "100,000 pending"), ("B8", "100,000 pending")),
    "lost at a SIGKILL": (("crash", "leases of 5 s: lost"), ("crash", "leases of 5 s: lost")),
}
"""The columns of the table of peers: the row of ours, and that of the others."""


def as_json(table: Table, questions: Sequence[Question], about: About) -> str:
    """Everything measured, every repetition, with the goals."""
    rows = []
    for row in table.rows.values():
        entry: dict[str, object] = {"question": row.question, "what": row.what, "subject": row.subject}
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


def from_json(text: str) -> tuple[Table, About]:
    """What `as_json` wrote: the table, and what it was measured on."""
    found = json.loads(text)
    table = Table()
    for row in found["rows"]:
        name = row["what"], row["subject"]
        if "missing" in row:
            table.add(row["question"], Missing(*name, row["missing"]))
        for value in row.get("values", ()):
            table.add(row["question"], Figure(*name, value, row["unit"]))
    return table, found["about"]


def describe_run(about: About) -> str:
    """The machine, and how the run went."""
    machine = ", ".join(f"{name} {value}" for name, value in about["machine"].items())
    return f"{about['date']}; {machine}. {about['how']}"


def goals_table(table: Table, questions: Sequence[Question]) -> str:
    """Every goal, and whether it was reached."""
    lines = ["| | question | goal | measured | ± | |", "|---|---|---:|---:|---:|---|"]
    for question in questions:
        for goal in question.goals:
            row = table.rows.get((question.name, goal.what, OURS))
            bound = _bound(goal, goal.reach if goal.reach is not None else goal.beyond)
            measured = format_value(row.median, row.unit) if row is not None and row.values else "not measured"
            spread, verdict = "", ""
            if row is not None and row.values:
                spread = f"{row.spread:.0%}" if len(row.values) > 1 else ""
                verdict = goal.verdict(row.median) or "short (optional)"
            lines.append(f"| {question.name} | {goal.what} | {bound} | {measured} | {spread} | {verdict} |")
    return "\n".join(lines)


def peers_table(table: Table, about: About) -> str:
    """Ours and the peers, measured in the same run; ratios are of ours."""
    lines = [f"| | {' | '.join(PEER_FIGURES)} |", f"|---|{'---:|' * len(PEER_FIGURES)}"]
    measured = {row.subject for row in table.rows.values()}
    for name in (OURS, *(name for name in PEERS if name in measured or name in about["peers"])):
        cells = []
        for ours, theirs in PEER_FIGURES.values():
            row = table.rows.get((*(ours if name == OURS else theirs), name))
            own = table.rows.get((*ours, OURS))
            cells.append(_cell(row, own if name != OURS else None))
        lines.append(f"| {f'**{name}**' if name == OURS else name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row | None, own: Row | None) -> str:
    if row is None or not row.values:
        return "-"
    text = format_value(row.median)
    if own is None or not own.values or not own.median or not row.median:
        return text
    ratio = row.median / own.median
    return f"{text} ({ratio:.2g} ×)" if ratio < 10 else f"{text} ({ratio:,.0f} ×)"


def everything(table: Table, questions: Sequence[Question], about: About) -> str:
    """The page of all figures."""
    lines = [
        "# Results",
        "",
        "Every figure of the last complete run. [README.md](README.md) says how to read them.",
        "",
    ]
    lines += [describe_run(about), "", "## Peers", ""]
    for name, peer in about["peers"].items():
        versions = ", ".join(f"{what} {version}" for what, version in peer.get("versions", {}).items())
        text = peer.get("missing") or f"{versions}. {peer.get('configuration', '')}"
        lines.append(f"- **{name}**: {text}.")
    lines.append("")
    lines.append(all_tables(table, questions))
    return "\n".join(lines)


def all_tables(table: Table, questions: Sequence[Question]) -> str:
    """A table for each question."""
    lines = []
    for question in questions:
        rows = table.of(question.name)
        if not rows:
            continue
        lines += [f"### {question.name}: {question.title}", ""]
        if question.notes:
            lines += [question.notes, ""]
        lines += ["| | | median | ± | goal |", "|---|---|---:|---:|---|"]
        lines += [_line(row, question) for row in rows] + [""]
    return "\n".join(lines)


def _line(row: Row, question: Question) -> str:
    if not row.values:
        return f"| {row.what} | {row.subject} | - | | not measured: {row.reason.replace('|', '/')} |"
    spread = f"{row.spread:.0%}" if len(row.values) > 1 else ""
    goal = next((goal for goal in question.goals if goal.what == row.what), None)
    ours = row.subject == OURS
    target = _target(goal, row.median) if goal is not None and ours else ""
    name = f"**{row.subject}**" if ours else row.subject
    return f"| {row.what} | {name} | {format_value(row.median, row.unit)} | {spread} | {target} |"


def _target(goal: Goal, value: float) -> str:
    """A goal, what would be beyond it, and how a value compares."""
    bounds = [_bound(goal, goal.reach), f"beyond: {_bound(goal, goal.beyond)}" if goal.beyond is not None else ""]
    return f"{', '.join(filter(None, bounds))}: {goal.verdict(value) or 'short (optional)'}"


def _bound(goal: Goal, value: float | None) -> str:
    return "" if value is None else f"{'≤' if goal.most else '≥'} {format_value(value)}"


def write_pages(table: Table, questions: Sequence[Question], about: About) -> None:
    """Writes the tables of README.md and the whole of RESULTS.md."""
    readme = HERE / "README.md"
    _write_between(readme, "measured-on", describe_run(about))
    _write_between(readme, "goals", goals_table(table, questions))
    _write_between(readme, "peers", peers_table(table, about))
    (HERE / "RESULTS.md").write_text(everything(table, questions, about))


def _write_between(path: Path, name: str, text: str) -> None:
    """Replaces what stands between the markers of that name.

    Raises:
        SystemExit: the file has no such markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text()
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(old):
        raise SystemExit(f"{path} has no lines {begin} and {end}")
    path.write_text(pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", old))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    table, about = from_json(parser.parse_args().results.read_text())
    write_pages(table, list(QUESTIONS.values()), about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
