"""What replies mean for the connection: a script is missing, or the server is a replica now, or is loading its data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..protocol.commands import ABSENT, Command, Reply, status
from .endpoint import LossDetector
from .failures import command_refused
from .resp import pack, pack_load


def has_errors(replies: Iterable[Any]) -> bool:
    """Whether the server answered any of the commands with an error. If not, nothing else need be asked."""
    for reply in replies:  # noqa: SIM110 - `any` over a generator takes three times as long for the usual one
        if isinstance(reply, Exception):
            return True
    return False


def note_writes(
    loss_detector: LossDetector | None, run_id: str, commands: Sequence[Command], replies: Sequence[Any]
) -> None:
    """Tells the loss detector how often these partitions have been written to, by which start of their server."""
    if loss_detector is None or not run_id:
        return
    for command, reply in zip(commands, replies, strict=True):
        if type(reply) is not list:
            continue
        begins = status(reply)
        if type(begins) is int:
            loss_detector.learn_writes(command.keys[0], run_id, begins)
        elif begins == ABSENT:
            loss_detector.learn_absence(command.keys[0])


def missing_scripts(commands: Sequence[Command], replies: Sequence[Any]) -> tuple[list[int], int, bytes]:
    """What the server did not carry out because it lacks the script: the positions, the number of scripts, and bytes.

    The bytes load these scripts, each once, and then call again. Mostly there are none.
    """
    positions = [position for position, reply in enumerate(replies) if is_missing_script(reply)]
    scripts = list(dict.fromkeys(commands[position].script for position in positions))
    packed = [*map(pack_load, scripts), *(pack(commands[position]) for position in positions)]
    return positions, len(scripts), b"".join(packed)


def is_missing_script(reply: Any) -> bool:
    """Whether the server lacks the script: it was restarted, or somebody flushed its scripts."""
    from redis.exceptions import NoScriptError

    return isinstance(reply, NoScriptError)


def raise_connection_error(replies: Iterable[Any]) -> None:
    """Raises a reply that means the end of a connection: the server is loading its data, or wants a login again."""
    from redis.exceptions import ConnectionError as RedisConnectionError

    for reply in replies:
        if isinstance(reply, RedisConnectionError):
            raise reply


def come_from_replica(replies: Iterable[Any]) -> bool:
    """Whether the server has become a replica. The address may lead to another server next time."""
    from redis.exceptions import ReadOnlyError, ResponseError

    # Before 7.0 the error of a command in a script stands inside that of the script.
    return any(
        isinstance(reply, ReadOnlyError) or (isinstance(reply, ResponseError) and " -READONLY " in str(reply))
        for reply in replies
    )


def with_our_errors(instance: str, replies: Iterable[Any]) -> list[Reply]:
    """The replies, with ours in the place of redis-py's errors."""
    return [command_refused(instance, reply) if isinstance(reply, Exception) else reply for reply in replies]
