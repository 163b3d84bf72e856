"""Measures everything, or some of it: ``python -m benchmarks --peers all --pages``.

Prints every figure as it comes, writes all of them to --output and, with --pages, makes README.md and RESULTS.md again.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from .bench import Bench
from .figures import OURS, Missing, Table, format_value
from .machine import machine
from .peers.install import NotInstalled, install
from .peers.registry import PEERS
from .processes import Failed, describe
from .question import Question
from .questions.register import QUESTIONS
from .report import RESULTS, About, PeerNote, all_tables, as_json, describe_run, write_pages
from .subjects import Subject, peer_subject


def main() -> int:
    arguments = _parse()
    questions = _choose(arguments.only)
    peers, notes = prepare_peers(arguments.peers)
    repetitions = arguments.repetitions
    peer_repetitions = repetitions if arguments.peer_repetitions is None else arguments.peer_repetitions
    bench = Bench(arguments.quick, peers, int(arguments.largest), repetitions, peer_repetitions=peer_repetitions)
    table = Table()
    begin = time.monotonic()
    # SIGTERM ends the run like Ctrl-C: servers and workers are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    text = ""
    try:
        for repetition in range(repetitions):
            bench.repetition = repetition
            for question in questions:
                _say(f"repetition {repetition + 1} of {repetitions}, {question.name}: {question.title}")
                measure_question(bench, question, table)
            # Written after each repetition, so that a run that is interrupted leaves what it has.
            about = _about(repetition + 1, bench, time.monotonic() - begin, notes)
            text = f"{describe_run(about)}\n\n{all_tables(table, questions)}"
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(as_json(table, questions, about))
            if arguments.pages:
                write_pages(table, questions, about)
    finally:
        bench.close()
    print(text)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help=f"questions, separated by commas: {', '.join(QUESTIONS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it works, not how fast")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--largest", type=float, default=10e6, help="most tasks to fill a server with (default 10e6)")
    parser.add_argument(
        "--peers",
        default="installed",
        help="'all' or names separated by commas, which are installed first where they are not; 'installed' (the "
        "default); 'none'. A peer that cannot be installed or started is left out, and the results say why",
    )
    parser.add_argument("--peer-repetitions", type=int, help="repetitions of peers (default: as many as --repetitions)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--pages", action="store_true", help="also write benchmarks/README.md and RESULTS.md")
    arguments = parser.parse_args()
    if arguments.pages and (arguments.only or arguments.quick):
        parser.error("--pages shows a whole run: it cannot be combined with --only or --quick")
    return arguments


def _choose(only: str) -> list[Question]:
    if not only:
        return list(QUESTIONS.values())
    names = only.split(",")
    if unknown := [name for name in names if name not in QUESTIONS]:
        raise SystemExit(f"no such question: {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    return [QUESTIONS[name] for name in names]


def prepare_peers(wanted: str) -> tuple[list[Subject], dict[str, PeerNote]]:
    """The peers that can be measured, and by name what the results say of each, also of those that cannot."""
    if wanted == "none":
        return [], {}
    names = list(PEERS) if wanted in ("all", "installed") else wanted.split(",")
    if unknown := [name for name in names if name not in PEERS]:
        raise SystemExit(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    peers, notes = [], {}
    for name in names:
        peer = PEERS[name]
        subject = peer_subject(peer)
        try:
            if not peer.installed:
                if wanted == "installed":
                    raise NotInstalled("python -m benchmarks --peers all installs it")
                _say(f"installing {name}")
                install(peer)
            described = describe(subject)
            notes[name] = PeerNote(versions=described["versions"], configuration=described["configuration"])
            peers.append(subject)
        except (NotInstalled, Failed) as error:
            reason = " ".join(str(error).split())
            notes[name] = PeerNote(missing=f"not installed: {reason}" if isinstance(error, NotInstalled) else reason)
            _say(f"{name} is left out: {notes[name]['missing']}")
    return peers, notes


def _about(repetitions: int, bench: Bench, seconds: float, peers: dict[str, PeerNote]) -> About:
    of_peers = min(repetitions, bench.peer_repetitions)
    how = (
        f"{_times(repetitions)}{f' ({of_peers} of peers)' * (of_peers < repetitions)}{', quick' * bench.quick}, median "
        f"and half the range; {seconds / 60:.0f} minutes, load {os.getloadavg()[1]:.1f} over the last five."
    )
    return About(
        date=time.strftime("%Y-%m-%d", time.gmtime()), machine=machine(), how=how, quick=bench.quick, peers=peers
    )


def _times(repetitions: int) -> str:
    return f"{repetitions} repetition{'s' * (repetitions > 1)}"


def measure_question(bench: Bench, question: Question, table: Table) -> None:
    """Adds the figures of a question to the table. Where it fails, the reason stands there, and the run goes on."""
    try:
        for result in question.measure(bench):
            table.add(question.name, result)
            value = result.reason if isinstance(result, Missing) else format_value(result.value, result.unit)
            _say(f"{question.name} {result.what} | {result.subject} | {value}")
    except Failed as error:
        table.add(question.name, Missing("this question", OURS, " ".join(str(error).split())))
        _say(f"{question.name} failed: {error}")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
