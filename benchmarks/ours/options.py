"""The options of the scheduler in the measurements: the defaults, but for where the servers are."""

from __future__ import annotations

from typing import Any

from ..adapter import SETTINGS


def options() -> dict[str, Any]:
    """Options for the servers of this measurement; what else it asks for is set only if it does."""
    instances = [{"url": url, "name": f"instance-{number}"} for number, url in enumerate(SETTINGS.servers)]
    chosen: dict[str, Any] = {"storage": {"instances": instances}}
    if SETTINGS.concurrency:
        chosen["concurrency"] = SETTINGS.concurrency
    if SETTINGS.recovery_seconds:
        chosen["lease_seconds"] = SETTINGS.recovery_seconds
    return chosen
