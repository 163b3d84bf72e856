"""A linter for the Lua scripts: honest headers, no globals, nothing unbounded, nothing that fakeredis lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from interval_scheduler.scripts import script

FOLDER = Path(__file__).parents[2] / "interval_scheduler" / "lua"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.lua"))
UNBOUNDED = r"'(KEYS|SCAN|SMEMBERS|HGETALL|HKEYS|HVALS|FLUSHALL|FLUSHDB|SORT|LRANGE)'|'Z\w*RANGE'[^\n]*0, -1"
MISSING = r"\b(cmsgpack|cjson|struct|bit)\.|redis\.sha1hex|redis\.setresp"


def problems(name: str, source: str, whole: str) -> list[str]:
    """What is wrong with a script; `source` is its file, `whole` the same with its includes."""
    header = re.match(r"(?:--.*\n)+", source)
    if header is None or not source.startswith(f"-- {name}: "):
        return ["the file must start with '-- <name>: <purpose>'"]
    found = [f"the header lacks '{part}'" for part in ("Returns: ", "Keeps: ") if f"-- {part}" not in header[0]]
    code = re.sub(r"--.*", "", whole)
    for kind in ("KEYS", "ARGV"):
        declared = re.findall(rf"-- {kind}\[(\d+)(\.\.\.)?\] +\S", header[0])
        numbers = [int(number) for number, _ in declared]
        if numbers != list(range(1, len(numbers) + 1)):
            found.append(f"{kind} must be declared in order from 1")
        tail = bool(declared) and declared[-1][1] == "..."
        used = {int(number) for number in re.findall(rf"{kind}\[(\d+)\]", code)}
        open_ended = bool(re.search(rf"#{kind}|{kind}\[\D", code))
        fixed = set(numbers[:-1] if tail else numbers)
        found += [f"{kind}[{number}] is used, not declared" for number in sorted(used - fixed) if not tail]
        found += [f"{kind}[{number}] is declared, not used" for number in sorted(fixed - used)]
        if tail != open_ended:
            found.append(f"{kind}: a tail '{kind}[n...]' and a loop over it belong together")
    if re.search(UNBOUNDED, code):
        found.append("an unbounded command")
    if re.search(MISSING, code):
        found.append("a library that not every server has")
    found += [f"{name!r} is assigned, and is no local" for name in sorted(global_assignments(code))]
    return found


def global_assignments(code: str) -> set[str]:
    """Names that are assigned without being local, a parameter or a loop variable anywhere above."""
    known: set[str] = set()
    wrong = set()
    for line in code.splitlines():
        for names in re.findall(r"local (?:function )?([\w, ]+)", line) + re.findall(r"for ([\w, ]+?) (?:in|=)", line):
            known |= {name.strip() for name in names.split(",")}
        for names in re.findall(r"function \w*\(([^)]*)\)", line):
            known |= {name.strip() for name in names.split(",")}
        statement = re.sub(r"^\s*(?:if .*? then|else|then|do)\s+", "", line).strip()
        match = re.match(r"([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)\s*=[^=]", statement)
        if match and not statement.startswith(("local", "for")):
            wrong |= {name.strip() for name in match[1].split(",")} - known
    return wrong


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) > 15


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_keeps_the_rules(name: str) -> None:
    assert problems(name, (FOLDER / f"{name}.lua").read_text(), _with_includes(name)) == []


def _with_includes(name: str) -> str:
    source = (FOLDER / f"{name}.lua").read_text()
    return re.sub(r"--! include (\w+)", lambda match: (FOLDER / "lib" / f"{match[1]}.lua").read_text(), source)


@pytest.mark.parametrize("path", sorted((FOLDER / "lib").glob("*.lua")), ids=lambda path: path.stem)
def test_included_part_says_what_it_is_and_is_used(path: Path) -> None:
    assert path.read_text().startswith(f"-- {path.stem}: ")
    assert any(f"--! include {path.stem}\n" in (FOLDER / f"{name}.lua").read_text() for name in SCRIPTS)


GOOD = "-- x: does\n--\n-- KEYS[1] key  HASH\n-- ARGV[1] a  text\n-- Returns: ok\n-- Keeps: all\n"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("return 1", "must start"),
        (GOOD.replace("-- Keeps: all\n", "") + "return {KEYS[1], ARGV[1]}", "lacks 'Keeps: '"),
        (GOOD + "return {KEYS[1], ARGV[1], ARGV[2]}", "ARGV[2] is used, not declared"),
        (GOOD + "return {KEYS[1]}", "ARGV[1] is declared, not used"),
        (GOOD + "return {KEYS[1], ARGV[1], #ARGV}", "tail"),
        (GOOD + "x = KEYS[1] .. ARGV[1]", "'x' is assigned"),
        (GOOD + "local y\nif y then z = 1 end return {KEYS[1], ARGV[1]}", "'z' is assigned"),
        (GOOD + "return redis.call('HGETALL', KEYS[1], ARGV[1])", "unbounded"),
        (GOOD + "return redis.call('ZRANGE', KEYS[1], 0, -1, ARGV[1])", "unbounded"),
        (GOOD + "return cjson.encode({KEYS[1], ARGV[1]})", "not every server"),
    ],
)
def test_the_linter_finds(source: str, problem: str) -> None:
    assert any(problem in found for found in problems("x", source, source))


def test_the_linter_accepts_what_is_right() -> None:
    source = GOOD + "local x = KEYS[1]\nx = x .. ARGV[1]\nreturn x"
    assert problems("x", source, source) == []


def test_what_is_sent_has_no_comments_and_a_matching_sha() -> None:
    import hashlib

    for name in SCRIPTS:
        loaded = script(name)
        assert not re.search(r"^\s*--", loaded.source, re.MULTILINE)
        assert hashlib.sha1(loaded.source.encode()).hexdigest() == loaded.sha
