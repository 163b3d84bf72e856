"""Options: what `Scheduler` and `AsyncScheduler` take, checked whole before anything is connected.

They come as nothing, one URL, a list of URLs or mappings, a nested mapping, or an `Options` value; keyword arguments
are put on top, and environment variables override everything (see `ENVIRONMENT`).
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, Literal

from .errors import InvalidOptions

ENVIRONMENT: Mapping[str, str] = {
    "INTERVAL_SCHEDULER_INSTANCES": "instances",
    "INTERVAL_SCHEDULER_MASTER_INDEX": "master_index",
    "INTERVAL_SCHEDULER_RECONNECT_INTERVAL_SECONDS": "reconnect_interval_seconds",
    "INTERVAL_SCHEDULER_TASK_INTERVAL_SECONDS": "task_interval_seconds",
    "INTERVAL_SCHEDULER_EVICTING_SERVERS": "evicting_servers",
    "INTERVAL_SCHEDULER_CHECK_TASKS_EVERY_SECONDS": "check_tasks_every_seconds",
    "INTERVAL_SCHEDULER_NAMESPACE": "namespace",
    "INTERVAL_SCHEDULER_PARTITIONS": "partitions",
    "INTERVAL_SCHEDULER_CONCURRENCY": "concurrency",
    "INTERVAL_SCHEDULER_LEASE_SECONDS": "lease_seconds",
    "INTERVAL_SCHEDULER_MAX_PAYLOAD_BYTES": "max_payload_bytes",
}
"""Environment variable to option.

``INTERVAL_SCHEDULER_INSTANCES`` holds URLs, or NAME=URL, separated by spaces or commas.
"""
_PACKAGE = __name__.partition(".")[0]
_PREFIX = "INTERVAL_SCHEDULER_"
_NO_OPTIONS = frozenset({"INTERVAL_SCHEDULER_REDIS"})
"""Variables with the prefix that are for the tests."""

DEFAULT_URL = "redis://localhost:6379/0"


@dataclass(frozen=True, slots=True)
class Instance:
    """One Redis server: a stable name, a weight, and how to reach it.

    `kind` is "redis", "sentinel", "embedded" or "memory"; `settings` are the arguments of a redis-py connection (or
    the path of an embedded server, or the name of a memory one).
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    weight: float = 1.0
    named: bool = False

    def __repr__(self) -> str:  # settings may hold a password
        return f"Instance({self.name!r}, {self.kind!r}, weight={self.weight})"


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """Where tasks are kept."""

    instances: Sequence[Any] = (DEFAULT_URL,)
    """URLs, mappings, or `Instance` values; after loading a tuple of `Instance`."""
    master_index: int = 0
    """Which instance holds locks and the topology."""
    reconnect_interval_seconds: float = 1.0
    """Longest pause between attempts to reach an instance that is down (0.05 to 3,600)."""
    task_interval_seconds: float = 60.0
    """Bucket width (0.001 to 86,400), fixed when a namespace is created. Tasks keep their exact millisecond."""
    evicting_servers: Literal["warn", "refuse"] = "warn"
    """What to do about a server that deletes keys when its memory is full (a maxmemory-policy other than noeviction,
    and a maxmemory): log an error, or refuse to work with it. It is seen whenever a connection is made."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that can be set; see the README for a table."""

    storage: StorageOptions = field(default_factory=StorageOptions)
    check_tasks_every_seconds: float = 10.0
    """Longest time between two looks at all partitions (0.05 to 3,600). Workers wake at due times anyway."""
    namespace: str = "interval-scheduler"
    """Keeps applications on the same servers apart: letters, digits, ``_``, ``.`` and ``-``, at most 100."""
    partitions: int = 64
    """Shares of the id space (1 to 16,384), fixed when a namespace is created."""
    concurrency: int = 100
    """Most handlers running at once in one worker (1 to 100,000)."""
    lease_seconds: float = 15.0
    """How long a claimed task stays claimed if its worker vanishes (0.1 to 86,400)."""
    max_payload_bytes: int = 32 * 1024
    """Largest serialized payload (1 to 16 MiB)."""

    @property
    def instances(self) -> Sequence[Instance]:
        """Every instance, in the order given."""
        return self.storage.instances

    @property
    def master(self) -> Instance:
        """The instance that holds locks and topology."""
        return self.instances[self.storage.master_index]

    @property
    def bucket_ms(self) -> int:
        """The bucket width in ms."""
        return round(self.storage.task_interval_seconds * 1000)

    @property
    def lease_ms(self) -> int:
        """The length of a lease in ms."""
        return round(self.lease_seconds * 1000)


_STORAGE_FIELDS = frozenset(option.name for option in fields(StorageOptions))
_TOP_FIELDS = frozenset(option.name for option in fields(Options)) - {"storage"}

# field: (lowest, highest, whole numbers only)
_RANGES: Mapping[str, tuple[float, float, bool]] = {
    "check_tasks_every_seconds": (0.05, 3600, False),
    "reconnect_interval_seconds": (0.05, 3600, False),
    "task_interval_seconds": (0.001, 86_400, False),
    "lease_seconds": (0.1, 86_400, False),
    "partitions": (1, 16_384, True),
    "concurrency": (1, 100_000, True),
    "max_payload_bytes": (1, 16 * 1024 * 1024, True),
    "master_index": (0, 100_000, True),
}
_CHOICES: Mapping[str, Sequence[str]] = {"evicting_servers": ("warn", "refuse")}


def load_options(
    given: object = None, overrides: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None
) -> Options:
    """Options from whatever the caller has, with `overrides` and then the `environment` on top.

    Raises:
        InvalidOptions: naming every wrong field at once.
    """
    problems: list[str] = []
    values = _flatten(given, problems)
    values |= _flatten(dict(overrides or {}), problems)
    variables = os.environ if environment is None else environment
    _warn_of_unknown(variables)
    labels = {name: f"storage.{name}" if name in _STORAGE_FIELDS else name for name in _STORAGE_FIELDS | _TOP_FIELDS}
    for variable, name in ENVIRONMENT.items():
        if text := variables.get(variable):
            values[name] = _from_environment(name, text)
            labels[name] += f" (from the environment variable {variable})"

    for name in values.keys() & _RANGES.keys():
        values[name] = _in_range(name, labels[name], values[name], problems)
    problems += [
        f"{labels[name]} is {values[name]!r}: use {' or '.join(map(repr, choices))}"
        for name, choices in _CHOICES.items()
        if name in values and values[name] not in choices
    ]
    namespace = values.get("namespace", "x")
    if not isinstance(namespace, str) or not re.fullmatch(r"[A-Za-z0-9_.\-]{1,100}", namespace):
        problems.append(f"{labels['namespace']} is {namespace!r}: use 1 to 100 letters, digits, '_', '.' or '-'")

    instances = _instances(values.pop("instances", (DEFAULT_URL,)), labels["instances"], problems)
    master = values.get("master_index", 0)
    if isinstance(master, int) and instances and master >= len(instances):
        allowed = "use 0 (there is one instance)"
        if len(instances) > 1:
            allowed = f"there are {len(instances)} instances, use 0 to {len(instances) - 1}"
        problems.append(f"{labels['master_index']} is {master}: {allowed}")
    if problems:
        raise InvalidOptions(problems)
    storage = {name: values.pop(name) for name in _STORAGE_FIELDS & values.keys()}
    return Options(StorageOptions(tuple(instances), **storage), **values)


def _flatten(given: object, problems: list[str]) -> dict[str, Any]:
    """Options in any accepted shape as one flat mapping; unknown names become problems."""
    if given is None:
        return {}
    if isinstance(given, Options):
        flat = {name: getattr(given, name) for name in _TOP_FIELDS}
        return flat | {name: getattr(given.storage, name) for name in _STORAGE_FIELDS}
    if isinstance(given, str | Instance):
        return {"instances": [given]}
    if isinstance(given, Sequence) and not isinstance(given, bytes):
        return {"instances": list(given)}
    if not isinstance(given, Mapping):
        problems.append(f"options are {_kind(given)}: use a URL, a list of URLs, a mapping or Options")
        return {}
    flat = dict(given)
    storage = flat.pop("storage", {})
    if isinstance(storage, StorageOptions):
        storage = {name: getattr(storage, name) for name in _STORAGE_FIELDS}
    if not isinstance(storage, Mapping):
        problems.append(f"storage is {_kind(storage)}: use a mapping such as {{'instances': […]}}")
        storage = {}
    known = f"use {', '.join(sorted(_STORAGE_FIELDS))}"
    problems += [f"storage.{name} is unknown: {known}" for name in storage if name not in _STORAGE_FIELDS]
    known = f"use storage, {', '.join(sorted(_TOP_FIELDS))}, or of the storage {', '.join(sorted(_STORAGE_FIELDS))}"
    problems += [f"{name} is unknown: {known}" for name in flat if name not in _TOP_FIELDS | _STORAGE_FIELDS]
    flat |= storage
    return {name: value for name, value in flat.items() if name in _TOP_FIELDS | _STORAGE_FIELDS}


def _from_environment(name: str, text: str) -> object:
    if name == "namespace" or name in _CHOICES:
        return text
    if name == "instances":
        # A comma inside a URL, as between Sentinels, separates nothing.
        parts = [part.strip(",") for part in text.split()]
        entries = [entry for part in parts for entry in re.split(r",+(?=(?:[^,=/]+=)?[a-z+]+://)", part)]
        return [named_instance(entry) for entry in entries if entry]
    try:
        return int(text) if _RANGES[name][2] else float(text)
    except ValueError:
        return text  # the range check names it


def named_instance(text: str) -> Any:
    """An entry of ``storage.instances`` from a URL, or from NAME=URL as environment and command line have it."""
    name, separator, url = text.partition("=")
    return {"name": name, "url": url} if separator and "://" not in name else text


def _warn_of_unknown(variables: Mapping[str, str]) -> None:
    """A misspelt variable would otherwise just have no effect."""
    unknown = sorted(
        variable
        for variable in variables
        if variable.startswith(_PREFIX) and variable not in ENVIRONMENT and variable not in _NO_OPTIONS
    )
    if unknown:
        warnings.warn(
            f"unknown environment variables: {', '.join(unknown)}; use {', '.join(ENVIRONMENT)}",
            stacklevel=_level_of_caller(),
        )


def _level_of_caller() -> int:
    """The stacklevel, for a warning of the calling function, of the first frame outside of this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == _PACKAGE:
        level += 1
        frame = frame.f_back
    return level


def _kind(value: object) -> str:
    """The type of a value with its article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _in_range(name: str, label: str, value: Any, problems: list[str]) -> Any:
    lowest, highest, whole = _RANGES[name]
    if isinstance(value, timedelta) and not whole:
        value = value.total_seconds()
    fits = isinstance(value, int) or (isinstance(value, float) and not whole)
    # Written so that NaN, which compares as false, is refused.
    if isinstance(value, bool) or not fits or not lowest <= value <= highest:
        number = "a whole number" if whole else "seconds"
        problems.append(f"{label} is {value!r}: use {number} from {lowest:,} to {highest:,}")
    return value


def _instances(given: object, label: str, problems: list[str]) -> list[Instance]:
    if isinstance(given, str | Mapping | Instance):
        given = [given]
    if not isinstance(given, Sequence) or isinstance(given, bytes) or not given:
        problems.append(f"{label} must be a list of at least one URL or mapping")
        return []
    instances = []
    for position, entry in enumerate(given):
        try:
            instances.append(_instance(entry))
        except ValueError as error:
            problems.append(f"{label.replace('instances', f'instances[{position}]', 1)}: {error}")
    names = [instance.name for instance in instances]
    problems += [
        f"{label}: {name!r} is there {names.count(name)} times; give each instance its own name"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    # What is an Instance already was loaded, and warned of, before.
    unnamed = any(
        not instance.named and instance.kind in ("redis", "sentinel") and not isinstance(entry, Instance)
        for instance, entry in zip(instances, given, strict=False)
    )
    if len(instances) > 1 and not problems and unnamed:
        warnings.warn(
            "instances without a name are known by their address: "
            "give each a 'name', so that it can move to another address",
            stacklevel=_level_of_caller(),
        )
    return instances


def _instance(entry: object) -> Instance:
    """One entry of storage.instances; ValueError says what is wrong with it."""
    if isinstance(entry, Instance):
        return entry
    if isinstance(entry, str):
        return _from_url(entry)
    if not isinstance(entry, Mapping):
        raise ValueError(f"is {_kind(entry)}: use a URL or a mapping")
    values = dict(entry)
    name, weight = values.pop("name", None), values.pop("weight", 1)
    if name is not None and (not isinstance(name, str) or not 1 <= len(name) <= 200):
        raise ValueError(f"name is {name!r}: use text of 1 to 200 characters")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e6:
        raise ValueError(f"weight is {weight!r}: use a number above 0")
    if "url" in values:
        url = values.pop("url")
        if not isinstance(url, str):
            raise ValueError(f"url is {url!r}: use text such as {DEFAULT_URL!r}")
        instance = _from_url(url)
        taken = sorted(values.keys() & {"host", "port", "db"})
        if taken:
            raise ValueError(f"{taken[0]} stands beside url: put it into the url")
    else:
        instance = _from_address(values)
    _check_extra(values)
    settings = {**instance.settings, **values}
    instance = replace(instance, settings=settings, weight=float(weight))
    return replace(instance, name=name, named=True) if name is not None else instance


def _check_extra(values: Mapping[str, object]) -> None:
    known = {"username", "password"}
    for name in values:
        if name not in known and not name.startswith("ssl"):
            raise ValueError(
                f"{name} is unknown: use url, or host, port, db, username, password, ssl_…; name and weight"
            )


def _from_address(values: dict[str, Any]) -> Instance:
    host, port, db = values.pop("host", "localhost"), values.pop("port", 6379), values.pop("db", 0)
    if not isinstance(host, str) or not host:
        raise ValueError(f"host is {host!r}: use a host name or address")
    if isinstance(port, str) and port.isdecimal():
        port = int(port)
    port, db = _port(port), _db(db)
    return Instance(f"{host}:{port}/{db}", "redis", {"host": host, "port": port, "db": db})


def _port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise ValueError(f"port is {port!r}: use a whole number from 1 to 65,535")
    return port


def _db(db: object) -> int:
    if isinstance(db, str) and db.isdecimal():
        db = int(db)
    if isinstance(db, bool) or not isinstance(db, int) or not 0 <= db <= 1_000_000:
        raise ValueError(f"db is {db!r}: use a whole number from 0")
    return db


def _from_url(url: str) -> Instance:
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"{_hide(url)!r} is not a URL: write it like {DEFAULT_URL!r}")
    if scheme == "embedded":
        if not rest:
            raise ValueError("embedded:// needs the path of a folder, such as embedded://./scheduler-data")
        return Instance(f"embedded:{os.path.abspath(rest)}", "embedded", {"path": rest}, named=True)
    if scheme == "memory":
        return Instance(f"memory:{rest}", "memory", {"name": rest}, named=True)
    if scheme == "redis+cluster":
        raise ValueError("redis+cluster:// is not supported yet: list the servers as separate instances")
    if scheme in ("unix", "redis", "rediss", "valkey", "valkeys", "redis+sentinel"):
        try:
            return _from_server_url(url, scheme)
        except UnicodeError as error:
            raise ValueError(f"{_hide(url)!r}: {error}") from error
    raise ValueError(
        f"scheme {scheme!r} is unknown: use redis, rediss, valkey, valkeys, redis+sentinel, unix, embedded or memory"
    )


def _from_server_url(url: str, scheme: str) -> Instance:
    # Here, because it takes two milliseconds to import.
    from urllib.parse import parse_qsl, unquote, urlsplit

    parts = urlsplit(url)
    settings: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in ("db", "username", "password", "sentinel_username", "sentinel_password") and not name.startswith(
            "ssl_"
        ):
            raise ValueError(f"query parameter {name!r} is unknown: use db, username, password or ssl_…")
        settings[name] = value
    if parts.username:
        settings["username"] = unquote(parts.username)
    if parts.password:
        settings["password"] = unquote(parts.password)
    if scheme == "unix":
        path = unquote(parts.path)
        settings |= {"path": path, "db": _db(settings.get("db", 0))}
        if not path:
            raise ValueError("unix:// needs the path of a socket, such as unix:///run/redis.sock")
        return Instance(f"{path}/{settings['db']}", "redis", settings)
    path = unquote(parts.path).strip("/")
    if scheme == "redis+sentinel":
        return _from_sentinel_url(parts.netloc.rpartition("@")[2], path, settings)
    settings["db"] = _db(path or settings.get("db", 0))
    try:
        port = parts.port
    except ValueError as error:
        raise ValueError(f"port of {_hide(url)!r} is wrong: use a whole number from 1 to 65,535") from error
    settings["host"] = parts.hostname or "localhost"
    settings["port"] = _port(6379 if port is None else port)
    if scheme in ("rediss", "valkeys"):
        settings["ssl"] = True
    return Instance(f"{settings['host']}:{settings['port']}/{settings['db']}", "redis", settings)


def _from_sentinel_url(hosts: str, path: str, settings: dict[str, Any]) -> Instance:
    service, _, db = path.partition("/")
    if not service or not hosts:
        raise ValueError(
            "redis+sentinel:// needs hosts and a service: redis+sentinel://host:26379,host2:26379/service/0"
        )
    sentinels = []
    for entry in hosts.split(","):
        host, _, port = entry.partition(":")
        sentinels.append((host, _port(int(port) if port.isdecimal() else port or 26379)))
    settings |= {"db": _db(db or 0), "sentinels": sentinels, "service": service}
    return Instance(f"{service}/{settings['db']}", "sentinel", settings)


def _hide(url: str) -> str:
    """A URL for a message, without its password."""
    return re.sub(r"(://[^/@]*:)[^/@]*@", r"\1***@", url)
