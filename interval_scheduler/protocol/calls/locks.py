"""The call for locks."""

from __future__ import annotations

from typing import Literal

from .. import keys
from ..commands import Command, Reply, require_available
from ..scripts import script

Action = Literal["take", "extend", "release"]


def lock(instance: str, namespace: str, name: str, action: Action, holder: str, ttl_ms: int) -> Command:
    """Takes, extends or releases a lock. Taking again by the same holder is one taking."""
    names = (keys.lock(namespace, name), keys.lock_sequence(namespace))
    return Command(instance, script("lock"), names, (action, holder, str(ttl_ms)), repeatable=action != "release")


def read_lock(reply: Reply) -> int:
    """The fencing token of a lock that was taken, 1 for one extended or released, 0 where somebody else holds it."""
    _, token = require_available(reply)
    return int(token)
