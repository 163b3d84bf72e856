"""What lasts until somebody corrects it is told apart from an outage, and nothing that a server repeats is shown."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import redis
from redis._parsers import BaseParser

from interval_scheduler import PartitionUnavailable, UnusableInstance
from interval_scheduler.model.instances import parse_instance
from interval_scheduler.transport.endpoint import Endpoint
from interval_scheduler.transport.failures import command_refused, connection_failed
from interval_scheduler.transport.remedies import remedy

parse_error: Callable[[str], Exception] = BaseParser.parse_error
LASTING = [
    ("WRONGPASS invalid username-password pair or user is disabled.", "correct the username and the password"),
    ("ERR invalid password", "correct the username and the password"),
    ("NOAUTH Authentication required.", "give the username and the password"),
    (
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your "
        "configuration is correct?",
        "leave the password out",
    ),
    ("ERR Client sent AUTH, but no password is set", "leave the password out"),
    ("NOPERM this user has no permissions to run the 'evalsha' command", "docs/acl.md"),
    ("NOPERM No permissions to access a key", "docs/acl.md"),
    (
        "ERR The user executing the script can't run this command or subcommand script: 1, on @user_script:1.",
        "docs/acl.md",
    ),
    ("ERR DB index is out of range", "smaller number"),
    ("ERR invalid DB index", "smaller number"),
    ("ERR SELECT is not allowed in cluster mode", "Redis Cluster"),
    ("MOVED 3999 127.0.0.1:6381", "Redis Cluster"),
    ("CROSSSLOT Keys in request don't hash to the same slot", "Redis Cluster"),
    ("DENIED Redis is running in protected mode because protected mode is enabled", "bind"),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", "verify"),
    ("ERR unknown command 'EVALSHA', with args beginning with: 'x' 'y'", "has this command"),
]
PASSING = [
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "ERR max number of clients reached",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "READONLY You can't write against a read only replica.",
    "NOREPLICAS Not enough good replicas to write.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN The cluster is down",
    "NOSCRIPT No matching script.",
    "ERR something else",
]


@pytest.mark.parametrize(("answer", "fix"), LASTING)
def test_fault_d6_what_lasts(answer: str, fix: str) -> None:
    error = parse_error(answer)
    for failure in (
        connection_failed("one", error, sent=False, connecting=True),
        connection_failed("one", error, sent=True),
        command_refused("one", error),
    ):
        assert isinstance(failure, UnusableInstance)
        assert fix in failure.remedy
        assert fix in str(failure)
        assert "when the instance is back" not in str(failure)
        assert failure.instance == "one"


@pytest.mark.parametrize("answer", PASSING)
def test_what_passes(answer: str) -> None:
    error = parse_error(answer)
    for failure in (
        connection_failed("one", error, sent=False, connecting=True),
        connection_failed("one", error, sent=True),
        command_refused("one", error),
    ):
        assert type(failure) is PartitionUnavailable


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(), ConnectionResetError(), TimeoutError(), socket.gaierror(-2, "unknown"),
        redis.TimeoutError("Timeout connecting to server"), redis.ConnectionError("Connection closed by server."),
        FileNotFoundError(2, "No such file or directory"), OSError(113, "No route to host"),
    ],
    ids=repr,
)  # fmt: skip
def test_networks_and_servers_that_are_away(error: Exception) -> None:
    assert remedy(error, connecting=True) == ""


def test_bytes_that_are_no_reply_mean_something_only_on_a_new_connection() -> None:
    error = redis.InvalidResponse("Protocol error")
    assert "does not speak the Redis protocol" in remedy(error, connecting=True)
    assert remedy(error, connecting=False) == ""


def test_what_a_server_repeats_of_a_command_is_not_shown() -> None:
    error = parse_error("ERR unknown command 'AUTH', with args beginning with: 'u' 'SECRET' ")
    for failure in (connection_failed("one", error, sent=False, connecting=True), command_refused("one", error)):
        assert "SECRET" not in f"{failure} {failure!r} {failure.reason}"
        assert failure.__cause__ is None
        assert "unknown command 'AUTH'" in failure.reason


def test_once_a_connection_has_worked_only_the_patient_look_closer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look takes up to a second, in which a worker could lose its leases."""
    looks: list[Mapping[str, Any]] = []

    def look(settings: Mapping[str, Any]) -> str:
        looks.append(settings)
        return "use rediss://"

    monkeypatch.setattr("interval_scheduler.transport.probe.tls_remedy", look)
    endpoint = Endpoint(parse_instance("redis://host"))
    endpoint.has_worked = True
    assert type(endpoint.failure(ConnectionResetError())) is PartitionUnavailable
    assert type(endpoint.failure(ConnectionRefusedError(), patient=True)) is PartitionUnavailable
    assert not looks
    assert isinstance(endpoint.failure(ConnectionResetError(), patient=True), UnusableInstance)
    assert isinstance(endpoint.failure(ConnectionResetError()), UnusableInstance), "what was found holds for a while"
    assert len(looks) == 1
