"""Redis instances: an entry of ``storage.instances``, given as a URL or a mapping, as a value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..support.text import repr_of, short_repr, type_with_article
from .tls import TLS_OPTIONS, switch, tls_settings
from .urls import (
    DEFAULT_URL,
    check_scheme,
    database,
    host_name,
    port_number,
    server_settings,
    shown_address,
    split_url,
    suggestion,
)

_LOGIN = frozenset({"username", "password"})
_OF_SENTINELS = frozenset({"sentinel_username", "sentinel_password"})
_ADDRESS = {
    "redis": frozenset({"host", "port", "path", "db"}),
    "sentinel": frozenset({"sentinels", "service", "db"}),
    "embedded": frozenset({"path"}),
    "memory": frozenset({"name"}),
}
"""The settings that say where an instance of each kind is."""


@dataclass(frozen=True, slots=True, repr=False)
class Instance:
    """One Redis server: a stable name, a weight, and how to reach it.

    `kind` is "redis", "sentinel", "embedded" or "memory". `settings` are the arguments of a redis-py connection; of an
    embedded server its path; of a memory one its name. `named`: whether the name is more than an address, which may
    change.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    weight: float = 1.0
    named: bool = False

    def __repr__(self) -> str:  # without settings, which may hold a password
        return repr_of(self, short_repr(self.name), repr(self.kind), f"weight={self.weight:g}")


def named_instance(text: str) -> str | dict[str, str]:
    """An entry of ``storage.instances`` from a URL, or from NAME=URL as environment and command line have it."""
    name, separator, url = text.partition("=")
    return {"name": name, "url": url} if separator and "://" not in name else text


def same_addresses(instances: Sequence[Instance], label: str) -> list[str]:
    """The problems of instances that have names of their own but one address."""
    seen: dict[tuple[object, ...], int] = {}
    problems = []
    for position, instance in enumerate(instances):
        first = seen.setdefault(_address(instance), position)
        if instance.name != instances[first].name:
            what = f"{label}[{first}] and [{position}] have the same address"
            problems.append(f"{what}: a server must be there once, or with databases of its own (/0, /1)")
    return problems


def _address(instance: Instance) -> tuple[object, ...]:
    settings = instance.settings
    if instance.kind == "sentinel":
        where: object = (sorted(settings["sentinels"]), settings["service"])
    elif instance.kind == "embedded":
        where = os.path.abspath(settings["path"])
    else:
        where = settings.get("path") or settings.get("name") or (settings.get("host", "").lower(), settings.get("port"))
    return instance.kind, repr(where), settings.get("db", 0)


def parse_instance(entry: object) -> Instance:
    """One entry of ``storage.instances`` as a value. An `Instance` is checked like everything else.

    Raises:
        ValueError: saying what is wrong with it, but nothing that may be a part of a password.
    """
    if isinstance(entry, Instance):
        return _checked(entry)
    if isinstance(entry, str):
        return _from_url(entry, {})
    if not isinstance(entry, Mapping):
        raise ValueError(f"is {type_with_article(entry)}: use a URL or a mapping")
    values = dict(entry)
    name, weight = values.pop("name", None), values.pop("weight", 1)
    if name is not None:
        _check_name(name)
    _check_weight(weight)
    instance = _from_url(values.pop("url"), values) if "url" in values else _from_address(values)
    instance = replace(instance, weight=float(weight))
    return replace(instance, name=name, named=True) if name is not None else instance


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        raise ValueError(f"name is {_what(name)}: use text of 1 to 200 characters")
    if "://" in name or "@" in name:
        raise ValueError("name is like a URL: use a name without :// and @, because logs and messages show it")


def _check_weight(weight: object) -> None:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e6:
        shown = f"a {type(weight).__name__}" if isinstance(weight, str) else _what(weight)
        raise ValueError(f"weight is {shown}: use a number above 0, up to a million")


def _checked(instance: Instance) -> Instance:
    """An `Instance` whose settings are checked and typed; the same one if nothing had to be changed."""
    if instance.kind not in _ADDRESS:
        raise ValueError(f"kind is not known: use {', '.join(_ADDRESS)}")
    if instance.named:
        _check_name(instance.name)
    _check_weight(instance.weight)
    values = dict(instance.settings)
    where = {name: values.pop(name) for name in _ADDRESS[instance.kind] & values.keys()}
    if instance.kind == "redis" and "path" not in where:
        where |= {"host": host_name(where.get("host")), "port": port_number(where.get("port", 6379))}
    if instance.kind in ("redis", "sentinel"):
        where["db"] = database(where.get("db", 0))
    if instance.kind == "sentinel":
        where["sentinels"] = [(host_name(host), port_number(port)) for host, port in where.get("sentinels", ())]
    needed = {"redis": "db", "sentinel": "service", "embedded": "path", "memory": "name"}[instance.kind]
    if needed not in where or (instance.kind == "sentinel" and not where.get("sentinels")):
        raise ValueError(f"settings lack {needed}: make the instance from a URL")
    settings = where | _more_settings(values, instance.kind, has_tls="path" not in where)
    # 1 is equal to True, but it is no switch that was checked.
    same = settings == instance.settings and all(
        type(settings[name]) is type(instance.settings[name]) for name in settings
    )
    return instance if same else replace(instance, settings=settings)


def _from_url(url: object, values: dict[str, Any]) -> Instance:
    """An instance from a URL, and from what a mapping gives besides it."""
    if not isinstance(url, str):
        raise ValueError(f"url is {_what(url)}: use text such as {DEFAULT_URL!r}")
    scheme, rest = split_url(url)
    if scheme in ("embedded", "memory"):
        if values:
            _refuse_unknown(values, ())
        return _private(scheme, rest)
    settings = server_settings(scheme, rest)
    kind = "sentinel" if "service" in settings else "redis"
    taken = sorted(name for name in values if name in ("host", "port", "db"))
    taken += sorted(name for name in values.keys() & settings.keys() - {"ssl"} if values[name] != settings[name])
    if taken:
        raise ValueError(f"{taken[0]} is given besides url: write it into the url only")
    if "ssl" in values:
        given = switch("ssl", values.pop("ssl"))
        if kind != "sentinel" or "ssl" in settings:
            check_scheme(given, "ssl" in settings, scheme)
        if given:
            settings["ssl"] = True
    address = {name: settings.pop(name) for name in _ADDRESS[kind] & settings.keys()}
    settings = address | _more_settings(settings | values, kind, has_tls=scheme != "unix")
    return Instance(shown_address(settings), kind, settings)


def _private(scheme: str, rest: str) -> Instance:
    # Neither has a login, and both are shown as a name: what looks like a login or a query is a mistake.
    if re.match(r"[^@]*:[^@]*@", rest) or "?" in rest:
        raise ValueError(f"{scheme}:// takes no login and no options: remove what has @ or ? in it")
    if scheme == "memory":
        if "@" in rest:
            raise ValueError("memory:// takes no login: remove the @ and what is before it")
        return Instance(f"memory:{rest}", "memory", {"name": rest}, named=True)
    if not rest:
        raise ValueError("embedded:// needs the path of a folder, such as embedded://./scheduler-data")
    return Instance(f"embedded:{os.path.abspath(rest)}", "embedded", {"path": rest}, named=True)


def _from_address(values: dict[str, Any]) -> Instance:
    settings = {
        "host": host_name(values.pop("host", "localhost")),
        "port": port_number(values.pop("port", 6379)),
        "db": database(values.pop("db", 0)),
    }
    return Instance(shown_address(settings), "redis", settings | _more_settings(values, "redis", has_tls=True))


def _more_settings(values: Mapping[str, Any], kind: str, *, has_tls: bool) -> dict[str, Any]:
    """The settings besides the address, checked: login and TLS."""
    if kind in ("embedded", "memory"):
        _refuse_unknown(values, ())
        return {}
    texts = _LOGIN | (_OF_SENTINELS if kind == "sentinel" else frozenset())
    switches = ("ssl", "sentinel_ssl") if kind == "sentinel" else ("ssl",)
    _refuse_unknown(values, {*texts, *switches, *TLS_OPTIONS})
    settings: dict[str, Any] = {}
    for name in sorted(texts & values.keys()):
        if values[name] is not None and not isinstance(values[name], str):
            raise ValueError(f"{name} is {type_with_article(values[name])}: use text")
        if values[name]:
            settings[name] = values[name]
    tls = [switch("ssl", values["ssl"]) if "ssl" in values else False]
    if kind == "sentinel":
        # Sentinels are spoken to as the servers are, unless it is said otherwise.
        tls.append(switch("sentinel_ssl", values["sentinel_ssl"]) if "sentinel_ssl" in values else tls[0])
    if any(tls):
        settings |= dict(zip(switches, tls, strict=True))
    if settings.get("ssl") and not has_tls:
        raise ValueError("ssl is on, but a unix socket has no TLS: leave it out")
    given = {name: value for name, value in values.items() if name in TLS_OPTIONS and value is not None}
    if given and not any(tls):
        raise ValueError(f"{min(given)} is given, but TLS is not used: write rediss:// (ssl: true), or leave it out")
    return settings | tls_settings({name: values[name] for name in values if name in TLS_OPTIONS})


def _refuse_unknown(values: Mapping[Any, Any], known: Any) -> None:
    for name in values:
        if name not in known:
            shown = f"{name} is" if isinstance(name, str) and re.fullmatch(r"[A-Za-z_]{1,30}", name) else "a field is"
            close = suggestion(name, known) if isinstance(name, str) else ""
            what = "unknown" if known else "without effect here"
            raise ValueError(
                f"{shown} {what}{close}: use url, or host, port, db, username, password, ssl, ssl_…; name and weight"
            )


def _what(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return short_repr(value, 20)
    return "too long or empty" if isinstance(value, str) else type_with_article(value)
