"""Checks on every new connection whether the server meets the `requirements`, by its reply to ``INFO``.

What is wrong is logged when it is first seen, and again only after it changed. A server on which the scripts cannot
work is refused. So is one that may evict tasks, if the option ``evicting_servers`` says so.
"""

from __future__ import annotations

from typing import Literal

from ..model.errors import UnsuitableServer
from ..support.forks import Lock
from ..support.log import Log
from .requirements import Finding, parse_info, startup_findings, untold_findings


class Inspection:
    """The servers of one process, as their last connections showed them. May be used from several threads."""

    def __init__(self, log: Log, evicting_servers: Literal["warn", "refuse"]) -> None:
        self._log = log
        self._refused = {"version"} if evicting_servers == "warn" else {"version", "eviction"}
        self._known: dict[str, list[Finding]] = {}
        self._lock = Lock()

    def examine(self, instance: str, info: object) -> None:
        """Takes the reply to ``INFO`` (bytes, or the error instead of it) on a new connection.

        Raises:
            UnsuitableServer: where the connection must not be used.
        """
        if isinstance(info, bytes):
            findings = startup_findings(parse_info(info.decode("utf-8", "replace")), instance)
        else:
            findings = untold_findings(info, instance)
        wrong = [finding for finding in findings if finding.level != "ok"]
        with self._lock:
            known = self._known.get(instance, [])
            self._known[instance] = wrong
        for finding in wrong:
            if finding not in known:
                self._log.write(finding.level, finding.message, fix=finding.fix, instance=instance, check=finding.check)
        for finding in wrong:
            if finding.level == "error" and finding.check in self._refused:
                raise UnsuitableServer(instance, finding.message, finding.fix)
