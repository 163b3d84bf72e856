"""Judges by its reply to ``INFO`` whether a server can keep the promises. Pure: asks no server.

``CONFIG`` is never used, because managed Redis often forbids it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["ok", "warning", "error"]

OLDEST_REDIS = (6, 2)
MEMORY_SHARE = 0.9
"""Share of maxmemory above which too little is left for a burst of tasks."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check of one instance found.

    `message` says what was found and, unless all is well, why it matters. `fix` says what to do, or is "".
    """

    level: Level
    instance: str
    check: str
    message: str
    fix: str = ""


_Found = tuple[Level, str, str, str]
"""A finding without its instance: level, check, message, fix."""


def parse_info(text: str) -> dict[str, str]:
    """The fields of an ``INFO`` answer."""
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in lines if separator}


def number(info: Mapping[str, Any], name: str, missing: float = 0) -> float:
    """A field as a number; `missing` if it is absent or not a number."""
    try:
        return float(info.get(name, missing))
    except (TypeError, ValueError):
        return missing


def startup_findings(info: Mapping[str, Any], instance: str = "") -> list[Finding]:
    """Judges the fields of a reply to ``INFO`` (text or numbers): one finding or more per check.

    A missing field is a warning at most, because the server behind a proxy that hides it may be a good one. A finding
    other than "ok" names no number that changes by itself, so equal findings mean that nothing has changed.
    """
    found = [_version(info), _role(info), _eviction(info), *_persistence(info), _memory(info)]
    return [Finding(level, instance, check, message, fix) for level, check, message, fix in found]


def untold_findings(answer: object, instance: str = "") -> list[Finding]:
    """The finding for a server that answered ``INFO`` with an error."""
    return [
        Finding(
            "warning",
            instance,
            "info",
            f"INFO failed ({answer}): configuration cannot be checked, lost writes will go unnoticed",
            "give the user the right +info (see docs/acl.md), or use a server that has the command",
        )
    ]


def _version(info: Mapping[str, Any]) -> _Found:
    valkey = info.get("valkey_version")
    if valkey or info.get("server_name") == "valkey":
        return "ok", "version", f"Valkey {valkey or ''}".rstrip(), ""
    version = str(info.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        return (
            "warning",
            "version",
            "INFO does not contain redis_version: Redis before 6.2 lacks commands that the scripts use",
            "make sure that it is Redis 6.2 or newer, or Valkey",
        )
    if (int(numbers[1]), int(numbers[2])) < OLDEST_REDIS:
        return (
            "error",
            "version",
            f"Redis {version} lacks commands that the scripts use: they would fail midway",
            "upgrade to Redis 6.2 or newer",
        )
    return "ok", "version", f"Redis {version}", ""


def _role(info: Mapping[str, Any]) -> _Found:
    role = info.get("role", "master")
    if role == "master":
        return "ok", "role", "it takes writes", ""
    master = f", which follows {info['master_host']}:{info.get('master_port', '')}" if info.get("master_host") else ""
    return (
        "error",
        "role",
        f"this is a {role}{master}: every write is refused with READONLY",
        "use the address of the primary, or redis+sentinel://, which finds it",
    )


def _eviction(info: Mapping[str, Any]) -> _Found:
    policy = info.get("maxmemory_policy")
    if policy == "noeviction":
        return "ok", "eviction", "noeviction", ""
    if policy is None:
        return (
            "warning",
            "eviction",
            "INFO does not contain maxmemory_policy: every policy but noeviction deletes tasks when memory is full",
            "make sure that it is noeviction",
        )
    limited = number(info, "maxmemory") > 0
    lost = "locks" if str(policy).startswith("volatile") else "tasks"
    when = "when memory is full" if limited else "once a maxmemory is set"
    return (
        "error" if limited else "warning",
        "eviction",
        f"maxmemory-policy is {policy}: {when}, the server deletes {lost} and tells nobody",
        "set maxmemory-policy noeviction (managed Redis: in its parameters)",
    )


def _persistence(info: Mapping[str, Any]) -> Iterable[_Found]:
    troubles = list(_persistence_troubles(info))
    yield from troubles
    if "aof_enabled" not in info:
        yield (
            "warning",
            "persistence",
            "INFO does not contain aof_enabled: if no data is kept on disk, a restart of the server loses every task",
            "make sure that AOF is on",
        )
    elif not number(info, "aof_enabled") and not _snapshots(info):
        yield (
            "warning",
            "persistence",
            "AOF is off, and no snapshot was made since the server started: a restart loses every task",
            "set appendonly yes, and appendfsync always where no acknowledged task may be lost",
        )
    elif not troubles:
        kept = "AOF is on"
        if not number(info, "aof_enabled"):
            kept = (
                "snapshots only: a crash of the server loses the tasks assigned since the last one; "
                "appendonly yes keeps them"
            )
        yield "ok", "persistence", kept, ""


def _persistence_troubles(info: Mapping[str, Any]) -> Iterable[_Found]:
    if number(info, "loading"):
        yield (
            "error",
            "persistence",
            "the server is still loading its data, and answers nothing else",
            "wait until it has loaded them, then start",
        )
    for field, what in (("aof_last_write_status", "write to the AOF"), ("rdb_last_bgsave_status", "snapshot")):
        if info.get(field, "ok") != "ok":
            yield (
                "error",
                "persistence",
                f"the last {what} failed ({field} is {info[field]}): writes are refused (MISCONF) or lost at a restart",
                "free disk space, or correct the rights of its folder; the server's log names the cause",
            )


def _snapshots(info: Mapping[str, Any]) -> bool:
    """Whether the server makes snapshots, by their traces: INFO does not tell the configured save points."""
    return (
        number(info, "rdb_bgsave_in_progress") > 0
        or number(info, "rdb_saves") > 0
        or number(info, "rdb_last_bgsave_time_sec", -1) >= 0
    )


def _memory(info: Mapping[str, Any]) -> _Found:
    limit = number(info, "maxmemory")
    # What replicas and the AOF have not taken yet does not count against the limit.
    used = number(info, "used_memory") - number(info, "mem_not_counted_for_evict")
    if limit <= 0:
        return "ok", "memory", "no maxmemory", ""
    if used <= MEMORY_SHARE * limit:
        return "ok", "memory", f"{used / limit:.0%} of maxmemory is in use", ""
    return (
        "warning",
        "memory",
        f"more than {MEMORY_SHARE:.0%} of maxmemory is in use: when it is full, new tasks are refused (OOM), "
        "but existing ones still run",
        "raise maxmemory or add an instance",
    )
