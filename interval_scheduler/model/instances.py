"""Redis instances: an entry of ``storage.instances``, given as a URL or a mapping, as a value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..support.text import repr_of, short_repr, type_with_article

DEFAULT_URL = "redis://localhost:6379/0"


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


def parse_instance(entry: object) -> Instance:
    """One entry of ``storage.instances`` as a value.

    Raises:
        ValueError: saying what is wrong with it.
    """
    if isinstance(entry, Instance):
        return entry
    if isinstance(entry, str):
        return _from_url(entry)
    if not isinstance(entry, Mapping):
        raise ValueError(f"is {type_with_article(entry)}: use a URL or a mapping")
    values = dict(entry)
    name, weight = values.pop("name", None), values.pop("weight", 1)
    if name is not None and (not isinstance(name, str) or not 1 <= len(name) <= 200):
        raise ValueError(f"name is {short_repr(name)}: use text of 1 to 200 characters")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1e6:
        raise ValueError(f"weight is {short_repr(weight)}: use a number above 0, up to a million")
    if "url" in values:
        url = values.pop("url")
        if not isinstance(url, str):
            raise ValueError(f"url is {short_repr(url)}: use text such as {DEFAULT_URL!r}")
        instance = _from_url(url)
        taken = sorted(values.keys() & {"host", "port", "db"})
        if taken:
            raise ValueError(f"{taken[0]} is given besides url: write it into the url")
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
        raise ValueError(f"host is {short_repr(host)}: use a host name or address")
    if isinstance(port, str) and port.isdecimal():
        port = int(port)
    port, db = _port(port), _db(db)
    return Instance(f"{host}:{port}/{db}", "redis", {"host": host, "port": port, "db": db})


def _port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise ValueError(f"port is {short_repr(port)}: use a whole number from 1 to 65,535")
    return port


def _db(db: object) -> int:
    if isinstance(db, str) and db.isdecimal():
        db = int(db)
    if isinstance(db, bool) or not isinstance(db, int) or not 0 <= db <= 1_000_000:
        raise ValueError(f"db is {short_repr(db)}: use a whole number from 0")
    return db


def _from_url(url: str) -> Instance:
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"{short_repr(_without_password(url))} is not a URL: write it like {DEFAULT_URL!r}")
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
            raise ValueError(f"{short_repr(_without_password(url))}: {error}") from error
    raise ValueError(
        f"scheme {scheme!r} is unknown: use redis, rediss, valkey, valkeys, redis+sentinel, unix, embedded or memory"
    )


def _from_server_url(url: str, scheme: str) -> Instance:
    # Imported here, because it takes two milliseconds.
    from urllib.parse import parse_qsl, unquote, urlsplit

    parts = urlsplit(url)
    settings: dict[str, Any] = {}
    query = parse_qsl(parts.query, keep_blank_values=True)
    if scheme != "unix" and any("@" in part for part in (parts.path, parts.fragment, *(name for name, _ in query))):
        raise ValueError(f"{short_repr(_without_password(url))}: write / as %2F, ? as %3F and # as %23 in a password")
    for name, value in query:
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
        raise ValueError(
            f"port of {short_repr(_without_password(url))} is wrong: use a whole number from 1 to 65,535"
        ) from error
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


def _without_password(url: str) -> str:
    """A URL for a message. Also a wrong one, so everything from the first colon to the last @ counts as a password."""
    url = re.sub(r"(//[^:/@]*:).*@", r"\1***@", url)
    return re.sub(r"([?&](?:sentinel_)?password=)[^&]*", r"\1***", url)
