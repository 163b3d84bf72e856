"""Measures everything, or some of it: ``python -m benchmarks --only B2,B4 --quick --repetitions 3``.

Prints every figure as it comes, writes them to --output and, with --pages, makes README.md and RESULTS.md again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from .bench import Bench
from .figures import Missing, Table, shown
from .machine import machine
from .processes import Failed, describe
from .question import Question
from .questions.register import QUESTIONS
from .report import RESULTS, all_tables, as_json, measured_on, write_pages
from .subjects import Subject, installed_peers


def main() -> int:
    arguments = _parser().parse_args()
    questions = _chosen(arguments.only)
    peers = [] if arguments.peers == "none" else _peers(arguments.peers)
    repetitions = arguments.repetitions
    asks_peers = repetitions if arguments.peer_repetitions is None else arguments.peer_repetitions
    bench = Bench(arguments.quick, peers, int(arguments.largest), repetitions, peer_repetitions=asks_peers)
    table = Table()
    begin = time.monotonic()
    # Servers and workers are stopped on the way out, however it ends.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    text = ""
    try:
        for repetition in range(repetitions):
            bench.repetition = repetition
            for question in questions:
                _measure(bench, question, table)
            # After each, so that a long run that is cut short leaves what it has.
            about = {
                "machine": machine(),
                "how": _how(repetition + 1, arguments.quick, time.monotonic() - begin),
                "quick": arguments.quick,
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "peers": {peer.name: _described(peer) for peer in peers},
            }
            text = f"{measured_on(about)}\n\n{all_tables(table, questions)}"
            arguments.output.parent.mkdir(exist_ok=True)
            arguments.output.write_text(as_json(table, questions, about))
            if arguments.pages:
                write_pages(table, questions, about)
    finally:
        bench.close()
    print(text)
    return 0


def _how(repetitions: int, quick: bool, seconds: float) -> str:
    return (
        f"{repetitions} repetition{'s' * (repetitions > 1)}{', quick' * quick}, median and half the range; "
        f"{seconds / 60:.0f} minutes, load {os.getloadavg()[1]:.1f} over the last five."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(QUESTIONS)
    parser.add_argument("--only", default="", help=f"names of questions, separated by commas: {names}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, not how fast")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--largest", type=float, default=10e6, help="most tasks to fill a server with (default 10e6)")
    parser.add_argument("--peers", default="installed", help="names separated by commas, 'installed' or 'none'")
    parser.add_argument("--peer-repetitions", type=int, help="of peers (default: as many as of ours)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--pages", action="store_true", help="write benchmarks/README.md and RESULTS.md too")
    return parser


def _chosen(only: str) -> list[Question]:
    if not only:
        return list(QUESTIONS.values())
    names = only.split(",")
    if unknown := [name for name in names if name not in QUESTIONS]:
        raise SystemExit(f"no such question: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    return [QUESTIONS[name] for name in names]


def _peers(wanted: str) -> list[Subject]:
    found = {peer.name: peer for peer in installed_peers()}
    if wanted == "installed":
        if not found:
            print("no peers: python -m benchmarks.peers setup installs them", file=sys.stderr)
        return list(found.values())
    if missing := [name for name in wanted.split(",") if name not in found]:
        raise SystemExit(f"not installed: {', '.join(missing)}; python -m benchmarks.peers setup installs peers")
    return [found[name] for name in wanted.split(",")]


def _described(peer: Subject) -> object:
    try:
        return describe(peer)
    except Failed as error:
        return {"missing": str(error)}


def _measure(bench: Bench, question: Question, table: Table) -> None:
    for result in question.measure(bench):
        table.add(question.name, result)
        value = result.reason if isinstance(result, Missing) else shown(result.value, result.unit)
        print(f"{time.strftime('%H:%M:%S')} {question.name} {result.what} | {result.subject} | {value}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
