"""The Lua scripts: one file an operation, shared parts by ``--! include``."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

_INCLUDE = re.compile(r"^--! include (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False)
class Script:
    """A script with its includes resolved; `sha` is what EVALSHA takes."""

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script of ``lua/<name>.lua``."""
    folder = resources.files(__package__) / "lua"

    def include(match: re.Match[str]) -> str:
        return (folder / "lib" / f"{match[1]}.lua").read_text(encoding="utf-8")

    source = _INCLUDE.sub(include, (folder / f"{name}.lua").read_text(encoding="utf-8"))
    # The server keeps and compiles what it gets: comments are for the files.
    source = _COMMENT.sub("", source)
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())
