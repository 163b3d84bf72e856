"""The functions that build the calls of scripts and read their replies: one pair per script, and nobody else does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interval_scheduler.core.record import Header
from interval_scheduler.core.settlement import NOTHING_FOLLOWS, Settlement
from interval_scheduler.model.errors import PartitionUnavailable, TopologyMismatch
from interval_scheduler.protocol import calls
from interval_scheduler.protocol.commands import ABSENT, MOVED, Command, Partition
from interval_scheduler.protocol.scripts import all_scripts

PACKAGE = Path(__file__).parents[2] / "interval_scheduler"
HOME = Partition(3, "redis", "{ns:3}:meta", "7")
OTHER = Partition(4, "redis", "{ns:4}:meta", "8")
HEADER = Header("s", 5000, "call")


@dataclass
class Ended:
    raw_id: bytes
    raw_header: bytes


@dataclass
class Sample:
    """A call with an argument of its own in every place, and what then goes where, by the names of the header.

    A key or an argument that a header declares as the last one ("ARGV[4...]") stands for all that follow.
    """

    command: Command
    keys: dict[str, str | Sequence[str]]
    args: dict[str, object]
    repeatable: bool = True


def on_partition(command: Command, repeatable: bool = True, **args: object) -> Sample:
    return Sample(command, {"meta": HOME.meta}, {"epoch": "7", "now": "9", **args}, repeatable)


RUNS = [Ended(b"a", b"ra"), Ended(b"b", b"rb"), Ended(b"c", b"rc")]
ENDS = [NOTHING_FOLLOWS, Settlement(HEADER), Settlement(None, b"", b"dead")]
SETTLED = [b"a", b"ra", b"", b"b", b"rb", HEADER.encode(), b"c", b"rc", b"+", b"", b"dead"]
SAMPLES = {
    "assign": on_partition(
        calls.assign(HOME, "9", "id", (b"a", "=1", "2", b"body")), call_id="id", tasks=(b"a", "=1", "2", b"body")
    ),
    "audit": on_partition(
        calls.audit(HOME, "9", "index", "5", 6, repair=True, lease_ms=8),
        repeatable=False,
        part="index",
        cursor="5",
        count=6,
        repair=1,
        lease=8,
    ),
    "claim": on_partition(
        calls.claim(HOME, "9", 1, 2, 3, 4, is_first=True),
        repeatable=False,
        limit=1,
        lease=2,
        suspects=3,
        bytes=4,
        first=1,
    ),
    "clear": on_partition(calls.clear(HOME, "9", 1), limit=1),
    "confirm": on_partition(calls.confirm(HOME, "9", b"a", 5), id=b"a", token=5),
    "count": on_partition(calls.count(HOME, "9")),
    "create_partition": Sample(
        calls.create_partition(HOME, 1, 2), {"meta": HOME.meta}, {"format": 1, "width": 2, "owner": "redis"}
    ),
    "dead": on_partition(calls.dead(HOME, "9", 1, 2), start=1, limit=2),
    "handshake": Sample(
        calls.handshake("redis", [HOME.meta, OTHER.meta], "run", [1, 2]),
        {"meta": [HOME.meta, OTHER.meta]},
        {"run_id": "run", "tokens": (1, 2)},
    ),
    "identify": Sample(
        calls.identify("redis", "ns", give=True), {"instance": "{ns}:instance"}, {"name": "redis", "give": 1}
    ),
    "lock": Sample(
        calls.lock("redis", "ns", "mine", "take", "me", 5),
        {"lock": "{ns}:lock:mine", "sequence": "{ns}:lock-sequence"},
        {"action": "take", "holder": "me", "ttl": 5},
    ),
    "look": Sample(
        calls.look([HOME, OTHER], "9", forgets=True),
        {"meta": [HOME.meta, OTHER.meta]},
        {"now": "9", "forgets": 1, "epochs": ("7", "8")},
    ),
    "nudge": Sample(
        calls.nudge("redis", "ns", "other", 3, 5000.0),
        {"workers": "{ns}:workers"},
        {"worker": "other", "message": "3 5000"},
    ),
    "peek": on_partition(calls.peek(HOME, "9", b"a"), id=b"a"),
    "purge": on_partition(calls.purge(HOME, "9", 1, 5000), repeatable=False, limit=1, until="(5000"),
    "remove": on_partition(calls.remove(HOME, "9", [b"a", b"b"]), ids=(b"a", b"b")),
    "renew": on_partition(calls.renew(HOME, "9", 1, (b"a", "5")), lease=1, runs=(b"a", "5")),
    "reschedule": on_partition(calls.reschedule(HOME, "9", "id", b"a", "+5"), call_id="id", id=b"a", when="+5"),
    "revive": on_partition(
        calls.revive(HOME, "9", "id", [(b"a", b"dead", b"body")]),
        repeatable=False,
        call_id="id",
        dead_letters=(b"a", b"dead", b"body"),
    ),
    "run_now": on_partition(calls.run_now(HOME, "9", "id", b"a"), call_id="id", id=b"a"),
    "settle": on_partition(calls.settle(HOME, "9", 1, RUNS, ENDS), repeatable=False, lease=1, runs=SETTLED),
    "topology": Sample(
        calls.topology("redis", "ns", 1, 2, 3, b"owners"),
        {"topology": "{ns}:topology"},
        {"format": 1, "partitions": 2, "width": 3, "owners": b"owners"},
    ),
    "topology_ready": Sample(calls.topology_ready("redis", "ns"), {"topology": "{ns}:topology"}, {}),
    "upcoming": Sample(
        calls.upcoming(HOME, "9", "1", b"a", "2", 3),
        {"meta": HOME.meta},
        {"epoch": "7", "now": "9", "from": "1", "after": b"a", "until": "2", "limit": 3},
    ),
    "workers": Sample(
        calls.workers("redis", "ns", "9", "me", 5), {"workers": "{ns}:workers"}, {"now": "9", "worker": "me", "ttl": 5}
    ),
}
SCRIPTS = [script.name for script in all_scripts()]


def declared(name: str, array: str) -> tuple[list[str], bool]:
    """The names that the header of a script gives to its keys or arguments, and whether the last one is many."""
    source = (PACKAGE / "lua" / f"{name}.lua").read_text()
    entries = re.findall(rf"^-- {array}\[\d+(\.\.\.)?\] (\S+)", source, re.MULTILINE)
    return [entry for _, entry in entries], bool(entries) and entries[-1][0] == "..."


def laid_out(given: dict[str, Any], is_tail: bool) -> list[object]:
    values = list(given.values())
    values = [*values[:-1], *values[-1]] if is_tail else values
    return [str(value) if type(value) is int else value for value in values]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_call_has_its_arguments_where_the_script_expects_them(name: str) -> None:
    sample = SAMPLES[name]
    assert sample.command.script.name == name
    assert sample.command.instance == "redis"
    assert sample.command.repeatable == sample.repeatable
    for array, given, sent in (("KEYS", sample.keys, sample.command.keys), ("ARGV", sample.args, sample.command.args)):
        names, is_tail = declared(name, array)
        assert list(given) == names
        assert list(sent) == laid_out(given, is_tail)


def test_there_is_a_builder_and_a_reader_for_every_script_and_no_other() -> None:
    assert SAMPLES.keys() == set(SCRIPTS)
    readers = {name.removeprefix("read_") for name in calls.__all__ if name.startswith("read_")}
    assert readers == set(SCRIPTS)
    assert set(SCRIPTS) <= set(calls.__all__)


def test_the_first_task_of_a_conditional_assignment_has_the_version_after_a_space() -> None:
    assert calls.assign(HOME, "", "id", (), "v1").args[2] == "id v1"
    assert calls.assign(HOME, "", "id", (), "").args[2] == "id "


def test_the_runs_of_a_settle_can_be_read_again() -> None:
    sent = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in SAMPLES["settle"].command.args]
    assert list(calls.settled_runs(sent)) == [
        (b"a", b"ra", b"", b""),
        (b"b", b"rb", HEADER.encode(), b""),
        (b"c", b"rc", b"", b"dead"),
    ]


PARTITION_READERS = [name for name in SCRIPTS if declared(name, "ARGV")[0][:2] == ["epoch", "now"]]


@pytest.mark.parametrize("name", PARTITION_READERS)
@pytest.mark.parametrize("refusal", [MOVED, ABSENT])
def test_a_refusal_is_raised(name: str, refusal: bytes) -> None:
    with pytest.raises(TopologyMismatch, match="partition 3 on instance 'redis'"):
        getattr(calls, f"read_{name}")(HOME, [refusal])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_failure_is_raised(name: str) -> None:
    failure = PartitionUnavailable("redis", "connection lost")
    home = [HOME] if name in PARTITION_READERS else []
    with pytest.raises(PartitionUnavailable) as caught:
        getattr(calls, f"read_{name}")(*home, failure)
    assert caught.value is failure


def test_replies_are_read_into_names() -> None:
    claimed = calls.read_claim(HOME, [4, 9_000, b"5", b"", b"a", b"record"])
    assert (claimed.now_us, claimed.due, claimed.lapse, claimed.count) == (9_000, 5.0, None, 1)
    assert list(calls.pairs(claimed.entries)) == [(b"a", b"record")]
    look = calls.read_look([b"ok", 9_000, b"5", b"6", b"moved", b"", b"", b""])
    assert [(times.due, times.lapse, times.refusal) for times in look.partitions] == [
        (5.0, 6.0, b""),
        (None, None, MOVED),
        (None, None, b""),
    ]
    assert calls.read_handshake([b"ok", b"12", b"one:3 two:5 ", b"", b""]) == [
        (12, [("one", 3), ("two", 5)]),
        (None, []),
    ]
    assert calls.read_confirm(HOME, [b"ok", 9_000, 0]).confirmed is False
    assert calls.read_confirm(HOME, [4, 9_000, 1]).record == b""
    assert calls.read_confirm(HOME, [4, 9_000, 1, b"record"]).record == b"record"
    settled = calls.read_settle(HOME, [4, 9_000, b"oc", b"record"])
    assert list(settled.answers) == [calls.ACCEPTED, calls.CHANGED]
    assert settled.changed == [b"record"]


# Outside of protocol/.


def outside() -> Iterator[tuple[str, ast.AST]]:
    """Every node of every module that is not part of the protocol, with the place where it stands."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "protocol" not in path.relative_to(PACKAGE).parts:
            for node in ast.walk(ast.parse(path.read_text())):
                yield f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}", node


def indexes_a_reply(node: ast.AST) -> bool:
    """`reply[2]`, `entry.reply[3:]`, or every second entry of whatever it is."""
    if not isinstance(node, ast.Subscript):
        return False
    is_stride = isinstance(node.slice, ast.Slice) and isinstance(node.slice.step, ast.Constant)
    return is_stride or re.search(r"(^|\.)reply$", ast.unparse(node.value)) is not None


def calls_by_name(node: ast.AST) -> bool:
    """`script("claim")`, `partition.call("claim", …)`, `partition_command("claim", …)`, or a `Command` made by hand."""
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func).rpartition(".")[2]
    by_text = bool(node.args) and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    return called in ("Command", "partition_command", "script") or (called == "call" and by_text)


def test_nobody_else_indexes_a_reply() -> None:
    assert [place for place, node in outside() if indexes_a_reply(node)] == []


def test_nobody_else_calls_a_script_by_its_name() -> None:
    assert [place for place, node in outside() if calls_by_name(node)] == []


@pytest.mark.parametrize("code", ["reply[2]", "entry.reply[4:]", "entries[::2]", "rest[1::2]"])
def test_an_indexed_reply_is_found(code: str) -> None:
    assert any(indexes_a_reply(node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize("code", ['home.call("claim", 1)', 'script("look").sha', "commands.Command(1)"])
def test_a_call_by_name_is_found(code: str) -> None:
    assert any(calls_by_name(node) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize("code", ["replies[0]", "reply.answers[0]", "entries[2:4]", 'self.call(b"PING")'])
def test_what_is_something_else_is_not_found(code: str) -> None:
    assert not any(indexes_a_reply(node) or calls_by_name(node) for node in ast.walk(ast.parse(code)))
