"""The Lua scripts as they are sent: one file per script, with shared parts put in by ``--! include``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_INCLUDE = r"(?m)^--! include (\w+)$"
_COMMENT = r"(?m)^\s*--.*\n"
_COMMAND = r"\bredis\.p?call\('(\w+)'"


@dataclass(slots=True, eq=False)
class Script:
    """A script with its includes put in; `sha` is what EVALSHA takes."""

    name: str
    source: str
    sha: str


def _read(name: str) -> str:
    # By way of the loader, so that it may be a zip file. importlib.resources takes ten milliseconds to import.
    loader: Any = __spec__.loader
    data: bytes = loader.get_data(
        os.path.join(os.path.dirname(os.path.dirname(__file__)), "lua", *f"{name}.lua".split("/"))
    )
    return data.decode()


@cache
def script(name: str) -> Script:
    """The script of ``lua/<name>.lua``."""
    from hashlib import sha1  # takes two milliseconds, which those who only import need not wait for

    source = re.sub(_INCLUDE, lambda match: _read(f"lib/{match[1]}"), _read(name))
    # The server keeps and compiles what it gets: comments are for the files.
    source = re.sub(_COMMENT, "", source)
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())


def all_scripts() -> Sequence[Script]:
    """Every script, by name."""
    from importlib import resources

    files = (resources.files(__package__.partition(".")[0]) / "lua").iterdir()
    return [script(file.name.removesuffix(".lua")) for file in sorted(files, key=str) if file.name.endswith(".lua")]


def commands_used() -> frozenset[str]:
    """The Redis commands that any of the scripts calls."""
    return frozenset(name for each in all_scripts() for name in re.findall(_COMMAND, each.source))
