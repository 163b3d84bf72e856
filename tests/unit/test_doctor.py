"""What INFO and clocks say, judged without a server."""

from __future__ import annotations

import re
from typing import Any

import pytest

from interval_scheduler.doctor import SCRIPT_COMMANDS, Finding, clock_findings, parse_info, startup_findings
from interval_scheduler.scripts import script
from tests.unit.test_lua_headers import LUA

HEALTHY: dict[str, Any] = {
    "redis_version": "7.0.15",
    "role": "master",
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "used_memory": 1_000_000,
    "mem_not_counted_for_evict": 0,
    "loading": 0,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "rdb_last_bgsave_time_sec": -1,
    "rdb_saves": 0,
    "rdb_bgsave_in_progress": 0,
}


def not_ok(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.check) for finding in findings if finding.level != "ok"]


def test_a_healthy_server_has_one_good_finding_per_check() -> None:
    findings = startup_findings(HEALTHY, "redis-0")
    assert {finding.level for finding in findings} == {"ok"}
    assert {finding.instance for finding in findings} == {"redis-0"}
    assert [finding.check for finding in findings] == ["version", "role", "eviction", "persistence", "memory"]


def test_numbers_may_be_text_as_in_the_answer_itself() -> None:
    text = "# Server\r\n" + "".join(f"{name}:{value}\r\n" for name, value in HEALTHY.items())
    assert startup_findings(parse_info(text)) == startup_findings(HEALTHY)


@pytest.mark.parametrize(
    ("fields", "expected", "says"),
    [
        ({"redis_version": "6.0.16"}, [("error", "version")], "upgrade to Redis 6.2"),
        ({"redis_version": "5.0.7"}, [("error", "version")], "5.0.7"),
        ({"redis_version": "6.2.0"}, [], ""),
        ({"redis_version": "10.0.0"}, [], ""),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.1.0"}, [], ""),
        ({"redis_version": "unknown"}, [("warning", "version")], "6.2"),
        ({"role": "slave", "master_host": "10.0.0.1"}, [("error", "role")], "READONLY"),
        ({"maxmemory_policy": "allkeys-lru"}, [("warning", "eviction")], "noeviction"),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 10**9}, [("error", "eviction")], "deletes tasks"),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": 10**9}, [("error", "eviction")], "deletes locks"),
        ({"maxmemory_policy": None}, [("warning", "eviction")], "noeviction"),
        ({"aof_enabled": 0}, [("warning", "persistence")], "appendonly yes"),
        ({"aof_enabled": None}, [("warning", "persistence")], "AOF"),
        ({"aof_enabled": 0, "rdb_saves": 3}, [], ""),
        ({"aof_enabled": 0, "rdb_last_bgsave_time_sec": 0}, [], ""),
        ({"aof_enabled": 0, "rdb_bgsave_in_progress": "1"}, [], ""),
        ({"loading": "1"}, [("error", "persistence")], "loading"),
        ({"aof_last_write_status": "err"}, [("error", "persistence")], "disk"),
        ({"rdb_last_bgsave_status": "err"}, [("error", "persistence")], "MISCONF"),
        ({"aof_enabled": 0, "rdb_saves": 1, "rdb_last_bgsave_status": "err"}, [("error", "persistence")], "disk"),
        ({"maxmemory": 1_050_000}, [("warning", "memory")], "95%"),
        ({"maxmemory": 1_050_000, "mem_not_counted_for_evict": 500_000}, [], ""),
        ({"maxmemory": 1_200_000}, [], ""),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], expected: list[tuple[str, str]], says: str) -> None:
    info = {name: value for name, value in {**HEALTHY, **fields}.items() if value is not None}
    findings = startup_findings(info)
    assert not_ok(findings) == expected
    assert all(says in finding.message for finding in findings if finding.level != "ok")


def test_a_server_that_tells_nothing_is_no_error() -> None:
    assert {level for level, _ in not_ok(startup_findings({}))} == {"warning"}


@pytest.mark.parametrize(
    ("clocks", "expected"),
    [
        ({"a": (0.5, 0.01), "b": (-0.3, 0.01)}, []),
        ({"a": (1.5, 0.01)}, [("warning", "a")]),
        ({"a": (-61.0, 0.01)}, [("error", "a")]),
        # What may be the error of a slow round trip is not held against the clock.
        ({"a": (1.5, 0.8)}, []),
        # Each is near enough to this machine, but not to the other one.
        ({"a": (-0.8, 0.01), "b": (0.8, 0.01)}, [("warning", "b")]),
        ({"a": (-0.8, 0.5), "b": (0.8, 0.5)}, []),
        ({"a": (-40.0, 0.01), "b": (40.0, 0.01)}, [("warning", "a"), ("warning", "b"), ("error", "b")]),
    ],
)
def test_clocks(clocks: dict[str, tuple[float, float]], expected: list[tuple[str, str]]) -> None:
    findings = clock_findings(clocks)
    assert [(finding.level, finding.instance) for finding in findings if finding.level != "ok"] == expected


def test_every_command_of_the_scripts_is_tried() -> None:
    """A command that a script begins to use needs a right, which the doctor has to ask for."""
    sources = [script(path.stem).source for path in LUA.glob("*.lua")]
    used = {name for source in sources for name in re.findall(r"redis\.p?call\('(\w+)'", source)}
    assert used == set(SCRIPT_COMMANDS)
    assert all(source.count("call(") == len(re.findall(r"redis\.p?call\('\w+'", source)) for source in sources)
