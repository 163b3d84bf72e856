"""The rights of a user. Each is tried, because a user without admin rights cannot ask for them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..protocol import keys
from ..protocol.scripts import all_scripts, commands_used
from ..servers.requirements import Finding
from .connection import Connection, is_unknown, lacks_right

HARMLESS_FORMS: Mapping[str, tuple[str, ...]] = {
    "DEL": ("KEY",),
    "EXISTS": ("KEY",),
    "GET": ("KEY",),
    "HDEL": ("KEY", "field"),
    "HGET": ("KEY", "field"),
    "HINCRBY": ("KEY", "field", "one"),
    "HLEN": ("KEY",),
    "HMGET": ("KEY", "field"),
    "HSCAN": ("KEY", "0", "COUNT", "1"),
    "HSET": ("KEY", "field", "value", "field"),
    "PEXPIRE": ("KEY", "1"),
    "SET": ("KEY", "value", "XX"),
    "ZADD": ("KEY", "XX", "0", "member"),
    "ZCARD": ("KEY",),
    "ZCOUNT": ("KEY", "0", "0"),
    "ZRANGE": ("KEY", "0", "0"),
    "ZRANGEBYSCORE": ("KEY", "0", "0"),
    "ZRANK": ("KEY", "member"),
    "ZREM": ("KEY", "member"),
    "ZREMRANGEBYRANK": ("KEY", "0", "0"),
    "ZREMRANGEBYSCORE": ("KEY", "0", "0"),
    "ZSCAN": ("KEY", "0", "COUNT", "1"),
    "ZSCORE": ("KEY", "member"),
    "PUBLISH": ("CHANNEL", "message"),
    "TIME": (),
}
"""For each command that scripts call, arguments that change nothing where the key does not exist.

HSET and HINCRBY have no such form. They get arguments that they refuse, but only after the server has checked rights.
"""
CONNECTION_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "+ping": ("PING",),
    "+info": ("INFO",),
    "+script|load": ("SCRIPT", "LOAD", "SOURCE"),
    "+evalsha": ("EVALSHA", "0" * 40, "0"),
    "+unsubscribe": ("UNSUBSCRIBE", "CHANNEL"),
    "+subscribe": ("SUBSCRIBE", "CHANNEL"),
}
"""What transports and the monitor send, by the right that allows it, in a form that changes nothing.

SOURCE stands for that of any script. The EVALSHA names a script that does not exist.
"""
DOCTOR_RIGHTS = ("+acl|whoami",)
"""What only the doctor asks for."""

_UNHEARD = "workers are not woken for new tasks, so they start them late"
_WHY = {
    "+publish": f"{_UNHEARD}, and nothing reports an error",
    "+subscribe": _UNHEARD,
    "+unsubscribe": _UNHEARD,
    "+info": "its configuration cannot be checked, and lost writes go unnoticed",
    "+acl|whoami": "these checks cannot tell for certain which user they run as",
}
_DISPENSABLE = ("+info", "+acl|whoami")
"""Rights without which schedulers still work."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A request, and the rights that allow it: a command, and the pattern of its key or channel."""

    request: Sequence[str]
    right: str
    pattern: str


def right_findings(
    connection: Connection, instance: str, configured_user: str, namespace: str, trial: str, partitions: int
) -> list[Finding]:
    """Every right that the user of `connection` lacks for `namespace`, which has so many partitions, and for the
    throw-away namespace `trial`.

    `configured_user` is the name for messages where the server does not tell it.
    """
    answer = connection.one("ACL", "WHOAMI")
    user = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else configured_user
    missing = _missing(connection, namespace, trial, partitions)
    findings = [_finding(instance, user, rule) for rule in missing]
    if not missing:
        findings.append(Finding("ok", instance, "rights", f"user {user!r} has all that is needed"))
    if lacks_right(answer):
        findings.append(_finding(instance, user, "+acl|whoami"))
    return findings


def _missing(connection: Connection, namespace: str, trial: str, partitions: int) -> list[str]:
    """The ACL rules the user lacks, and ``!command`` for each command that the server does not know."""
    mark = f"doctor-{secrets.token_hex(8)}"
    # For each form of key and channel, the pattern that covers it. The last partition too, so that a pattern that
    # covers only some partitions is noticed.
    of_namespace, of_partitions = keys.patterns(namespace)
    names = {
        f"{keys.topology(namespace)}:{mark}": of_namespace,
        f"{keys.meta(namespace, 0)}:{mark}": of_partitions,
        f"{keys.meta(namespace, partitions - 1)}:{mark}": of_partitions,
        f"{keys.topology(trial)}:{mark}": of_partitions,
    }
    attempts = [attempt for name, pattern in names.items() for attempt in _attempts(name, pattern)]
    # A connection that listens refuses the rest, so that one is tried on its own.
    listening = [attempt for attempt in attempts if attempt.right == "+subscribe"]
    attempts = [attempt for attempt in attempts if attempt.right != "+subscribe"]
    answers = connection.ask(*(attempt.request for attempt in attempts))
    with connection.another() as listener:
        answers += listener.ask(*(attempt.request for attempt in listening))
    lacking = map(_lacking, [*attempts, *listening], answers)
    return list(dict.fromkeys(rule for rule in lacking if rule is not None))


def _attempts(name: str, pattern: str) -> Iterable[_Attempt]:
    """A request for every right, on the key or channel `name`."""
    values = {"KEY": name, "CHANNEL": name, "SOURCE": all_scripts()[0].source}
    forms = {f"+{command.lower()}": (command, *HARMLESS_FORMS[command]) for command in sorted(commands_used())}
    for right, form in {**forms, **CONNECTION_COMMANDS}.items():
        yield _Attempt([values.get(part, part) for part in form], right, pattern)


def _lacking(attempt: _Attempt, answer: object) -> str | None:
    """The ACL rule that would have allowed the request. Each server version words its refusal differently."""
    if not lacks_right(answer):
        # A server that does not know INFO has been reported already, when INFO was read.
        return f"!{attempt.right[1:]}" if is_unknown(answer) and attempt.right != "+info" else None
    text = str(answer)
    if "channel" in text:
        return f"&{attempt.pattern}"
    if re.search(r"\bkeys?\b", text):
        return f"~{attempt.pattern}"
    return attempt.right


def _finding(instance: str, user: str, rule: str) -> Finding:
    command = rule[1:].replace("|", " ").upper()
    if rule[0] == "!":
        return Finding(
            "error",
            instance,
            "rights",
            f"the server does not know the command {command}, which the scripts need: it was renamed or disabled in "
            "its configuration, or this is another product",
            "use a server that has it",
        )
    what = {"+": f"command {command}", "~": f"key pattern {rule[1:]}", "&": f"channel pattern {rule[1:]}"}[rule[0]]
    why = _WHY.get(rule, _UNHEARD if rule[0] == "&" else "schedulers cannot work")
    return Finding(
        "warning" if rule in _DISPENSABLE else "error",
        instance,
        "rights",
        f"user {user!r} may not use the {what}: {why}",
        f"run ACL SETUSER {user} {rule} (see docs/acl.md)",
    )
