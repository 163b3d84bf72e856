"""Options: what `Scheduler` and `AsyncScheduler` take, checked whole before anything is connected.

They are given in one of the shapes of `OptionsGiven`. Keyword arguments (`OptionFields`) override them, and environment
variables (`ENVIRONMENT`) override both, but not a namespace that a program names: two schedulers of one program would
silently share their tasks. A new option is a field of `Options` or `StorageOptions` and a line each in
`OptionFields`, `_RANGES` (or `_CHOICES`) and `ENVIRONMENT`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Literal, TypedDict

from ..support.numbers import plain_number, seconds_of
from ..support.text import repr_of, short_repr, type_with_article
from ..support.warning import warn_caller
from .errors import InvalidOptions
from .instances import Instance, named_instance, parse_instance, same_addresses
from .urls import DEFAULT_URL

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
"""The option that each environment variable sets.

``INTERVAL_SCHEDULER_INSTANCES`` holds URLs, or NAME=URL, separated by spaces or commas.
"""
_PREFIX = "INTERVAL_SCHEDULER_"
_QUOTES = "leave them out, because they became a part of the value (as in a file for `docker run --env-file`)"
_NO_OPTIONS = frozenset({"INTERVAL_SCHEDULER_REDIS"})
"""Variables with the prefix that are for the tests."""
_OF_KUBERNETES = (
    rf"{_PREFIX}(\w+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(?==\w+://)|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)="
)
"""NAME=VALUE of the variables that Kubernetes makes of a service whose name begins like the prefix."""


InstanceGiven = str | Mapping[str, Any] | Instance
"""One instance: a URL, a mapping with ``url`` (or ``host``, ``port``, …), ``name`` and ``weight``, or a value."""
Seconds = float | timedelta


@dataclass(frozen=True, slots=True, repr=False)
class StorageOptions:
    """Where tasks are kept."""

    instances: Sequence[Any] = (DEFAULT_URL,)
    """URLs, mappings, or `Instance` values; after loading a tuple of `Instance`."""
    master_index: int = 0
    """Which instance, counted from 0, holds locks and the topology."""
    reconnect_interval_seconds: float = 1.0
    """Longest pause between attempts to reach an instance that is down, in seconds (0.05 to 3,600)."""
    task_interval_seconds: float = 60.0
    """Bucket width in seconds (0.001 to 86,400), fixed when a namespace is created. Due times stay exact to 1 ms."""
    evicting_servers: Literal["warn", "refuse"] = "warn"
    """What to do about a server that deletes keys when its memory is full (a maxmemory-policy other than noeviction,
    and a maxmemory): log an error, or refuse to work with it. Checked whenever a connection is made."""

    def __repr__(self) -> str:
        return repr_of(self, instance_names(self.instances), *_changed(self, _PLAIN_STORAGE, skip="instances"))


_PLAIN_STORAGE = StorageOptions()


@dataclass(frozen=True, slots=True, repr=False)
class Options:
    """Everything that can be set; ``docs/reference.md`` has a table."""

    storage: StorageOptions = field(default_factory=StorageOptions)
    check_tasks_every_seconds: float = 10.0
    """How often workers look at all partitions, in seconds (0.05 to 3,600). They also wake at every due time."""
    namespace: str = "interval-scheduler"
    """Keeps applications on the same servers apart: letters, digits, ``_``, ``.`` and ``-``, at most 100."""
    partitions: int = 64
    """Shares of the id space (1 to 16,384), fixed when a namespace is created."""
    concurrency: int = 100
    """Most handlers running at once in one worker (1 to 100,000)."""
    lease_seconds: float = 15.0
    """How long a claimed task stays claimed after its worker vanished, in seconds (0.1 to 86,400)."""
    max_payload_bytes: int = 32 * 1024
    """Largest serialized payload in bytes (1 to 16 MiB)."""

    def __repr__(self) -> str:
        changed = _changed(self, _PLAIN, skip="namespace storage")
        changed += _changed(self.storage, _PLAIN_STORAGE, skip="instances")
        return repr_of(self, repr(self.namespace), instance_names(self.storage.instances), *changed)

    @property
    def instances(self) -> Sequence[Instance]:
        """Every instance, in the order given."""
        return self.storage.instances

    @property
    def master(self) -> Instance:
        """The instance that holds locks and the topology."""
        return self.instances[self.storage.master_index]

    @property
    def bucket_ms(self) -> int:
        """The bucket width in ms."""
        return round(self.storage.task_interval_seconds * 1000)

    @property
    def lease_ms(self) -> int:
        """The length of a lease in ms."""
        return round(self.lease_seconds * 1000)


class OptionFields(TypedDict, total=False):
    """Single options as keyword arguments: the fields of `Options` and of `StorageOptions`, as they may be given."""

    instances: InstanceGiven | Sequence[InstanceGiven]
    """Where tasks are kept: URLs such as ``redis://host:6379/0``, mappings with ``url``, ``name`` and ``weight``."""
    master_index: int
    """Which instance, counted from 0, holds locks and the topology (default 0)."""
    reconnect_interval_seconds: Seconds
    """Longest pause between attempts to reach an instance that is down (0.05 to 3,600; default 1)."""
    task_interval_seconds: Seconds
    """Bucket width (0.001 to 86,400; default 60), fixed when a namespace is created. Due times stay exact to 1 ms."""
    evicting_servers: Literal["warn", "refuse"]
    """What to do about a server that deletes keys when its memory is full (default ``"warn"``)."""
    storage: StorageOptions | Mapping[str, Any]
    """The five above together."""
    check_tasks_every_seconds: Seconds
    """How often workers look at all partitions (0.05 to 3,600; default 10). They also wake at every due time."""
    namespace: str
    """Keeps applications on the same servers apart (default ``"interval-scheduler"``)."""
    partitions: int
    """Shares of the id space (1 to 16,384; default 64), fixed when a namespace is created."""
    concurrency: int
    """Most handlers running at once in one worker (1 to 100,000; default 100)."""
    lease_seconds: Seconds
    """How long a claimed task stays claimed after its worker vanished (0.1 to 86,400; default 15)."""
    max_payload_bytes: int
    """Largest serialized payload (1 to 16 MiB; default 32 KiB)."""


OptionsGiven = InstanceGiven | Sequence[InstanceGiven] | Options | None
"""Options in one argument: a URL, a list of URLs or mappings, a mapping ``{"namespace": …, "storage": {…}}``, an
`Options` value, or None for ``redis://localhost:6379/0``."""

_PLAIN = Options()
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
    """Options in any accepted shape, overridden by `overrides` and then by the `environment` (default: of the process).

    Raises:
        InvalidOptions: naming every wrong field at once.
    """
    problems: list[str] = []
    values = _flatten(given, problems)
    if isinstance(given, Options) and given.namespace == _PLAIN.namespace:
        del values["namespace"]  # nobody named it
    values |= _flatten(dict(overrides or {}), problems)
    variables = os.environ if environment is None else environment
    problems += _unknown_variables(variables)
    labels = {name: f"storage.{name}" if name in _STORAGE_FIELDS else name for name in _STORAGE_FIELDS | _TOP_FIELDS}
    for variable, name in ENVIRONMENT.items():
        text = variables.get(variable)
        if text and text.lstrip()[:1] in ("'", '"'):
            problems.append(f"the environment variable {variable} is in quotes: {_QUOTES}")
        elif text and not (name == "namespace" and name in values):
            values[name] = _from_environment(name, text)
            labels[name] += f" (from the environment variable {variable})"

    _check_values(values, labels, problems)
    instances = _instances(values.pop("instances", (DEFAULT_URL,)), labels["instances"], problems)
    master = values.get("master_index", 0)
    if isinstance(master, int) and instances and master >= len(instances):
        allowed = "use 0, because there is one instance"
        if len(instances) > 1:
            allowed = f"use 0 to {len(instances) - 1}, because there are {len(instances)} instances"
        problems.append(f"{labels['master_index']} is {master}: {allowed}")
    if problems:
        raise InvalidOptions(problems)
    storage = {name: values.pop(name) for name in _STORAGE_FIELDS & values.keys()}
    return Options(StorageOptions(tuple(instances), **storage), **values)


def _check_values(values: dict[str, Any], labels: Mapping[str, str], problems: list[str]) -> None:
    """Checks all options but the instances, each by itself. Durations become seconds."""
    for name in values.keys() & _RANGES.keys():
        values[name] = _in_range(name, labels[name], values[name], problems)
    problems += [
        f"{labels[name]} is {_shown(values[name])}: use {' or '.join(map(repr, choices))}"
        for name, choices in _CHOICES.items()
        if name in values and values[name] not in choices
    ]
    namespace = values.get("namespace", "x")
    if not isinstance(namespace, str) or not re.fullmatch(r"[A-Za-z0-9_.\-]{1,100}", namespace):
        allowed = "use 1 to 100 letters, digits, '_', '.' or '-'"
        problems.append(f"{labels['namespace']} is {_shown(namespace)}: {allowed}")


def check_logger(logger: Any) -> None:
    """Checks the logger of a scheduler.

    Raises:
        InvalidOptions: where it has no method ``warning``.
    """
    if logger is not None and not callable(getattr(logger, "warning", None)):
        raise InvalidOptions([f"logger is {short_repr(logger)}: pass a structlog or standard library logger"])


def instance_names(instances: object) -> str:
    """Instances for a repr: the name of the first one, and how many there are. No URL, which may hold a password."""
    if isinstance(instances, str | Mapping | Instance) or not isinstance(instances, Sequence) or not instances:
        instances = [instances]
    try:
        first = short_repr(parse_instance(instances[0]).name, 50)
    except ValueError:
        first = "a wrong instance"
    return first if len(instances) == 1 else f"{first} and {len(instances) - 1} more"


def _changed(options: Options | StorageOptions, plain: Options | StorageOptions, skip: str) -> list[str]:
    """The options that are not at their default, for a repr."""
    names = (option.name for option in fields(options) if option.name not in skip.split())
    values = ((name, getattr(options, name)) for name in names)
    return [f"{name}={short_repr(value, 20)}" for name, value in values if value != getattr(plain, name)]


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
        problems.append(f"options are {type_with_article(given)}: use a URL, a list of URLs, a mapping or Options")
        return {}
    flat = dict(given)
    storage = flat.pop("storage", {})
    if isinstance(storage, StorageOptions):
        storage = {name: getattr(storage, name) for name in _STORAGE_FIELDS}
    if not isinstance(storage, Mapping):
        problems.append(f"storage is {type_with_article(storage)}: use a mapping such as {{'instances': […]}}")
        storage = {}
    known = f"use {', '.join(sorted(_STORAGE_FIELDS))}"
    problems += [
        f"storage.{_shown_name(name)} is unknown: {_nearest(name, _STORAGE_FIELDS) or known}"
        for name in storage
        if name not in _STORAGE_FIELDS
    ]
    known = f"use storage, {', '.join(sorted(_TOP_FIELDS))}, or of the storage {', '.join(sorted(_STORAGE_FIELDS))}"
    problems += [
        f"{_shown_name(name)} is unknown: {_nearest(name, _TOP_FIELDS | _STORAGE_FIELDS) or known}"
        for name in flat
        if name not in _TOP_FIELDS | _STORAGE_FIELDS
    ]
    flat |= storage
    return {name: value for name, value in flat.items() if name in _TOP_FIELDS | _STORAGE_FIELDS}


def _shown(value: object) -> str:
    """A wrong value for a message. A URL that stands in the wrong place may hold a password."""
    return "a URL" if isinstance(value, str) and ("://" in value or "@" in value) else short_repr(value)


def _shown_name(name: object) -> str:
    is_one = isinstance(name, str) and name.replace(".", "").isidentifier() and len(name) <= 40
    return str(name) if is_one else "a field with a name of other characters than letters, digits and _"


def _nearest(name: object, names: Collection[str], prefix: str = "") -> str:
    """What is meant by a misspelt name, as advice; "" where that cannot be told. ``storage.`` may stand before it."""
    from difflib import get_close_matches  # imported here: rarely needed

    plain = name.rpartition(".")[2] if isinstance(name, str) else ""
    meant = get_close_matches(plain, names, 1)
    return f"use {prefix}{meant[0]}" if meant else ""


def _from_environment(name: str, text: str) -> object:
    if name == "namespace" or name in _CHOICES:
        return text
    if name == "instances":
        # A comma or a space inside a URL, as between Sentinels, does not end it: the next one has a scheme.
        entries = re.split(r"[\s,]+(?=(?:[^\s,=/]+=)?[A-Za-z+]+://)", text)
        return [named_instance(entry) for entry in (entry.strip(", \t\r\n") for entry in entries) if entry]
    try:
        return int(text) if _RANGES[name][2] else float(text)
    except ValueError:
        return text  # the range check reports it


def _unknown_variables(variables: Mapping[str, str]) -> list[str]:
    """What is wrong with variables that have our prefix and set no option: a misspelt one would have no effect."""
    unknown = sorted(
        variable
        for variable in variables.keys() - ENVIRONMENT.keys() - _NO_OPTIONS
        if variable.startswith(_PREFIX) and not re.match(_OF_KUBERNETES, f"{variable}={variables[variable]}")
    )
    known = f"unset it, or use {', '.join(ENVIRONMENT)}"
    names = [name.removeprefix(_PREFIX) for name in ENVIRONMENT]
    return [
        f"the environment variable {name} is unknown: {_nearest(name.removeprefix(_PREFIX), names, _PREFIX) or known}"
        for name in unknown
    ]


def _in_range(name: str, label: str, value: Any, problems: list[str]) -> Any:
    lowest, highest, whole = _RANGES[name]
    number = plain_number(value) if whole else seconds_of(value)
    # Written so that NaN, which compares as false, is refused.
    if number is None or (whole and isinstance(number, float)) or not lowest <= number <= highest:
        unit = "a whole number" if whole else "seconds"
        problems.append(f"{label} is {_shown(value)}: use {unit} from {lowest:,} to {highest:,}")
        return value
    return number


def _instances(given: object, label: str, problems: list[str]) -> list[Instance]:
    if isinstance(given, str | Mapping | Instance):
        given = [given]
    if not isinstance(given, Sequence) or isinstance(given, bytes) or not given:
        problems.append(f"{label} must be a list of at least one URL or mapping")
        return []
    instances = []
    for position, entry in enumerate(given):
        try:
            instances.append(parse_instance(entry))
        except ValueError as error:
            problems.append(f"{label.replace('instances', f'instances[{position}]', 1)}: {error}")
    names = [instance.name for instance in instances]
    problems += [
        f"{label}: {short_repr(name)} is there {names.count(name)} times: give each instance a name of its own"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    problems += same_addresses(instances, label)
    # An `Instance` comes from options that were loaded, and warned of, before.
    unnamed = any(
        not instance.named and instance.kind in ("redis", "sentinel") and not isinstance(entry, Instance)
        for instance, entry in zip(instances, given, strict=False)
    )
    if len(instances) > 1 and not problems and unnamed:
        warn_caller(
            "instances without a name are named by their address: give each one a 'name', "
            "so that it can move to another address"
        )
    return instances
