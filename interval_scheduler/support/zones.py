"""Which time-zone data this machine has. Governments change their clocks several times a year: data has a version."""

from __future__ import annotations

import importlib
import re
from functools import lru_cache
from pathlib import Path

from .forks import held_back

NONE = "none"
"""The version where there is no data at all."""
INSTALL = "install it: `pip install tzdata`, or the package tzdata of the system"
UPDATE = (
    "update the package tzdata of that machine's system, which Python reads before what `pip install -U tzdata` brings"
)
_FIRST_LINE = re.compile(r"# version (\d{4}[a-z]+)")
_VERSION = re.compile(r"\d{4}[a-z]+")


@lru_cache(maxsize=1)
def zone_data() -> str:
    """The version of what `zoneinfo` reads, such as "2025b": `NONE` without data, "" where it does not tell."""
    import zoneinfo  # whoever only imports the schedulers need not load it

    for folder in zoneinfo.TZPATH:
        version = version_in(Path(folder))
        if version is not None:
            return version
    try:
        with held_back:
            package = importlib.import_module("tzdata")
    except ImportError:
        return NONE
    version = str(getattr(package, "IANA_VERSION", ""))
    return version if _VERSION.fullmatch(version) else ""


def version_in(folder: Path) -> str | None:
    """The version of the data in a folder: "" where it does not tell, None where there is no data."""
    if not (folder / "Europe" / "London").is_file():
        return None
    for name, pattern in (("tzdata.zi", _FIRST_LINE), ("+VERSION", _VERSION)):
        try:
            with (folder / name).open(encoding="ascii", errors="replace") as file:
                found = pattern.match(file.readline(100))
        except OSError:
            continue  # some systems have the one, some the other
        if found is not None:
            return found[found.re.groups]
    return ""
