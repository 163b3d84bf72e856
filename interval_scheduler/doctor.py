"""Start-up checks: whether instances can keep the promises, found before the first task is.

`startup_findings` judges what ``INFO`` says, without asking anybody: cheap enough for every connect. `diagnose` asks:
it tries every right that the scripts need with commands that change nothing, and then runs every script for real, in a
throw-away namespace that it deletes again. ``CONFIG`` is never used: managed Redis often forbids it.

The throw-away namespace of ``app`` is ``app:doctor-<random>``. Its keys fit the same ACL patterns as those of ``app``
(see docs/acl.md), and they cannot be anybody else's: no namespace of an application contains a colon.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from . import commands, keys
from .calls import Operation, check, drive
from .commands import Command, Partition, Reply
from .definition import decode_body
from .errors import PartitionUnavailable, SchedulerError, TopologyMismatch
from .model import Task
from .operations import Operations
from .options import Instance, Options, load_options
from .record import parse_header, split_record
from .scripts import script
from .settlement import End, Live, Outcome, settle
from .topology import join
from .transport.blocking import BlockingTransport
from .transport.endpoint import Endpoint, close_pool
from .world import World

T = TypeVar("T")
Level = Literal["ok", "warning", "error"]

OLDEST_REDIS = (6, 2)
MEMORY_SHARE = 0.9
"""Share of maxmemory from which on there is too little left for a burst of tasks."""
CLOCK_WARNING_SECONDS = 1.0
CLOCK_ERROR_SECONDS = 60.0
HINT_SECONDS = 2.0
"""Longest wait for a hint that was published: it takes a round trip where anything relays it at all."""

_CLOCK_SAMPLES = 3
_TRIAL_BUCKET_MS = 86_400_000
_TRIAL_LEASE_MS = 60_000
_HOUR = 3600
_ANSWERS = "it answers"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check of one instance found. `message` says what is wrong, why it matters and what to do."""

    level: Level
    instance: str
    check: str
    message: str


# -- what INFO says ----------------------------------------------------------------------------------------------------


def parse_info(text: str) -> dict[str, str]:
    """The fields of an ``INFO`` answer."""
    lines = (line.partition(":") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, separator, value in lines if separator}


def startup_findings(info: Mapping[str, Any], instance: str = "") -> list[Finding]:
    """Judges the fields of an ``INFO`` answer (text or numbers), one finding or more per check; asks nobody.

    What a server does not tell is a warning at most: a proxy that hides a field may still be a good server.
    """
    found = [_version(info), _role(info), *_eviction(info), *_persistence(info), *_memory(info)]
    return [Finding(level, instance, check, message) for level, check, message in found]


_Found = tuple[Level, str, str]


def _version(info: Mapping[str, Any]) -> _Found:
    valkey = info.get("valkey_version")
    if valkey or info.get("server_name") == "valkey":
        return "ok", "version", f"Valkey {valkey or ''}".rstrip()
    version = str(info.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        return "warning", "version", "INFO names no redis_version; make sure it is Redis 6.2 or newer, or Valkey"
    if (int(numbers[1]), int(numbers[2])) < OLDEST_REDIS:
        return (
            "error",
            "version",
            f"Redis {version} lacks commands that the scripts use, which then fail; upgrade to Redis 6.2 or newer",
        )
    return "ok", "version", f"Redis {version}"


def _role(info: Mapping[str, Any]) -> _Found:
    role = info.get("role", "master")
    if role == "master":
        return "ok", "role", "it takes writes"
    master = f", which follows {info['master_host']}:{info.get('master_port', '')}" if info.get("master_host") else ""
    return (
        "error",
        "role",
        f"this is a {role}{master}: every write is refused with READONLY; use the address of the primary, "
        "or redis+sentinel://, which finds it",
    )


def _eviction(info: Mapping[str, Any]) -> Iterable[_Found]:
    policy = info.get("maxmemory_policy")
    if policy is None:
        yield "warning", "eviction", "INFO does not tell maxmemory_policy; make sure that it is noeviction"
    elif policy == "noeviction":
        yield "ok", "eviction", "noeviction"
    else:
        limited = _number(info, "maxmemory") > 0
        lost = "locks" if str(policy).startswith("volatile") else "tasks"
        when = "when memory is full" if limited else "once a maxmemory is set"
        yield (
            "error" if limited else "warning",
            "eviction",
            f"maxmemory-policy is {policy}: {when}, the server deletes {lost} without a word; "
            "set maxmemory-policy noeviction (managed Redis: in its parameters)",
        )


def _persistence(info: Mapping[str, Any]) -> Iterable[_Found]:
    troubles = list(_persistence_troubles(info))
    yield from troubles
    if "aof_enabled" not in info:
        yield "warning", "persistence", "INFO does not tell whether data is kept on disk; make sure that AOF is on"
    elif _number(info, "aof_enabled"):
        if not troubles:
            yield "ok", "persistence", "AOF is on"
    elif not _snapshots(info):
        yield (
            "warning",
            "persistence",
            "AOF is off and no snapshot was ever made since its start: a restart of the server loses every task; "
            "set appendonly yes, and appendfsync always where no acknowledged task may be lost",
        )
    elif not troubles:
        yield (
            "ok",
            "persistence",
            "snapshots only: a crash of the server loses the tasks assigned since the last one; "
            "appendonly yes keeps them",
        )


def _persistence_troubles(info: Mapping[str, Any]) -> Iterable[_Found]:
    if _number(info, "loading"):
        yield (
            "error",
            "persistence",
            "the server is still loading its data and answers nothing else: wait until it has, and start then",
        )
    for field, what in (("aof_last_write_status", "write to the AOF"), ("rdb_last_bgsave_status", "snapshot")):
        if info.get(field, "ok") != "ok":
            yield (
                "error",
                "persistence",
                f"the last {what} failed ({field} is {info[field]}): writes are refused (MISCONF) or lost at a "
                "restart; free disk space or mend the rights of its folder, the server's log names the cause",
            )


def _snapshots(info: Mapping[str, Any]) -> bool:
    """Whether the server makes snapshots, by their traces: INFO does not tell the configured save points."""
    return (
        _number(info, "rdb_bgsave_in_progress") > 0
        or _number(info, "rdb_saves") > 0
        or _number(info, "rdb_last_bgsave_time_sec", -1) >= 0
    )


def _memory(info: Mapping[str, Any]) -> Iterable[_Found]:
    limit = _number(info, "maxmemory")
    # What replicas and the AOF have not taken yet does not count against the limit.
    used = _number(info, "used_memory") - _number(info, "mem_not_counted_for_evict")
    if limit <= 0:
        yield "ok", "memory", "no maxmemory"
    elif used > MEMORY_SHARE * limit:
        yield (
            "warning",
            "memory",
            f"{used / limit:.0%} of maxmemory is in use: when it is full, new tasks are refused (OOM), "
            "though those that are there still run; raise maxmemory or add an instance",
        )
    else:
        yield "ok", "memory", f"{used / limit:.0%} of maxmemory is in use"


def _number(info: Mapping[str, Any], name: str, missing: float = 0) -> float:
    try:
        return float(info.get(name, missing))
    except (TypeError, ValueError):
        return missing


# -- clocks ------------------------------------------------------------------------------------------------------------


def clock_findings(clocks: Mapping[str, tuple[float, float]]) -> list[Finding]:
    """Judges clocks: per instance how many seconds it is ahead of this machine, and how wrong that may be.

    What may be the error of the measurement is not held against a clock.
    """
    findings = []
    for name, (ahead, error) in clocks.items():
        apart = max(0.0, abs(ahead) - error)
        where = "ahead of" if ahead > 0 else "behind"
        findings.append(
            _clock_finding(
                name,
                apart,
                f"the clock of the server is {abs(ahead):.3f} s {where} that of this machine",
                "times computed here (execute_on, post, Cron) are due that much off",
            )
        )
    if len(clocks) > 1:
        first = min(clocks, key=lambda name: clocks[name][0])
        last = max(clocks, key=lambda name: clocks[name][0])
        difference = clocks[last][0] - clocks[first][0]
        finding = _clock_finding(
            last,
            max(0.0, difference - clocks[last][1] - clocks[first][1]),
            f"its clock is {difference:.3f} s ahead of that of instance {first!r}",
            "tasks of the same time run that far apart, depending on their id",
        )
        if finding.level != "ok":
            findings.append(finding)
    return findings


def _clock_finding(instance: str, apart: float, what: str, why: str) -> Finding:
    if apart <= CLOCK_WARNING_SECONDS:
        return Finding("ok", instance, "clock", what)
    level: Level = "error" if apart > CLOCK_ERROR_SECONDS else "warning"
    return Finding(level, instance, "clock", f"{what}: {why}; run NTP (chrony, timesyncd) on both machines")


# -- rights ------------------------------------------------------------------------------------------------------------

# What the scripts call, each in a form that changes nothing on a key that is not there. HSET and HINCRBY have no such
# form: they are given what they refuse, but only after rights were checked.
SCRIPT_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "DEL": ("KEY",),
    "EXISTS": ("KEY",),
    "GET": ("KEY",),
    "HDEL": ("KEY", "field"),
    "HGET": ("KEY", "field"),
    "HINCRBY": ("KEY", "field", "one"),
    "HLEN": ("KEY",),
    "HMGET": ("KEY", "field"),
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
    "ZSCORE": ("KEY", "member"),
    "PUBLISH": ("CHANNEL", "message"),
    "TIME": (),
}
# What connections send, with the right that allows it. UNSUBSCRIBE from nothing, and an EVALSHA of nothing.
_CONNECTION_COMMANDS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("+ping", ("PING",)),
    ("+info", ("INFO",)),
    ("+script|load", ("SCRIPT", "LOAD", script("identify").source)),
    ("+evalsha", ("EVALSHA", "0" * 40, "0")),
    ("+unsubscribe", ("UNSUBSCRIBE", "CHANNEL")),
    ("+subscribe", ("SUBSCRIBE", "CHANNEL")),
)


def _missing_rights(line: _Line, namespace: str, trial: str, partitions: int) -> list[str]:
    """The ACL rules this user lacks; tried, because no command tells them to somebody without admin rights."""
    mark = f"doctor-{secrets.token_hex(8)}"
    # Per form of key and channel the pattern that covers it. The last partition, so that a pattern for some is noticed.
    names = {
        f"{{{namespace}}}:{mark}": f"{{{namespace}}}:*",
        f"{keys.meta(namespace, 0)}:{mark}": f"{{{namespace}:*}}:*",
        f"{keys.meta(namespace, partitions - 1)}:{mark}": f"{{{namespace}:*}}:*",
        f"{keys.topology(trial)}:{mark}": f"{{{namespace}:*}}:*",
    }
    tried: list[tuple[tuple[str, ...], str, str]] = []
    for name, pattern in names.items():
        for command, arguments in SCRIPT_COMMANDS.items():
            filled = (command, *(name if a in ("KEY", "CHANNEL") else a for a in arguments))
            tried.append((filled, f"+{command.lower()}", pattern))
        for right, form in _CONNECTION_COMMANDS:
            # A connection that listens refuses the rest, so this comes last, and on one of its own below.
            if right != "+subscribe":
                tried.append((tuple(name if a == "CHANNEL" else a for a in form), right, pattern))
    answers = line.ask(*(form for form, _, _ in tried))
    listening = [(("SUBSCRIBE", name), "+subscribe", pattern) for name, pattern in names.items()]
    with line.another() as listener:
        answers += listener.ask(*(form for form, _, _ in listening))
    rules: dict[str, None] = {}
    for (_, right, pattern), answer in zip([*tried, *listening], answers, strict=True):
        if rule := _lacking(answer, right, pattern):
            rules[rule] = None
    return list(rules)


def _lacking(answer: object, right: str, pattern: str) -> str | None:
    """The rule that would have allowed the command, by what the server says (worded differently by each version).

    With "!" for a command that the server does not know at all.
    """
    text = str(answer)
    if not _refused(answer):
        unknown = isinstance(answer, Exception) and "unknown command" in text.lower()
        return f"!{right[1:]}" if unknown and right != "+info" else None  # what lacks INFO was told of already
    if "channel" in text:
        return f"&{pattern}"
    if re.search(r"\bkeys?\b", text):
        return f"~{pattern}"
    return right


def _refused(answer: object) -> bool:
    from redis.exceptions import NoPermissionError

    return isinstance(answer, NoPermissionError)


def _right_finding(instance: str, user: str, rule: str) -> Finding:
    if rule[0] == "!":
        return Finding(
            "error",
            instance,
            "rights",
            f"the server does not know the command {rule[1:].replace('|', ' ').upper()}: the scripts need it; it was "
            "renamed or disabled in its configuration, or this is another product: use a server that has it",
        )
    kind = {"+": "command", "~": "key pattern", "&": "channel pattern"}[rule[0]]
    name = rule[1:].replace("|", " ").upper() if kind == "command" else rule[1:]
    why = {
        "+publish": "workers are not woken for new tasks, without an error anywhere",
        "+subscribe": "workers are not woken for new tasks",
        "+unsubscribe": "workers are not woken for new tasks",
        "+info": "neither its set-up can be seen, nor that it was restarted, perhaps without its last writes",
    }.get(rule, "workers are not woken for new tasks" if kind == "channel pattern" else "schedulers cannot work")
    return Finding(
        "error",
        instance,
        "rights",
        f"user {user!r} may not use the {kind} {name}: {why}; run ACL SETUSER {user} {rule} (see docs/acl.md)",
    )


# -- asking ------------------------------------------------------------------------------------------------------------


class _Line:
    """A connection of our own, for what no script does. Answers that are errors are returned, not raised."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._connection = pool.make_connection()
        self._connection.connect()

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.disconnect()

    def another(self) -> _Line:
        """A second connection to the same instance."""
        return _Line(self._pool)

    def ask(self, *requests: Sequence[str]) -> list[Any]:
        """The answers to the requests, all sent in one go."""
        for request in requests:
            self._connection.send_command(*request)
        return [self._answer() for _ in requests]

    def one(self, *request: str) -> Any:
        return self.ask(request)[0]

    def hear(self, seconds: float) -> Any:
        """What comes within `seconds` without being asked for, or None."""
        return self._answer() if self._connection.can_read(seconds) else None

    def _answer(self) -> Any:
        from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

        try:
            return self._connection.read_response(disable_decoding=True)
        except (ResponseError, AuthenticationError, BusyLoadingError) as error:
            return error


def _measure_clock(line: _Line, world: World) -> tuple[float, float] | None:
    """How far a server's clock is ahead, and the most this may be wrong: of some round trips the shortest counts.

    The server's time is taken for that of the middle of the round trip (Cristian, "Probabilistic clock
    synchronization", 1989).
    """
    best: tuple[float, float] | None = None
    for _ in range(_CLOCK_SAMPLES):
        begun, sent = world.time(), world.monotonic()
        answer = line.one("TIME")
        half = (world.monotonic() - sent) / 2
        if isinstance(answer, Exception):
            return None
        server = int(answer[0]) + int(answer[1]) / 1e6
        if best is None or half < best[1]:
            best = server - begun - half, half
    return best


# -- the checks --------------------------------------------------------------------------------------------------------


def diagnose(options: Any = None, *, world: World | None = None, **fields: Any) -> list[Finding]:
    """Checks every instance of the options, and whether they fit the namespace. Blocks; a few round trips each.

    Nothing of the configured namespace is changed, and it is not created where it is new. What is tried for real is
    tried in a throw-away namespace, and deleted.

    Args:
        options: whatever a `Scheduler` takes.
        world: only for tests and simulations.
        **fields: single options by name, on top of `options`.

    Raises:
        InvalidOptions: naming every wrong field. Everything else that is wrong is a finding.
    """
    loaded = load_options(options, fields)
    visit = _Visit(loaded, world or World())
    try:
        return visit.run()
    finally:
        visit.close()


class _Visit:
    """One run of `diagnose`."""

    def __init__(self, options: Options, world: World) -> None:
        self._options = options
        self._world = world
        reach = world.endpoint or Endpoint
        self._endpoints: dict[str, Endpoint] = {instance.name: reach(instance) for instance in options.instances}
        self._transport = BlockingTransport(self._endpoints)
        self._pools: list[Any] = []
        self._findings: list[Finding] = []
        self._clocks: dict[str, tuple[float, float]] = {}
        # Per instance that could be read: the name it carries, and the state of a topology that it holds.
        self._marks: dict[str, tuple[bytes, bytes]] = {}

    def run(self) -> list[Finding]:
        for instance in self._options.instances:
            try:
                self._examine(instance)
            except Exception as error:  # whatever it is, the other instances are still worth looking at
                done = Finding("ok", instance.name, "reachable", _ANSWERS)
                self._findings = [finding for finding in self._findings if finding != done]
                self._add("error", instance.name, "reachable", _unreachable(instance, error))
        self._findings += clock_findings(self._clocks)
        self._namespace()
        order = [instance.name for instance in self._options.instances]
        return sorted(self._findings, key=lambda finding: order.index(finding.instance))

    def close(self) -> None:
        self._transport.close()
        for pool in self._pools:
            close_pool(pool)
        for endpoint in self._endpoints.values():
            endpoint.close()

    def _add(self, level: Level, instance: str, check: str, message: str) -> None:
        self._findings.append(Finding(level, instance, check, message))

    def _examine(self, instance: Instance) -> None:
        name = instance.name
        endpoint = self._endpoints[name]
        endpoint.open()
        pool = endpoint.connection_pool(asynchronous=False)
        self._pools.append(pool)
        with _Line(pool) as line:
            answer = line.one("INFO")
            if isinstance(answer, Exception) and not _refused(answer) and "unknown" not in str(answer).lower():
                raise answer
            self._add("ok", name, "reachable", _ANSWERS)
            if not isinstance(answer, Exception):
                info = parse_info(answer.decode("utf-8", "replace"))
                self._findings += startup_findings(info, name)
                if _number(info, "loading"):
                    return
            elif not _refused(answer):
                self._add("warning", name, "version", f"it does not know INFO ({answer}): its set-up cannot be checked")
            if (clock := _measure_clock(line, self._world)) is not None:
                self._clocks[name] = clock
            trial = f"{self._options.namespace}:doctor-{secrets.token_hex(8)}"
            self._rights(instance, line, trial)
            self._name(name, line)
            if any(f.level == "error" and f.instance == name and f.check in ("rights", "role") for f in self._findings):
                self._add("warning", name, "scripts", "not tried: mend the errors of this instance first")
            else:
                self._findings += _Trial(name, trial, self._options, self._transport, line, self._world).run()

    def _rights(self, instance: Instance, line: _Line, trial: str) -> None:
        answer = line.one("ACL", "WHOAMI")
        user = str(instance.settings.get("username", "default"))
        if isinstance(answer, bytes):
            user = answer.decode("utf-8", "replace")
        missing = _missing_rights(line, self._options.namespace, trial, self._options.partitions)
        self._findings += [_right_finding(instance.name, user, rule) for rule in missing]
        if not missing:
            self._add("ok", instance.name, "rights", f"user {user!r} has all that is needed")
        if _refused(answer):
            self._add(
                "warning",
                instance.name,
                "rights",
                f"user {user!r} may not use the command ACL WHOAMI: these checks cannot be sure whom they speak of; "
                f"run ACL SETUSER {user} +acl|whoami",
            )

    def _name(self, name: str, line: _Line) -> None:
        namespace = self._options.namespace
        carried, state = line.ask(("GET", keys.instance_name(namespace)), ("HGET", keys.topology(namespace), "state"))
        if isinstance(carried, Exception) or isinstance(state, Exception):
            if not _refused(carried) and not _refused(state):
                self._add("error", name, "name", f"its name cannot be read: {carried}; {state}")
            return
        self._marks[name] = carried or b"", state or b""
        if carried and carried != name.encode():
            self._add(
                "error",
                name,
                "name",
                f"this server is known as {carried.decode('utf-8', 'replace')!r} in namespace {namespace!r}, but "
                f"configured as {name!r}: its tasks would be looked for elsewhere, so schedulers refuse to start; "
                "check that addresses were not swapped, or give it its old 'name'",
            )
        elif carried:
            self._add("ok", name, "name", "it carries the configured name")

    def _namespace(self) -> None:
        """Whether the options fit the namespace: joins it where it exists, which then writes nothing."""
        master, namespace = self._options.master.name, self._options.namespace
        if master not in self._marks:
            return  # it could not be asked, which was said
        state = self._marks[master][1]
        others = [name for name, mark in self._marks.items() if mark[1] and name != master]
        if not state and others:
            self._add(
                "error",
                master,
                "topology",
                f"the topology of namespace {namespace!r} is not on this master instance but on {others[0]!r}: "
                "a scheduler would make a second one; set storage.master_index to that instance",
            )
        elif not state and any(mark[0] for mark in self._marks.values()):
            known = ", ".join(repr(name) for name, mark in self._marks.items() if mark[0])
            self._add(
                "error",
                master,
                "topology",
                f"instances ({known}) belong to namespace {namespace!r}, but this master instance lacks its topology: "
                "it lost its data, or is another server; restore its data, or check its address",
            )
        elif not state:
            self._add(
                "ok",
                master,
                "topology",
                f"namespace {namespace!r} is new: the first scheduler creates it, with {self._options.partitions} "
                f"partitions over {len(self._options.instances)} instance(s)",
            )
        elif state != b"ready":
            self._add(
                "warning",
                master,
                "topology",
                f"namespace {namespace!r} is just being created, or who created it died: the next scheduler that "
                "starts completes it",
            )
        else:
            self._fit(master, namespace)

    def _fit(self, master: str, namespace: str) -> None:
        try:
            layout = drive(join(self._options, self._world.script_now()), self._transport.execute)
        except TopologyMismatch as error:
            self._add("error", master, "topology", str(error))
        except PartitionUnavailable as error:
            self._add("error", master, "topology", f"the topology cannot be read: {error}")
        else:
            size = f"{len(layout.partitions)} partitions on {len(layout.instances)} instance(s)"
            self._add("ok", master, "topology", f"the options fit namespace {namespace!r}: {size}")
            for name in self._marks:
                if name not in layout.instances and name != master:
                    self._add(
                        "warning", name, "topology", "it owns no partitions and idles: run a rebalance, or leave it out"
                    )


def _unreachable(instance: Instance, error: Exception) -> str:
    from redis.exceptions import AuthenticationError

    text = str(error) or type(error).__name__
    if isinstance(error, AuthenticationError):
        fix = "give the username and password of an ACL user in the URL"
    elif _refused(error):
        # With a database other than 0, connecting sends SELECT.
        fix = (
            "give the user the right that is named (a URL with a database other than 0 needs +select, see docs/acl.md)"
        )
    elif instance.kind == "sentinel":
        fix = "check the addresses of the Sentinels, and the service name"
    else:
        fix = "check that the server runs, its address and port, firewall, TLS (rediss://) and maxclients"
    return f"no usable connection ({text}): its partitions are unavailable; {fix}"


# -- the scripts, for real ---------------------------------------------------------------------------------------------


class _Unexpected(Exception):
    """A script answered, but not what it must."""


@dataclass
class _TrialTask(Task):
    id: str
    execute_on: float | None = None

    def serialize(self) -> Any:
        return self.id


class _Trial:
    """Runs every script on one instance as schedulers and workers do, in a namespace of its own."""

    def __init__(
        self, name: str, namespace: str, options: Options, transport: BlockingTransport, line: _Line, world: World
    ) -> None:
        self._name = name
        self._transport = transport
        self._line = line
        self._world = world
        [instance] = [replace(instance, weight=1.0) for instance in options.instances if instance.name == name]
        # One partition and one bucket a day: so every key that can come to be is known, and can be deleted by name.
        storage = replace(
            options.storage, instances=(instance,), master_index=0, task_interval_seconds=_TRIAL_BUCKET_MS / 1000
        )
        self._options = replace(options, storage=storage, namespace=namespace, partitions=1)
        self._step = ""

    def run(self) -> list[Finding]:
        findings = []
        try:
            hinted = self._steps()
        except (SchedulerError, _Unexpected) as error:
            reason = str(error)
            if isinstance(error, PartitionUnavailable):
                # redis-py takes the code out of an error (OOM, READONLY…) and gives it a class instead.
                reason = f"{type(error.__cause__).__name__}: {error.reason}"
            findings.append(
                Finding(
                    "error",
                    self._name,
                    "scripts",
                    f"{self._step} failed ({reason}): so would schedulers; {_fix(reason)}",
                )
            )
        else:
            findings.append(
                Finding("ok", self._name, "scripts", "a task was assigned, claimed, settled, and everything else done")
            )
            findings.append(self._hint_finding(hinted))
        finally:
            left = self._delete()
        if left:
            findings.append(
                Finding(
                    "warning",
                    self._name,
                    "scripts",
                    f"keys of the throw-away namespace are left behind ({', '.join(left)}): they only take memory; "
                    f"delete them",
                )
            )
        return findings

    def _hint_finding(self, hinted: bool) -> Finding:
        if hinted:
            return Finding("ok", self._name, "hints", "a hint arrived")
        return Finding(
            "warning",
            self._name,
            "hints",
            f"a hint published with a task did not arrive within {HINT_SECONDS:g} s: workers notice new tasks only "
            "every check_tasks_every_seconds; is there a proxy that does not pass pub/sub on?",
        )

    def _steps(self) -> bool:
        self._step = "joining a topology"
        layout = drive(join(self._options, self._world.script_now()), self._execute)
        operations = Operations(layout, self._options, self._world)
        [home] = layout.partitions
        with self._line.another() as listener:
            self._step = "listening to hints"
            channel = keys.hint_channel(self._options.namespace, 0)
            self._expect(listener.one("SUBSCRIBE", channel), lambda answer: not isinstance(answer, Exception))
            self._do("assigning a task", operations.assign_task(_TrialTask("now")))
            hint = listener.hear(HINT_SECONDS)
        self._run_one(operations, home)
        self._plan(operations)
        self._bury(operations, home)
        self._take_turns(operations)
        self._do("clearing", operations.clear_all_tasks(None), 0)
        return isinstance(hint, list) and hint[0] == b"message"

    def _run_one(self, operations: Operations, home: Partition) -> None:
        """A run that is confirmed, as with ``confirm="manual"``."""
        record, now = self._claim(home)
        token = parse_header(split_record(record)[0]).token
        self._step = "prolonging a lease"
        self._expect(self._call(home, "renew", _TRIAL_LEASE_MS, "now", token)[2], lambda answer: answer == b"1")
        self._do("confirming a run", operations.confirm_task("now", token))
        self._settle(home, record, now, End.DONE)
        self._do("reading a task", operations.is_scheduled("now"), False)

    def _plan(self, operations: Operations) -> None:
        """What is done to tasks that wait."""
        later = self._world.time() + _HOUR
        result = self._do("assigning tasks", operations.assign_tasks([_TrialTask("now", later)]), None)
        self._expect(result.created, lambda created: created == 1)
        self._do("moving a task", operations.reschedule_task("now", 2 * _HOUR, None))
        reader = operations.upcoming(0, None, None)
        self._do("reading what is upcoming", reader.fill(), None)
        self._expect(len(reader.take()), lambda count: count == 1)
        self._do("counting", operations.counts(), (1, 1))
        self._do("running a task now", operations.run_task_now("now"))

    def _bury(self, operations: Operations, home: Partition) -> None:
        """Dead letters: made, read, revived, purged; and the task that is left is removed."""
        for _ in range(2):
            self._settle(home, *self._claim(home), End.ABANDONED)
            letters = self._do("reading dead letters", operations.dead_tasks(), None)
            self._expect(len(letters), lambda count: count == 1)
            if self._do("reviving a dead letter", operations.retry_dead_tasks(["now"]), None) != 1:
                raise _Unexpected("the dead letter was not found")
        self._settle(home, *self._claim(home), End.ABANDONED)
        self._do("purging dead letters", operations.purge_dead_tasks(), 1)
        self._do("removing a task", operations.remove_tasks(["now"]), 1)

    def _take_turns(self, operations: Operations) -> None:
        """Locks, what workers tell each other, and what connections tell a server that was started."""
        first = self._do("taking a lock", operations.lock("doctor", "take", "a", _TRIAL_LEASE_MS), None)
        self._expect(first, lambda token: token > 1)
        self._do("taking a lock twice", operations.lock("doctor", "take", "b", _TRIAL_LEASE_MS), 0)
        self._do("extending a lock", operations.lock("doctor", "extend", "a", _TRIAL_LEASE_MS), 1)
        self._do("releasing a lock", operations.lock("doctor", "release", "a", 0), 1)
        self._step = "reporting a worker, passing on a hint, or greeting a server"
        namespace, now = self._options.namespace, self._world.script_now()
        requests = [commands.workers(self._name, namespace, now, "doctor", ttl) for ttl in (_TRIAL_LEASE_MS, 0)]
        requests.append(Command(self._name, script("nudge"), (keys.workers(namespace),), ("doctor", "0 0"), True))
        requests.append(commands.greet(self._name, [keys.meta(namespace, 0)], "doctor", [0]))
        for reply in self._execute(requests):
            self._expect(reply, lambda answer: not isinstance(answer, Exception))

    def _claim(self, home: Partition) -> tuple[bytes, int]:
        self._step = "claiming a task"
        reply = self._call(home, "claim", 1, _TRIAL_LEASE_MS, 1, 1024, 1)
        self._expect(reply[4:5], lambda ids: ids == [b"now"])
        return reply[5], int(reply[1]) // 1000

    def _settle(self, home: Partition, record: bytes, now: int, end: End) -> None:
        """Settles as a worker does: again with the new record, where it changed during the run."""
        self._step = "settling a run"
        while True:
            raw, body = split_record(record)
            header, definition = parse_header(raw), decode_body(body)
            result = settle(
                Live("now", header, definition, header.grid, now, False), Outcome(end, "tried by the doctor"), now, 0.0
            )
            new = b"" if result.header is None else result.header.encode()
            reply = self._call(home, "settle", _TRIAL_LEASE_MS, "now", raw, b"+" + new, result.body, result.dead)
            if reply[2] != b"c":
                break
            record = reply[3]
        self._expect(reply[2], lambda answer: answer == b"o")

    def _call(self, home: Partition, name: str, *args: bytes | str | int) -> list[Any]:
        [reply] = self._execute([home.call(name, self._world.script_now(), *args)])
        return check(home, reply)

    def _do(self, step: str, operation: Operation[T], expected: object = True) -> T:
        """Carries an operation out; `expected` None takes any result."""
        self._step = step
        result = drive(operation, self._execute)
        if expected is not None and result != expected:
            raise _Unexpected(f"the answer is {result!r}, not {expected!r}")
        return result

    def _expect(self, answer: T, holds: Callable[[T], bool]) -> None:
        if not holds(answer):
            raise _Unexpected(f"the answer is {answer!r}")

    def _execute(self, requests: Sequence[Command]) -> list[Reply]:
        return self._transport.execute(requests)

    def _delete(self) -> list[str]:
        """Deletes every key that the trial can have made; the names of those that are left."""
        namespace = self._options.namespace
        prefix = keys.meta(namespace, 0).removesuffix("meta")
        names = [prefix + part for part in ("meta", "tasks", "index", "retries", "leases")]
        names += [prefix + part for part in ("dead", "dead-records", "sequence")]
        names += [keys.topology(namespace), keys.instance_name(namespace), keys.workers(namespace)]
        names += [keys.lock(namespace, "doctor"), keys.lock_sequence(namespace)]
        time = self._line.one("TIME")
        seconds = self._world.time() if isinstance(time, Exception) else int(time[0])
        today = int(seconds * 1000) // _TRIAL_BUCKET_MS
        names += [f"{prefix}bucket:{(today + day) * _TRIAL_BUCKET_MS}" for day in (-1, 0, 1)]
        self._line.ask(*(("DEL", name) for name in names))
        answers = self._line.ask(*(("EXISTS", name) for name in names))
        return [name for name, answer in zip(names, answers, strict=True) if answer != 0]


def _fix(reason: str) -> str:
    """What to do about a server's error."""
    for pattern, fix in (
        ("NoPermission|NOPERM|ACL failure", "give the user the rights of docs/acl.md"),
        ("OutOfMemory|OOM|maxmemory", "raise maxmemory or make room: the server takes no new data"),
        ("ReadOnly|READONLY", "use the address of the primary"),
        ("MISCONF", "mend its persistence: the server's log names the cause"),
        (
            "Moved|MOVED|CrossSlot|CROSSSLOT|ClusterDown|CLUSTERDOWN",
            "this is a node of a Redis Cluster: use a server that stands alone",
        ),
        ("unknown command|disabled", "use a server, plan or proxy that allows Lua scripts and all commands they use"),
    ):
        if re.search(pattern, reason):
            return fix
    return "look for the cause in the server's log, and for a proxy on the way that changes commands"
