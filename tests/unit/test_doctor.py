"""What INFO and clocks say, judged without a server; what is done about it; and the commands that need rights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from interval_scheduler.cli.doctor import lines
from interval_scheduler.doctor import Finding, startup_findings
from interval_scheduler.doctor.acl import with_rule
from interval_scheduler.doctor.clocks import clock_findings
from interval_scheduler.doctor.rights import CONNECTION_COMMANDS, DOCTOR_RIGHTS, HARMLESS_FORMS
from interval_scheduler.model.errors import PartitionUnavailable, UnsuitableServer
from interval_scheduler.protocol.scripts import commands_used
from interval_scheduler.servers.inspection import Inspection
from interval_scheduler.servers.requirements import parse_info, untold_findings
from interval_scheduler.support.log import Log
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


def altered(fields: dict[str, Any]) -> dict[str, Any]:
    """A healthy INFO with some fields of other values; None leaves one out."""
    return {name: value for name, value in {**HEALTHY, **fields}.items() if value is not None}


def test_a_healthy_server_has_one_good_finding_per_check() -> None:
    findings = startup_findings(HEALTHY, "redis-0")
    assert {finding.level for finding in findings} == {"ok"}
    assert {finding.instance for finding in findings} == {"redis-0"}
    assert [finding.check for finding in findings] == ["version", "role", "eviction", "persistence", "memory"]


def test_numbers_may_be_text_as_in_the_answer_itself() -> None:
    text = "# Server\r\n" + "".join(f"{name}:{value}\r\n" for name, value in HEALTHY.items())
    assert startup_findings(parse_info(text)) == startup_findings(HEALTHY)


# Fields of INFO, the findings that are not good, and what these say: the problem, why it matters, the fix.
WRONG: list[tuple[dict[str, Any], list[tuple[str, str]], tuple[str, str, str]]] = [
    ({"redis_version": "6.0.16"}, [("error", "version")], ("Redis 6.0.16", "would fail", "upgrade to Redis 6.2")),
    ({"redis_version": "5.0.7"}, [("error", "version")], ("Redis 5.0.7", "would fail", "upgrade to Redis 6.2")),
    (
        {"redis_version": "unknown"},
        [("warning", "version")],
        ("does not contain redis_version", "lacks commands", "6.2 or newer"),
    ),
    (
        {"role": "slave", "master_host": "10.0.0.1", "master_port": 6380},
        [("error", "role")],
        ("a slave, which follows 10.0.0.1:6380", "READONLY", "the address of the primary"),
    ),
    ({"role": "sentinel"}, [("error", "role")], ("a sentinel:", "READONLY", "the address of the primary")),
    (
        {"maxmemory_policy": "allkeys-lru"},
        [("warning", "eviction")],
        (
            "policy is allkeys-lru",
            "once a maxmemory is set, the server deletes tasks",
            "set maxmemory-policy noeviction",
        ),
    ),
    (
        {"maxmemory_policy": "allkeys-lru", "maxmemory": 10**9},
        [("error", "eviction")],
        ("policy is allkeys-lru", "when memory is full, the server deletes tasks", "set maxmemory-policy noeviction"),
    ),
    (
        {"maxmemory_policy": "volatile-ttl", "maxmemory": 10**9},
        [("error", "eviction")],
        ("policy is volatile-ttl", "deletes locks", "set maxmemory-policy noeviction"),
    ),
    (
        {"maxmemory_policy": None},
        [("warning", "eviction")],
        ("does not contain maxmemory_policy", "deletes tasks", "make sure that it is noeviction"),
    ),
    (
        {"aof_enabled": 0},
        [("warning", "persistence")],
        ("AOF is off, and no snapshot", "loses every task", "set appendonly yes"),
    ),
    (
        {"aof_enabled": None},
        [("warning", "persistence")],
        ("does not contain aof_enabled", "loses every task", "make sure that AOF is on"),
    ),
    ({"loading": "1"}, [("error", "persistence")], ("still loading", "answers nothing else", "wait until it has")),
    (
        {"aof_last_write_status": "err"},
        [("error", "persistence")],
        ("write to the AOF failed (aof_last_write_status is err)", "MISCONF", "free disk space"),
    ),
    (
        {"rdb_last_bgsave_status": "err"},
        [("error", "persistence")],
        ("snapshot failed (rdb_last_bgsave_status is err)", "lost at a restart", "free disk space"),
    ),
    (
        {"aof_enabled": 0, "rdb_saves": 1, "rdb_last_bgsave_status": "err"},
        [("error", "persistence")],
        ("snapshot failed", "MISCONF", "free disk space"),
    ),
    (
        {"maxmemory": 1_050_000},
        [("warning", "memory")],
        ("more than 90% of maxmemory", "new tasks are refused", "raise maxmemory"),
    ),
]


@pytest.mark.parametrize(("fields", "expected", "says"), WRONG)
def test_what_is_wrong_is_named_with_why_and_fix(
    fields: dict[str, Any], expected: list[tuple[str, str]], says: tuple[str, str, str]
) -> None:
    findings = startup_findings(altered(fields))
    assert not_ok(findings) == expected
    [finding] = [finding for finding in findings if finding.level != "ok"]
    problem, why, fix = says
    assert problem in finding.message
    assert why in finding.message
    assert fix in finding.fix


@pytest.mark.parametrize(
    "fields",
    [
        {"redis_version": "6.2.0"},
        {"redis_version": "10.0.0"},
        {"redis_version": "5.0.0", "server_name": "valkey", "valkey_version": "8.1.0"},
        {"redis_version": "5.0.0", "valkey_version": "8.1.0"},
        {"redis_version": "5.0.0", "server_name": "valkey"},
        {"aof_enabled": 0, "rdb_saves": 3},
        {"aof_enabled": 0, "rdb_last_bgsave_time_sec": 0},
        {"aof_enabled": 0, "rdb_bgsave_in_progress": "1"},
        {"maxmemory": 1_050_000, "mem_not_counted_for_evict": 500_000},
        {"maxmemory": 1_200_000},
        {"maxmemory": 10**9, "used_memory": "?"},
    ],
)
def test_what_is_fine_is_not_complained_of(fields: dict[str, Any]) -> None:
    findings = startup_findings(altered(fields))
    assert not_ok(findings) == []
    assert {finding.fix for finding in findings} == {""}


def test_findings_stay_equal_while_numbers_move() -> None:
    """A connection that sees the same again is not to log it again."""
    fuller = altered({"maxmemory": 1_050_000, "used_memory": 1_049_000})
    assert not_ok(startup_findings(fuller)) == [("warning", "memory")]
    wrong = [finding for finding in startup_findings(fuller) if finding.level != "ok"]
    assert wrong == [f for f in startup_findings(altered({"maxmemory": 1_050_000})) if f.level != "ok"]


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


# -- what connections do about it --------------------------------------------------------------------------------------


class Lines:
    """A logger that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def unbind(self) -> None: ...  # by which a structlog logger is known

    def warning(self, message: str, **fields: Any) -> None:
        self.lines.append(("warning", message, fields))

    def error(self, message: str, **fields: Any) -> None:
        self.lines.append(("error", message, fields))

    @property
    def checks(self) -> list[tuple[str, str, str]]:
        return [(level, fields["instance"], fields["check"]) for level, _, fields in self.lines]


def answer(**fields: Any) -> bytes:
    """The reply to INFO, as it comes over a connection."""
    return "".join(f"{name}:{value}\r\n" for name, value in altered(fields).items()).encode()


def test_each_finding_is_one_log_line_and_is_not_repeated_until_it_changes() -> None:
    logger = Lines()
    inspection = Inspection(Log(logger), "warn")
    for _ in range(3):
        inspection.examine("one", answer(maxmemory_policy="allkeys-lru", aof_enabled=0))
        inspection.examine("two", answer(aof_enabled=0))
    assert logger.checks == [
        ("warning", "one", "eviction"),
        ("warning", "one", "persistence"),
        ("warning", "two", "persistence"),
    ]
    _, message, fields = logger.lines[0]
    assert "maxmemory-policy is allkeys-lru" in message
    assert "noeviction" in fields["fix"]

    logger.lines.clear()
    inspection.examine("one", answer(maxmemory_policy="allkeys-lru", maxmemory=10**9, aof_enabled=0))
    assert logger.checks == [("error", "one", "eviction")], "what became worse is logged, and nothing else"

    logger.lines.clear()
    inspection.examine("one", answer())
    assert logger.checks == []
    inspection.examine("one", answer(aof_enabled=0))
    assert logger.checks == [("warning", "one", "persistence")], "what was corrected meanwhile is new"


@pytest.mark.parametrize("evicting_servers", ["warn", "refuse"])
def test_an_old_version_is_refused(evicting_servers: Any) -> None:
    logger = Lines()
    inspection = Inspection(Log(logger), evicting_servers)
    for _ in range(2):
        with pytest.raises(UnsuitableServer, match=r"'one' is unavailable: Redis 6.0.16 lacks .* upgrade to Redis 6.2"):
            inspection.examine("one", answer(redis_version="6.0.16"))
    assert logger.checks == [("error", "one", "version")]
    assert issubclass(UnsuitableServer, PartitionUnavailable), "a failing instance takes down only its own partitions"


def test_an_evicting_server_is_refused_where_that_is_asked_for() -> None:
    evicting = answer(maxmemory_policy="allkeys-lru", maxmemory=10**9)
    logger = Lines()
    Inspection(Log(logger), "warn").examine("one", evicting)
    assert logger.checks == [("error", "one", "eviction")]
    strict = Inspection(Log(Lines()), "refuse")
    with pytest.raises(UnsuitableServer, match="set maxmemory-policy noeviction"):
        strict.examine("one", evicting)
    strict.examine("one", answer(maxmemory_policy="allkeys-lru"))  # nothing is evicted without a maxmemory
    strict.examine("one", answer(maxmemory=10**9))
    strict.examine("one", answer(role="slave"))  # it may become the primary


def test_a_server_that_does_not_answer_info_is_used() -> None:
    logger = Lines()
    for _ in range(2):
        Inspection(Log(logger), "refuse").examine("one", PermissionError("no permissions"))
    assert logger.checks == [("warning", "one", "info")] * 2
    [finding] = untold_findings("NOPERM", "one")
    assert "NOPERM" in finding.message
    assert "+info" in finding.fix


# -- what is printed -------------------------------------------------------------------------------------------------

PRINTED = [
    Finding("ok", "one", "version", "Redis 7.0.15"),
    Finding(
        "error", "one", "eviction", "maxmemory-policy is allkeys-lru: " + "it deletes tasks " * 5, "change it " * 9
    ),
    Finding("warning", "two", "persistence", "none"),
]


def test_lines_are_aligned_and_sum_up() -> None:
    assert list(lines(PRINTED)) == [
        "one",
        "  OK       version      Redis 7.0.15",
        f"  ERROR    eviction     {PRINTED[1].message}",
        f"                        fix: {PRINTED[1].fix}",
        "",
        "two",
        "  WARNING  persistence  none",
        "",
        "1 ok, 1 warning, 1 error",
    ]


def test_lines_fit_the_terminal_and_keep_their_words() -> None:
    wrapped = list(lines(PRINTED, 60))
    assert max(map(len, wrapped)) <= 60
    assert " ".join(wrapped).split() == " ".join(lines(PRINTED)).split()
    longer = [line for line in wrapped if line.startswith(" " * 24)]
    assert len(longer) > 3, "what does not fit goes on below its column"
    assert list(lines(PRINTED, 20)) == list(lines(PRINTED)), "too narrow for columns"


# -- rights ------------------------------------------------------------------------------------------------------------

ACL = Path(__file__).parents[2] / "docs" / "acl.md"


def test_every_command_of_the_scripts_is_written_out() -> None:
    """Else `commands_used` would not find it, and the user of docs/acl.md could not call it."""
    for path in LUA.rglob("*.lua"):
        source = path.read_text()
        written = re.findall(r"redis\.p?call\('(\w+)'", source)
        assert len(written) == len(re.findall(r"redis\.p?call\b", source)), path.name
        assert set(written) <= commands_used(), path.name


def test_every_command_of_the_scripts_is_tried() -> None:
    """A command that a script begins to use needs a right, which the doctor has to try."""
    assert commands_used() - HARMLESS_FORMS.keys() == set(), "add a form that changes nothing to HARMLESS_FORMS"
    assert HARMLESS_FORMS.keys() - commands_used() == set(), "no script uses these any more"


def test_the_documented_rule_is_the_one_that_is_made() -> None:
    page = ACL.read_text()
    assert page == with_rule(page), "run python -m interval_scheduler.doctor.acl docs/acl.md"
    for right in [*CONNECTION_COMMANDS, *DOCTOR_RIGHTS, *(f"+{name.lower()}" for name in commands_used())]:
        assert f" {right} " in page or f" {right}\n" in page


def test_a_missing_right_is_written_into_the_page() -> None:
    page = ACL.read_text()
    assert with_rule(page.replace(" +zrank", "").replace(" &{interval-scheduler}:*", "")) == page
