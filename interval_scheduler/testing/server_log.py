"""Translates what simulated servers carry out into the history that the judge reads.

This is no part of the judge, because it knows scripts and records, and because only the simulation can see inside its
servers: of real ones, a test sees what producers and handlers see.
"""

from __future__ import annotations

from ..core.record import RETRYING, parse_header, split_record
from ..protocol import calls
from ..protocol.commands import Partition, is_refused
from .history import Claim, History, LossWindow, Report
from .servers import Executed, SimulatedServer


class ServerLog:
    """Writes claims, accepted reports and losses of servers to a history. `commands` counts the scripts."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.commands = 0

    def observe(self, server: SimulatedServer, entry: Executed) -> None:
        """Called for every script that a server carries out."""
        self.commands += 1
        if isinstance(entry.reply, Exception):
            self._history.failures.append(f"{entry.script} failed on {server.name}: {entry.reply}")
        elif is_refused(entry.reply):
            return
        elif entry.script == "claim":
            self._add_claims(server, entry)
        elif entry.script == "settle":
            self._add_reports(server, entry)

    def lose(self, server: SimulatedServer, seconds: float) -> None:
        """Called when a server came back without its writes of the last seconds."""
        now = server.kernel.now
        loss = LossWindow(server.name, now - seconds, now)
        self._history.losses.append(loss)
        self._history.server_log.append(loss)

    def _add_claims(self, server: SimulatedServer, entry: Executed) -> None:
        for raw_id, record in calls.pairs(calls.read_claim(_partition(server, entry), entry.reply).entries):
            header = parse_header(split_record(record)[0])
            self._history.server_log.append(
                Claim(
                    server.name,
                    entry.keys[0],
                    entry.time,
                    raw_id.decode(),
                    header.token,
                    header.grid,
                    entry.now_ms,
                    "x" in header.flags,
                )
            )

    def _add_reports(self, server: SimulatedServer, entry: Executed) -> None:
        answers = calls.read_settle(_partition(server, entry), entry.reply).answers
        for answer, (raw_id, held, new, dead) in zip(answers, calls.settled_runs(entry.args), strict=True):
            if answer != calls.ACCEPTED:
                continue
            following = parse_header(new) if new else None
            self._history.server_log.append(
                Report(
                    server.name,
                    entry.time,
                    raw_id.decode(),
                    parse_header(held).token,
                    following is None or following.state != "r",
                    None if following is None else following.grid,
                    following.attempt if following is not None and following.state == RETRYING else 0,
                    bool(dead),
                )
            )


def _partition(server: SimulatedServer, entry: Executed) -> Partition:
    """The partition that a script worked on; its number is of no interest here."""
    return Partition(-1, server.name, entry.keys[0].decode())
