"""The task that most examples share, and where they run: the URLs on the command line, or a private server."""

from __future__ import annotations

import sys
import tempfile

from interval_scheduler import Task


class RefreshUser(Task):
    """Refreshes a user, first as soon as possible and then every `interval` seconds."""

    def __init__(self, user_id: int, interval: float = 60) -> None:
        self.user_id = user_id
        self.interval = interval

    @property
    def id(self) -> str:
        return f"user:{self.user_id}"

    @property
    def reschedule_interval(self) -> float:
        return self.interval

    def serialize(self) -> dict[str, object]:
        return {"user_id": self.user_id, "kind": "refresh"}


def urls() -> list[str]:
    """Redis URLs from the command line, else a private server in a temporary folder."""
    return sys.argv[1:] or [f"embedded://{tempfile.mkdtemp(prefix='example-')}"]
