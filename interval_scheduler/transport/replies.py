"""What both transports do alike: packing commands, and telling apart the ways in which an instance can fail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import hiredis

from ..model.errors import PartitionUnavailable
from ..protocol.commands import ABSENT, Command, Reply, status
from ..protocol.scripts import Script

if TYPE_CHECKING:
    from .endpoint import Endpoint, LossDetector

_RUN_ID = re.compile(rb"^run_id:(\S+)", re.MULTILINE)


class Trust:
    """Whether connections to an instance are believed to work, shared by those of one transport.

    A network that swallows everything in silence mostly does so for all of them. Each would take the whole deadline of
    an answer to notice: once one is lost, those that were opened before are opened anew before they are used again.
    """

    def __init__(self) -> None:
        self.losses = 0
        """Connections must have been opened at this count; written down with each as it is opened."""

    def lose(self, opened_at: int) -> None:
        """A connection that was opened at a count was lost. Newer ones are not doubted for the loss of an older one."""
        if opened_at == self.losses:
            self.losses += 1


def pack(command: Command) -> bytes:
    """The bytes of an EVALSHA."""
    call: Any = ("EVALSHA", command.script.sha, len(command.keys), *command.keys, *command.args)
    packed: bytes = hiredis.pack_command(call)
    return packed


def pack_load(script: Script) -> bytes:
    """The bytes of a SCRIPT LOAD."""
    call: Any = ("SCRIPT", "LOAD", script.source)
    packed: bytes = hiredis.pack_command(call)
    return packed


NOTHING = object()
"""What a `reader` gives where no whole reply has come yet."""


def reader() -> Any:
    """Takes replies apart; errors of a server are given, not raised, as the exceptions that redis-py has for them."""
    from redis._parsers import BaseParser

    return hiredis.Reader(replyError=BaseParser.parse_error, notEnoughData=NOTHING)


def has_errors(replies: Iterable[Any]) -> bool:
    """Whether the server answered any of the commands with an error; where not, nothing else need be asked."""
    for reply in replies:  # noqa: SIM110 - `any` over a generator takes three times as long for the usual one
        if isinstance(reply, Exception):
            return True
    return False


INFO = bytes(hiredis.pack_command(("INFO",)))
"""The bytes of the command that tells how a server is set up, and its run id.

It costs a server 10 to 14 µs, ``INFO server`` 2 to 3 µs (Redis 6.2 and 7.0, 500 clients): both less than the rest of
connecting. So one command serves both questions, and neither is asked only now and then.
"""


def run_id(info: object) -> str:
    """The run id in the reply to ``INFO``; "" where the server tells none."""
    found = _RUN_ID.search(info) if isinstance(info, bytes) else None
    return found[1].decode() if found else ""


def met(endpoint: Endpoint, info: object) -> tuple[str, Command | None]:
    """Takes the reply to `INFO` on a new connection: the run it leads to, and what must be sent on it first, if any.

    Raises:
        UnsuitableServer: where the connection must not be used.
    """
    if endpoint.inspection is not None:
        endpoint.inspection.connected(endpoint.name, info)
    run = run_id(info)
    return run, None if endpoint.loss_detector is None else endpoint.loss_detector.connected(endpoint.name, run)


def learn(loss_detector: LossDetector | None, run: str, commands: Sequence[Command], replies: Sequence[Any]) -> None:
    """Notes how far the partitions of these replies have been written, by which run of their server."""
    if loss_detector is None or not run:
        return
    for command, reply in zip(commands, replies, strict=True):
        if type(reply) is not list:
            continue
        told = status(reply)
        if type(told) is int:
            loss_detector.learn(command.keys[0], run, told)
        elif told == ABSENT:
            loss_detector.gone(command.keys[0])


def lost(instance: str, error: BaseException, *, sent: bool) -> PartitionUnavailable:
    """The error for a connection that failed, before or after commands were `sent`."""
    failure = PartitionUnavailable(instance, str(error) or type(error).__name__, unknown_outcome=sent)
    failure.__cause__ = error
    return failure


def closed(instance: str, *, sent: bool) -> PartitionUnavailable:
    """The error for a call that was under way, or began, when its transport was closed or its event loop was ending."""
    return PartitionUnavailable(instance, "the scheduler was closed, or its event loop", unknown_outcome=sent)


def refused(instance: str, error: Exception) -> PartitionUnavailable:
    """The error for a command that the server answered with an error. Scripts check before they write, so none did."""
    failure = PartitionUnavailable(instance, str(error))
    failure.__cause__ = error
    return failure


def missing_scripts(commands: Sequence[Command], replies: Sequence[Any]) -> tuple[list[int], int, bytes]:
    """What the server did not carry out for want of a script: the positions, how many scripts, and the bytes of it all.

    Those load the scripts, each once, and then call again. Mostly nothing.
    """
    positions = [position for position, reply in enumerate(replies) if is_missing_script(reply)]
    scripts = list(dict.fromkeys(commands[position].script for position in positions))
    packed = [*map(pack_load, scripts), *(pack(commands[position]) for position in positions)]
    return positions, len(scripts), b"".join(packed)


def raise_lost(replies: Iterable[Any]) -> None:
    """Raises an answer that stands for the end of a connection: the server is loading, or wants a login again."""
    from redis.exceptions import ConnectionError as RedisConnectionError

    for reply in replies:
        if isinstance(reply, RedisConnectionError):
            raise reply


def is_missing_script(reply: Any) -> bool:
    """Whether the server forgot (or never knew) the script: it was restarted, or somebody flushed it."""
    from redis.exceptions import NoScriptError

    return isinstance(reply, NoScriptError)


def wants_new_connection(replies: Iterable[Any]) -> bool:
    """Whether the server became a replica: the address may lead to another one next time."""
    from redis.exceptions import ReadOnlyError, ResponseError

    # Before 7.0 the error of a command in a script stands inside that of the script.
    return any(
        isinstance(reply, ReadOnlyError) or (isinstance(reply, ResponseError) and " -READONLY " in str(reply))
        for reply in replies
    )


def finished(instance: str, replies: Iterable[Any]) -> list[Reply]:
    """Replies with redis-py's errors replaced by ours."""
    return [refused(instance, reply) if isinstance(reply, Exception) else reply for reply in replies]
