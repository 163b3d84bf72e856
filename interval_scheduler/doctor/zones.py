"""The time-zone data of this machine and of the workers of a namespace: times of tasks with a zone follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..protocol import keys
from ..servers.requirements import Finding
from ..support.zones import INSTALL, NONE, UPDATE
from ..worker.zone_watch import versions
from .connection import Connection


def live_workers(connection: Connection, namespace: str, now_ms: float) -> list[str]:
    """The ids of the workers that have told the master instance of themselves; none where they cannot be read."""
    answer: Any = connection.one("ZRANGEBYSCORE", keys.workers(namespace), f"({now_ms:.0f}", "+inf")
    return [worker.decode("utf-8", "replace") for worker in answer] if isinstance(answer, list) else []


def zone_findings(master: str, own: str, workers: Sequence[str]) -> list[Finding]:
    """Judges the versions of the data here (`own`) and of live workers: a finding for each that is not the newest."""
    found = versions(workers)
    known = {version for version in (own, *found.values()) if version not in ("", NONE)}
    newest = max(known, default="")
    findings = []
    if own == NONE:
        message = "this machine has no time-zone data: it cannot assign or run tasks with a time zone"
        findings.append(Finding("warning", master, "zones", message, INSTALL))
    elif "" < own < newest:
        message = f"this machine has time-zone data {own}, and a worker has {newest}: {_DIFFER}"
        findings.append(Finding("warning", master, "zones", message, UPDATE))
    for version in sorted(set(found.values()) - {newest}):
        names = sorted(worker for worker, one in found.items() if one == version)
        who = f"worker {names[0]!r}" + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
        if version == NONE:
            message = f"{who} has no time-zone data: it cannot run tasks with a time zone"
            findings.append(Finding("error", master, "zones", message, INSTALL))
        else:
            message = f"{who} has time-zone data {version}, and others have {newest}: {_DIFFER}"
            findings.append(Finding("warning", master, "zones", message, UPDATE))
    if not findings:
        message = f"time-zone data {newest or 'of an unknown version'} here, and the same at {len(found)} workers"
        findings.append(Finding("ok", master, "zones", message))
    return findings


_DIFFER = "times of tasks with a time zone may differ, depending on who computes them"
