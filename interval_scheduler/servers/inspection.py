"""What schedulers do about how their servers are set up: every new connection shows it, by the reply to ``INFO``.

What is wrong is logged when it is seen first, and again only after it changed. A server on which the scripts cannot
work is refused, and so is one that may evict tasks, where the option ``evicting_servers`` asks for that.
"""

from __future__ import annotations

from typing import Literal

from ..model.errors import UnsuitableServer
from ..support.log import Log
from .requirements import Finding, parse_info, startup_findings, untold_findings


class Inspection:
    """The servers of one process, as their last connections showed them.

    Used from several threads without a lock: at worst, a line is logged twice.
    """

    def __init__(self, log: Log, evicting_servers: Literal["warn", "refuse"]) -> None:
        self._log = log
        self._refused = {"version"} if evicting_servers == "warn" else {"version", "eviction"}
        self._known: dict[str, list[Finding]] = {}

    def connected(self, instance: str, answer: object) -> None:
        """Takes the reply to ``INFO`` (bytes, or the error instead) on a new connection.

        Raises:
            UnsuitableServer: where the connection must not be used.
        """
        if isinstance(answer, bytes):
            findings = startup_findings(parse_info(answer.decode("utf-8", "replace")), instance)
        else:
            findings = untold_findings(answer, instance)
        wrong = [finding for finding in findings if finding.level != "ok"]
        known = self._known.get(instance, [])
        self._known[instance] = wrong
        for finding in wrong:
            if finding not in known:
                self._log.write(finding.level, finding.message, fix=finding.fix, instance=instance, check=finding.check)
        for finding in wrong:
            if finding.level == "error" and finding.check in self._refused:
                raise UnsuitableServer(instance, f"{finding.message}; {finding.fix}")
