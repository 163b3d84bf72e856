"""Where tasks are kept: what an entry of ``storage.instances`` says, as a URL or a mapping."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..support.text import type_with_article

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


def named_instance(text: str) -> Any:
    """An entry of ``storage.instances`` from a URL, or from NAME=URL as environment and command line have it."""
    name, separator, url = text.partition("=")
    return {"name": name, "url": url} if separator and "://" not in name else text


def parse_instance(entry: object) -> Instance:
    """One entry of storage.instances; ValueError says what is wrong with it."""
    if isinstance(entry, Instance):
        return entry
    if isinstance(entry, str):
        return _from_url(entry)
    if not isinstance(entry, Mapping):
        raise ValueError(f"is {type_with_article(entry)}: use a URL or a mapping")
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
