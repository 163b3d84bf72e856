"""The least rights that a Redis user needs, as an ACL rule: from what scripts call, and what connections send.

``python -m interval_scheduler.doctor.acl docs/acl.md`` writes the rule into that page. A test compares the two.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ..protocol import keys
from ..protocol.scripts import commands_used
from .rights import CONNECTION_COMMANDS, DOCTOR_RIGHTS

_RULE = re.compile(r"(<!-- acl-rule -->\s+)ACL SETUSER .*\n")
_NAMESPACE = "interval-scheduler"


def script_rights() -> list[str]:
    """The rights to the commands that scripts call: Redis asks for them as it does for commands of a connection."""
    return sorted(f"+{name.lower()}" for name in commands_used())


def acl_rule(namespace: str, user: str, password: str) -> str:
    """The command that makes a user with all rights that schedulers and the doctor need, and no others."""
    patterns = keys.patterns(namespace)
    rights = sorted([*script_rights(), *CONNECTION_COMMANDS, *DOCTOR_RIGHTS])
    parts = [
        *("ACL", "SETUSER", user, "reset", "on", f">{password}", "resetchannels"),
        *(f"~{pattern}" for pattern in patterns),
        *(f"&{pattern}" for pattern in patterns),
        "-@all",
        *rights,
    ]
    return " ".join(parts)


def with_rule(page: str) -> str:
    """A page of the documentation with the rule as it has to be between its marks."""
    rule = acl_rule(_NAMESPACE, "scheduler", "change-this-password")
    return _RULE.sub(lambda found: f"{found[1]}{rule}\n", page)


def main() -> None:
    """Writes the rule into the page that is named on the command line."""
    [path] = map(Path, sys.argv[1:])
    path.write_text(with_rule(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
