"""A linter for the Lua scripts: headers that tell the truth, bounded commands, no globals, nothing fakeredis lacks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interval_scheduler.protocol.scripts import script

LUA = Path(__file__).parents[2] / "interval_scheduler" / "lua"

TYPES = {"STRING", "HASH", "ZSET", "SET", "LIST", "STREAM"}
# What a script may use without declaring it. Left out: what fakeredis lacks, and what is not the same on every server.
BUILTINS = {
    *("KEYS", "ARGV", "redis", "string", "table", "math", "assert", "error", "ipairs", "next", "pairs", "pcall"),
    *("select", "tonumber", "tostring", "type", "unpack"),
}
LACKING = {"cmsgpack", "cjson", "struct", "bit"}  # and of redis:
LACKING_MEMBERS = {"sha1hex", "setresp"}
KEYWORDS = {
    *("and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not"),
    *("or", "repeat", "return", "then", "true", "until", "while"),
}
FORBIDDEN = {"KEYS", "SCAN", "SSCAN", "SMEMBERS", "HKEYS", "HVALS", "FLUSHALL", "FLUSHDB", "SORT"}
RANGES = {"ZRANGE", "ZREVRANGE", "LRANGE"}
NEED_COUNT = {"HSCAN", "ZSCAN"}
NEED_LIMIT = {"ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZRANGEBYLEX", "ZREVRANGEBYLEX"}
GROWING = ("tasks", "dead", "dead-records", "retries", "leases", "index", "bucket:")

_FIRST = re.compile(r"-- ([\w-]+): \S")
_INCLUDE = re.compile(r"--! include (\w+)")
_ENTRY = re.compile(r"-- (KEYS|ARGV)\[(\d+)(\.\.\.)?\] (.*)")
_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*)|(?P<name>[A-Za-z_]\w*)|(?P<number>0[xX][0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)
    |(?P<string>'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")|(?P<symbol>\.\.\.|\.\.|==|~=|<=|>=|[-+*/%^\#<>=(){}\[\];:,.])""",
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Header:
    """What a script says of itself. `tails` holds the index from which on an array has any length."""

    declared: dict[str, dict[int, str]] = field(default_factory=lambda: {"KEYS": {}, "ARGV": {}})
    tails: dict[str, int] = field(default_factory=dict)
    types: dict[int, str] = field(default_factory=dict)


def parse_header(name: str, source: str, faults: list[str]) -> Header:
    """Reads the comment a script starts with."""
    lines = source.splitlines()
    end = next((at for at, line in enumerate(lines) if not line.startswith("--") or line.startswith("--!")), len(lines))
    lines = lines[:end]
    header = Header()
    first = _FIRST.match(lines[0]) if lines else None
    if first is None or first[1] != name:
        faults.append(f"line 1 is not '-- {name}: <purpose>'")
    if len(lines) < 2 or lines[1] != "--":
        faults.append("line 2 is not '--'")
    order = []
    for line in lines[2:]:
        entry = _ENTRY.fullmatch(line)
        if entry is not None:
            order.append(entry[1])
            declare(header, entry, faults)
        elif line.startswith(("-- KEYS", "-- ARGV")):
            faults.append(f"not an entry: {line}")
        elif re.match(r"-- (Returns|Keeps): \S", line):
            order.append(line[3:].split(":")[0])
        elif not line.startswith("--   ") or not order:
            faults.append(f"neither an entry nor a continuation: {line}")
    counts = {needed: order.count(needed) for needed in ("Returns", "Keeps")}
    faults += [f"{count} times '{needed}:' in the header" for needed, count in counts.items() if count != 1]
    if order != sorted(order, key=["KEYS", "ARGV", "Returns", "Keeps"].index):
        faults.append("the order is KEYS, ARGV, Returns, Keeps")
    for array, entries in header.declared.items():
        if list(entries) != list(range(1, len(entries) + 1)):
            faults.append(f"{array} is not declared 1, 2, 3…: {list(entries)}")
    return header


def declare(header: Header, entry: re.Match[str], faults: list[str]) -> None:
    array, index, words = entry[1], int(entry[2]), re.split(r" {2,}", entry[4].strip())
    if index in header.declared[array]:
        faults.append(f"{array}[{index}] is declared twice")
    if array in header.tails:
        faults.append(f"{array}[{header.tails[array]}...] is not the last one")
    header.declared[array][index] = words[0]
    if entry[3]:
        header.tails[array] = index
    if array == "KEYS":
        if len(words) < 2 or words[1] not in TYPES:
            faults.append(
                f"KEYS[{index}] has no type: '-- KEYS[{index}] <name>  <TYPE>  <meaning>', two blanks between"
            )
        else:
            header.types[index] = words[1]
    elif len(words) < 2:
        faults.append(f"ARGV[{index}] has no unit: '-- ARGV[{index}] <name>  <unit or form>  <meaning>'")


def resolve(source: str, libs: Mapping[str, str], faults: list[str]) -> str:
    """Puts the included files in; each is checked only as a part of the scripts that use it."""
    lines = []
    for line in source.splitlines():
        include = _INCLUDE.fullmatch(line)
        if include is None:
            if "--!" in line:
                # It would be taken for a comment, and the include would be missing without a word.
                faults.append(f"not '--! include <name>': {line}")
            lines.append(line)
        elif include[1] not in libs:
            faults.append(f"there is no lib/{include[1]}.lua")
        else:
            lines.append(libs[include[1]])
    return "\n".join(lines)


@dataclass(frozen=True)
class Token:
    kind: str
    text: str

    @property
    def value(self) -> str:
        """A string without its quotes."""
        return self.text[1:-1] if self.kind == "string" else self.text


def tokens_of(source: str, faults: list[str]) -> list[Token]:
    tokens, at = [], 0
    if re.search(r"--\[=*\[", source):
        faults.append("block comment: only whole lines of comment are stripped before a script is sent")
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            faults.append(f"not Lua: {source[at : at + 20]!r}")
            break
        at = match.end()
        if match.lastgroup not in (None, "space"):
            tokens.append(Token(str(match.lastgroup), match[0]))
    return tokens


def has(tokens: Sequence[Token], at: int, *texts: str) -> bool:
    return at >= 0 and [token.text for token in tokens[at : at + len(texts)]] == list(texts)


def check_arrays(header: Header, tokens: Sequence[Token], faults: list[str]) -> None:
    """What the header declares is used, and nothing else."""
    for array, declared in header.declared.items():
        used: set[int] = set()
        whole = False
        for at, token in enumerate(tokens):
            if token.text != array or has(tokens, at - 1, "."):
                continue
            if has(tokens, at + 1, "[") and tokens[at + 2].kind == "number" and has(tokens, at + 3, "]"):
                used.add(int(tokens[at + 2].text))
            else:
                whole = True
        tail = header.tails.get(array)
        if whole and tail is None:
            faults.append(f"{array} is used by its length or a computed index, but has no {array}[n...]")
        if tail is not None and not whole:
            faults.append(f"{array}[{tail}...] is used neither by #{array} nor by a computed index")
        undeclared = [index for index in sorted(used - set(declared)) if tail is None or index < tail]
        unused = [index for index in declared if index != tail and index not in used]
        faults += [f"{array}[{index}] is not declared" for index in undeclared]
        faults += [f"{array}[{index}] is declared and not used" for index in unused]


def arguments(tokens: Sequence[Token], start: int) -> list[list[Token]]:
    """The arguments of a call whose opening bracket is just before `start`."""
    found: list[list[Token]] = [[]]
    depth = 0
    for token in tokens[start:]:
        if token.text in ")]}":
            depth -= 1
            if depth < 0:
                break
        elif token.text in "([{":
            depth += 1
        if token.text == "," and depth == 0:
            found.append([])
        else:
            found[-1].append(token)
    return found


def key_of(argument: Sequence[Token], header: Header) -> tuple[str, str]:
    """The name of a key, as far as it is written down, and its type where the header tells."""
    if has(argument, 0, "KEYS", "[") and len(argument) == 4 and argument[2].kind == "number":
        index = int(argument[2].text)
        return header.declared["KEYS"].get(index, ""), header.types.get(index, "")
    return next((token.value for token in argument if token.kind == "string"), ""), ""


def plain(argument: Sequence[Token]) -> str:
    return "".join(token.value for token in argument)


def check_calls(header: Header, tokens: Sequence[Token], faults: list[str]) -> None:
    """Every command is written out, and its cost does not grow with the number of tasks."""
    for at, token in enumerate(tokens):
        if token.text != "redis" or has(tokens, at - 1, "."):
            continue
        if not has(tokens, at + 1, ".") or at + 2 >= len(tokens):
            faults.append("redis under another name, or by index, escapes this check")
            continue
        member = tokens[at + 2].text
        if member in LACKING_MEMBERS:
            faults.append(f"redis.{member}: fakeredis lacks it")
        if member not in ("call", "pcall"):
            continue
        given = arguments(tokens, at + 4) if has(tokens, at + 3, "(") else [[]]
        if len(given[0]) != 1 or given[0][0].kind != "string":
            faults.append(f"redis.{member} is not called with a command written out")
        else:
            faults += cost(given[0][0].value.upper(), given[1:], header)


def cost(command: str, given: Sequence[Sequence[Token]], header: Header) -> Iterator[str]:
    """What makes a command unbounded."""
    texts = [plain(argument).upper() for argument in given]
    by_score = command == "ZRANGE" and bool({"BYSCORE", "BYLEX"} & set(texts))
    if command in FORBIDDEN:
        yield f"{command} is unbounded"
    elif command == "HGETALL" and key_of(given[0], header)[0] != "meta":
        yield f"HGETALL of {key_of(given[0], header)[0] or 'an unknown key'}: only meta is known to be small"
    elif (command in NEED_LIMIT or by_score) and "LIMIT" not in texts:
        yield f"{command} without LIMIT is unbounded"
    elif command in NEED_COUNT and "COUNT" not in texts:
        yield f"{command} without COUNT takes what the server likes"
    elif command in RANGES and texts[1:3] == ["0", "-1"]:
        yield f"{command} 0 -1 is unbounded"
    elif command == "DEL":
        for argument in given:
            key, kind = key_of(argument, header)
            if not key or kind not in ("", "STRING") or key.startswith(GROWING):
                yield f"DEL of {key or 'an unknown key'}, which may hold any number of entries"


class Scopes:
    """Which names are known where: one set per open block."""

    def __init__(self) -> None:
        self.names: list[set[str]] = [set()]
        self.brackets: list[str] = []  # open blocks and brackets, innermost last
        self.loop: list[set[str]] = []  # names between a `for` and its `do`

    def known(self, name: str) -> bool:
        return name in BUILTINS or any(name in names for names in (*self.names, *self.loop))

    def open(self, what: str, names: set[str] | None = None) -> None:
        self.brackets.append(what)
        self.names.append(names or set())

    def close(self) -> set[str]:
        if self.brackets:
            self.brackets.pop()
        return self.names.pop() if len(self.names) > 1 else set()


def names_after(tokens: Sequence[Token], at: int) -> set[str]:
    """The names of a list such as `a, b, c` that starts at `at`; also of parameters."""
    names = set()
    while at < len(tokens) and (tokens[at].kind == "name" or tokens[at].text == "..."):
        names.add(tokens[at].text)
        if not has(tokens, at + 1, ","):
            break
        at += 2
    return names


def check_names(tokens: Sequence[Token], faults: list[str]) -> None:
    """Every name is declared before its use: a global, written or read, is an error or a leak between scripts."""
    scopes = Scopes()
    unknown: set[str] = set()
    for at, token in enumerate(tokens):
        text = token.text
        if token.kind == "string":
            continue
        if text == "local":
            # A local function is known in itself.
            scopes.names[-1] |= names_after(tokens, at + 2 if has(tokens, at + 1, "function") else at + 1)
        elif text == "for":
            scopes.loop.append(names_after(tokens, at + 1))
        elif text == "do":
            # A `while` has no names of its own.
            scopes.open("do", scopes.loop.pop() if scopes.loop else None)
        elif text == "function":
            bracket = next((later for later in range(at, len(tokens)) if tokens[later].text == "("), at)
            scopes.open("function", names_after(tokens, bracket + 1))
        elif text in ("if", "repeat"):
            scopes.open(text)
        elif text in ("elseif", "else"):
            scopes.names[-1].clear()
        elif text == "end":
            scopes.close()
        elif text == "until":
            # The condition still sees the names of its block.
            inner = scopes.close()
            scopes.names[-1] |= inner
        elif text in ("{", "(", "["):
            scopes.brackets.append(text)
        elif text in ("}", ")", "]"):
            if scopes.brackets:
                scopes.brackets.pop()
        elif token.kind == "name" and text not in KEYWORDS | unknown and not is_field(tokens, at, scopes):
            known = scopes.known(text)
            unknown |= set() if known else {text}
            faults += [] if known else [f"{text}: fakeredis lacks it" if text in LACKING else f"{text} is a global"]


def is_field(tokens: Sequence[Token], at: int, scopes: Scopes) -> bool:
    """`a.name`, `a:name`, or the key in `{name = …}`."""
    if at and tokens[at - 1].text in (".", ":"):
        return True
    in_table = bool(scopes.brackets) and scopes.brackets[-1] == "{"
    return in_table and has(tokens, at + 1, "=") and tokens[at - 1].text in ("{", ",", ";")


def lint(name: str, source: str, libs: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with a script."""
    faults: list[str] = []
    header = parse_header(name, source, faults)
    tokens = tokens_of(resolve(source, libs or {}, faults), faults)
    check_arrays(header, tokens, faults)
    check_calls(header, tokens, faults)
    check_names(tokens, faults)
    return faults


def lint_lib(name: str, source: str) -> list[str]:
    """What is wrong with an include file by itself; its code is checked in the scripts that include it."""
    faults: list[str] = []
    first = _FIRST.match(source)
    if first is None or first[1] != name:
        faults.append(f"line 1 is not '-- {name}: <purpose>'")
    if "--!" in source:
        faults.append("an include file includes nothing: it is put in as it is")
    return faults


# The scripts as they are.


def read(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.lua"))}


SCRIPTS, LIBS = read(LUA), read(LUA / "lib")


def test_the_folder_is_there() -> None:
    assert LUA.is_dir()


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(name: str) -> None:
    assert lint(name, SCRIPTS[name], LIBS) == []


@pytest.mark.parametrize("name", LIBS)
def test_include_file(name: str) -> None:
    assert lint_lib(name, LIBS[name]) == []
    users = [source for source in SCRIPTS.values() if f"--! include {name}\n" in source]
    assert users, "no script includes it, so its code goes unchecked"


def test_what_is_sent_has_no_comments_and_a_matching_sha() -> None:
    for name in SCRIPTS:
        loaded = script(name)
        assert not re.search(r"^\s*--", loaded.source, re.MULTILINE)
        assert hashlib.sha1(loaded.source.encode()).hexdigest() == loaded.sha


# The linter itself, on good and bad snippets.

GOOD = """\
-- good: shows all there is to like.
--
-- KEYS[1] meta  HASH  partition
-- KEYS[2] lock  STRING  holder
-- ARGV[1] epoch  integer  known to the caller
-- ARGV[2...] ids  text  of tasks
-- Returns: 'ok'
-- Keeps: everything, and says so
--        on two lines.
--! include base
local seen, total = {key = 1, ['other'] = 2; third = 3}, 0
local function add(a, b) return a + b end
local object = {}
function object.method(x) return x end
seen.key, seen[ARGV[1]] = 5, #ARGV
for i = 2, #ARGV do seen[ARGV[i]] = redis.call('HGET', prefix .. 'tasks', ARGV[i]) end -- global = 1
for _, pair in ipairs({1, 2}) do total = add(total, object.method(pair)) end
if redis.call('EXISTS', KEYS[2]) == 1 then total = 1 elseif total > 0 then total = 2 end
repeat local stop = true until stop
while total > 5 do total = total - 1 end
redis.call('HGETALL', KEYS[1])
redis.call('HGETALL', prefix .. 'meta')
redis.call('DEL', KEYS[2])
redis.call('ZRANGE', prefix .. 'leases', 0, 0, 'WITHSCORES')
redis.call('ZRANGEBYSCORE', prefix .. 'leases', '-inf', total, 'LIMIT', 0, 10)
return {'ok', (string.gsub('x = 1', "it's", ''))}
"""
BASE = {"base": "-- base: what all begin with.\nlocal prefix = string.sub(KEYS[1], 1, -5)\n"}


def changed(old: str, new: str) -> list[str]:
    assert GOOD.count(old) == 1, old
    return lint("good", GOOD.replace(old, new), BASE)


def test_a_good_script_passes() -> None:
    assert lint("good", GOOD, BASE) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("-- good: shows", "-- fine: shows", "line 1 is not '-- good: <purpose>'"),
        ("like.\n--\n", "like.\n", "line 2 is not '--'"),
        ("-- Returns: 'ok'\n", "", "0 times 'Returns:' in the header"),
        ("-- Returns: 'ok'\n", "-- Returns:\n", "neither an entry nor a continuation: -- Returns:"),
        ("-- Keeps: every", "-- every", "0 times 'Keeps:' in the header"),
        ("-- KEYS[1] meta  HASH  partition\n", "", "KEYS is not declared 1, 2, 3…: [2]"),
        ("-- KEYS[1] meta", "-- KEYS[a] meta", "not an entry: -- KEYS[a] meta  HASH  partition"),
        ("lock  STRING  holder", "lock  TEXT  holder", "KEYS[2] has no type"),
        ("meta  HASH  partition", "meta HASH partition", "KEYS[1] has no type"),
        ("-- ARGV[1] epoch  integer  known to the caller", "-- ARGV[1] epoch", "ARGV[1] has no unit"),
        ("-- ARGV[2...] ids  text  of tasks", "-- ARGV[1] ids  text", "ARGV[1] is declared twice"),
        ("-- ARGV[1] epoch", "-- ARGV[1...] epoch", "ARGV[1...] is not the last one"),
        ("-- KEYS[2] lock", "-- ARGV[3] x  text\n-- KEYS[2] lock", "the order is KEYS, ARGV, Returns, Keeps"),
    ],
)
def test_bad_headers_are_found(old: str, new: str, fault: str) -> None:
    assert any(found.startswith(fault) for found in changed(old, new)), changed(old, new)


@pytest.mark.parametrize("source", ["", "return 1\n", "-- good: no more\n"])
def test_missing_headers_are_found(source: str) -> None:
    assert "0 times 'Keeps:' in the header" in lint("good", source)


def test_undeclared_and_unused_arguments_are_found() -> None:
    assert changed("return {'ok',", "local x = KEYS[3]\nreturn {'ok',") == ["KEYS[3] is not declared"]
    assert changed("local function add", "local x = KEYS[#seen]\nlocal function add") == [
        "KEYS is used by its length or a computed index, but has no KEYS[n...]"
    ]
    assert changed("seen[ARGV[1]]", "seen[1]") == ["ARGV[1] is declared and not used"]
    assert changed("-- ARGV[2...] ids  text  of tasks", "-- ARGV[2] id  text") == [
        "ARGV is used by its length or a computed index, but has no ARGV[n...]",
        "ARGV[2] is declared and not used",
    ]
    header = "-- x: y.\n--\n-- ARGV[1] a  text\n-- ARGV[2...] b  text\n-- Returns: 1\n-- Keeps: all\n"
    assert lint("x", header + "return ARGV[1] .. ARGV[2] .. ARGV[7]") == [
        "ARGV[2...] is used neither by #ARGV nor by a computed index"
    ]
    # What only a comment or a string names is not used.
    assert "ARGV[1] is declared and not used" in lint("x", header + "-- ARGV[1]\nreturn 'ARGV[1]' .. #ARGV")


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("redis.call('KEYS', '*')", "KEYS is unbounded"),
        ("redis.pcall('scan', 0)", "SCAN is unbounded"),
        ('redis . call ( "SMEMBERS", KEYS[1])', "SMEMBERS is unbounded"),
        ("redis.call('HKEYS', KEYS[1])", "HKEYS is unbounded"),
        ("redis.call('HVALS', KEYS[1])", "HVALS is unbounded"),
        ("redis.call('FLUSHALL')", "FLUSHALL is unbounded"),
        ("redis.call('FLUSHDB')", "FLUSHDB is unbounded"),
        ("redis.call('HGETALL', prefix .. 'tasks')", "HGETALL of tasks: only meta is known to be small"),
        ("redis.call('HGETALL', KEYS[2])", "HGETALL of lock: only meta is known to be small"),
        ("redis.call('HGETALL', seen.key)", "HGETALL of an unknown key: only meta is known to be small"),
        ("redis.call('ZRANGE', prefix .. 'index',\n  0,-1)", "ZRANGE 0 -1 is unbounded"),
        ("redis.call('ZRANGE', add(1, 2), '0', '-1')", "ZRANGE 0 -1 is unbounded"),
        ("redis.call('ZREVRANGE', prefix .. 'index', 0, -1)", "ZREVRANGE 0 -1 is unbounded"),
        ("redis.call('ZRANGEBYSCORE', prefix .. 'index', 0, 9)", "ZRANGEBYSCORE without LIMIT is unbounded"),
        ("redis.call('ZRANGE', KEYS[1], 0, 9, 'BYSCORE')", "ZRANGE without LIMIT is unbounded"),
        ("redis.call('DEL', KEYS[2], prefix .. 'tasks')", "DEL of tasks, which may hold any number of entries"),
        ("redis.call('DEL', KEYS[1])", "DEL of meta, which may hold any number of entries"),
        ("redis.call('DEL', seen.key)", "DEL of an unknown key, which may hold any number of entries"),
        ("redis.call(seen.key, 1)", "redis.call is not called with a command written out"),
        ("redis.call('K' .. 'EYS', '*')", "redis.call is not called with a command written out"),
        ("local call = redis.call", "redis.call is not called with a command written out"),
        ("redis['call']('KEYS', '*')", "redis under another name, or by index, escapes this check"),
        ("local x = redis.sha1hex('')", "redis.sha1hex: fakeredis lacks it"),
        ("local x = cmsgpack.pack({})", "cmsgpack: fakeredis lacks it"),
        ("local x = cjson", "cjson: fakeredis lacks it"),
        ("local x = struct.pack('>I', 1)", "struct: fakeredis lacks it"),
        ("local x = bit.band(1, 2)", "bit: fakeredis lacks it"),
        ("count = 1", "count is a global"),
        ("local x = 1 count = x", "count is a global"),
        ("seen.key, count = 1, 2", "count is a global"),
        ("function helper() end", "helper is a global"),
        ("if seen.key then local y = 1 end y = 2", "y is a global"),
        ("if seen.key then local y = 1 else y = 2 end", "y is a global"),
        ("for i = 1, 2 do end i = 3", "i is a global"),
        ("a = 3", "a is a global"),  # a parameter of add
        ("local t = {name = name}", "name is a global"),
        ("local t = {function() leaked = 1 end}", "leaked is a global"),
        ("local x = undefined_helper(1)", "undefined_helper is a global"),
        ("local x = loadstring('')", "loadstring is a global"),
        ("--! include nothing", "there is no lib/nothing.lua"),
        ("--!include base", "not '--! include <name>': --!include base"),
        ("--! include base ", "not '--! include <name>': --! include base "),
        ("local x = 'never closed", "not Lua: \"'never closed"),
        ("--[[ two\nlines ]]", "block comment: only whole lines of comment are stripped before a script is sent"),
    ],
)
def test_bad_code_is_found(code: str, fault: str) -> None:
    found = changed("return {'ok',", f"{code}\nreturn {{'ok',")
    assert any(each.startswith(fault) for each in found), found


def test_faults_of_included_code_are_found() -> None:
    libs = {"base": BASE["base"] + "redis.call('FLUSHALL')\nleaked = KEYS[9]\n"}
    assert lint("good", GOOD, libs) == ["KEYS[9] is not declared", "FLUSHALL is unbounded", "leaked is a global"]


def test_bad_include_files_are_found() -> None:
    assert lint_lib("base", BASE["base"]) == []
    assert lint_lib("base", "local prefix = 1\n") == ["line 1 is not '-- base: <purpose>'"]
    assert lint_lib("other", BASE["base"]) == ["line 1 is not '-- other: <purpose>'"]
    assert len(lint_lib("base", BASE["base"] + "--! include record\n")) == 1
