"""URLs of instances, taken apart strictly.

Nothing of a wrong URL may be shown, because any part of it may be a part of a password that was not quoted. So the
messages name the rule and the place only. And nothing is guessed: a URL that could mean two servers is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ..support.text import type_with_article
from .tls import TLS_OPTIONS

DEFAULT_URL = "redis://localhost:6379/0"
SCHEMES = "redis, rediss, valkey, valkeys, redis+sentinel, rediss+sentinel, unix, embedded or memory"

_TLS_OF_SCHEME = {"redis": False, "rediss": True, "valkey": False, "valkeys": True, "unix": False}
_LOGIN = frozenset({"username", "password"})
_OF_SENTINELS = frozenset({"sentinel_username", "sentinel_password", "sentinel_ssl"})
_IN_QUERY = frozenset({"db", "ssl"}) | _LOGIN | TLS_OPTIONS
# What is shown of a wrong URL: schemes and parameters that others have. Anything else may be a part of a password.
_SCHEMES_OF_OTHERS = frozenset(
    {"http", "https", "tcp", "tls", "ssl", "amqp", "amqps", "sentinel", "file", "postgresql"}
)
_PARAMETERS_OF_OTHERS = frozenset(
    {
        *(
            "client_name",
            "decode_responses",
            "encoding",
            "health_check_interval",
            "max_connections",
            "name",
            "namespace",
        ),
        *(
            "protocol",
            "retry_on_error",
            "retry_on_timeout",
            "socket_connect_timeout",
            "socket_keepalive",
            "socket_timeout",
        ),
        *("timeout", "tls", "user", "weight"),
    }
)
_QUOTED = "in a password write / as %2F, ? as %3F, # as %23, @ as %40, % as %25 and a space as %20"


def split_url(url: str) -> tuple[str, str]:
    """The scheme, in small letters, and what follows it.

    Raises:
        ValueError: saying what is wrong with the URL; this and all below show nothing of it.
    """
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator:
        raise ValueError(f"this is not a URL: write it like {DEFAULT_URL!r}")
    if scheme == "redis+cluster":
        raise ValueError("redis+cluster:// is not supported yet: list the servers as separate instances")
    if scheme not in _TLS_OF_SCHEME and scheme not in ("redis+sentinel", "rediss+sentinel", "embedded", "memory"):
        raise ValueError(f"the scheme {scheme + ' ' if scheme in _SCHEMES_OF_OTHERS else ''}is unknown: use {SCHEMES}")
    if re.search(r"[\x00-\x1f\x7f]", rest):
        raise ValueError("the URL has a line break or another control character in it: remove it, or quote it by %")
    return scheme, rest


def server_settings(scheme: str, rest: str) -> dict[str, Any]:
    """The settings that the URL of a server, or of Sentinels, gives: host and port, path, or sentinels and service."""
    before, query = _split_query(scheme, rest)
    authority, _, path = before.partition("/")
    login, at, hosts = authority.rpartition("@")
    sentinel = scheme.endswith("+sentinel")
    settings = _query_settings(query, _IN_QUERY | (_OF_SENTINELS if sentinel else frozenset()))
    _add_login(settings, login)
    if sentinel:
        settings |= _sentinels(hosts)
        settings["service"], path = _service(path)
    elif scheme == "unix":
        if hosts:
            raise ValueError(
                "unix:// is followed by something that is no path: use three slashes, unix:///run/redis.sock"
            )
        if not path:
            raise ValueError("unix:// needs the path of a socket, such as unix:///run/redis.sock")
        settings["path"] = "/" + decode("the path", path)
        path = ""
    else:
        settings["host"], settings["port"] = _plain_address(hosts, at)
    if path.rstrip("/"):
        if "db" in settings:
            raise ValueError("the database is given twice, as path and as db=: leave one of them out")
        settings["db"] = path.rstrip("/")
    settings["db"] = database(settings.get("db", 0))
    _add_tls(settings, scheme)
    return settings


def _split_query(scheme: str, rest: str) -> tuple[str, str]:
    if "#" in rest:
        raise ValueError(f"the URL has a # in it, behind which everything would be ignored: {_QUOTED}")
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    # A socket may have an @ in its path, as /run/user@1000.service/redis.sock, unless there is a login before it.
    if "@" in query or ("@" in path and (scheme != "unix" or authority)):
        raise ValueError(f"the URL has an @ behind the first / or ?, so that its host is in doubt: {_QUOTED}")
    if re.search(r"\s", query) or (scheme != "unix" and re.search(r"\s", path)):
        raise ValueError(f"the URL has a space in it: {_QUOTED}")
    return before, query


def _query_settings(query: str, known: Collection[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for number, part in enumerate(query.split("&") if query else (), 1):
        name, _, value = part.partition("=")
        if name not in known:
            which = name if name in _PARAMETERS_OF_OTHERS else number
            close = suggestion(name, known)
            raise ValueError(f"query parameter {which} is unknown{close}: use {', '.join(sorted(known))}")
        if name in settings:
            raise ValueError(f"query parameter {name} is there twice: leave one of them out")
        settings[name] = decode(f"query parameter {name}", value)
        if not settings[name] and name not in _LOGIN | _OF_SENTINELS:
            raise ValueError(f"query parameter {name} has no value: give one, or leave it out")
    return settings


def suggestion(name: str, known: Collection[str]) -> str:
    """Which of the known names was probably meant."""
    import difflib

    close = difflib.get_close_matches(name[:40].lower(), known, 1, 0.75)
    return f" (is {close[0]} meant?)" if close else ""


def _add_login(settings: dict[str, Any], login: str) -> None:
    if re.search(r"\s", login):
        raise ValueError(f"the username or the password has a space in it: {_QUOTED}")
    username, _, password = login.partition(":")
    for name, text in (("username", username), ("password", password)):
        if not text:
            continue
        if name in settings:
            raise ValueError(f"{name} is given twice, before the host and in the query: leave one of them out")
        settings[name] = decode(f"the {name}", text)


def _add_tls(settings: dict[str, Any], scheme: str) -> None:
    """Lets the scheme say whether TLS is used; the parameter ``ssl`` may only repeat it, but for Sentinels."""
    from .tls import switch

    of_scheme = scheme == "rediss+sentinel" if scheme.endswith("+sentinel") else _TLS_OF_SCHEME[scheme]
    given = switch("ssl", settings.pop("ssl")) if "ssl" in settings else of_scheme
    if given and scheme == "redis+sentinel":
        of_scheme = True
    check_scheme(given, of_scheme, scheme)
    if given:
        settings["ssl"] = True


def check_scheme(given: bool, of_scheme: bool, scheme: str = "") -> None:
    """Refuses an ``ssl`` that contradicts the scheme of the URL."""
    if given and scheme == "unix":
        raise ValueError("ssl is on, but a unix socket has no TLS: leave it out")
    if given and not of_scheme:
        raise ValueError("ssl is on, but the scheme of the URL is one without TLS: write rediss:// (or valkeys://)")
    if of_scheme and not given:
        raise ValueError("ssl is off, but the scheme of the URL is one with TLS: write redis://, or leave ssl out")


def _plain_address(hosts: str, at: str) -> tuple[str, int]:
    if hosts.count(",") and not at:
        raise ValueError("the URL has several hosts: list them as separate instances, or use redis+sentinel://")
    if hosts or at:
        return address(hosts, 6379, "")
    return "localhost", 6379


def _sentinels(hosts: str) -> dict[str, Any]:
    if not hosts:
        raise ValueError(
            "redis+sentinel:// needs hosts and a service: redis+sentinel://host:26379,host2:26379/service/0"
        )
    parts = hosts.split(",")
    sentinels = [
        address(part, 26379, f" of Sentinel {number}" if len(parts) > 1 else "") for number, part in enumerate(parts, 1)
    ]
    for number, sentinel in enumerate(sentinels, 1):
        if sentinel in sentinels[: number - 1]:
            raise ValueError(f"Sentinel {number} is there twice: leave one of them out")
    return {"sentinels": sentinels}


def _service(path: str) -> tuple[str, str]:
    service, _, rest = path.partition("/")
    if not service:
        raise ValueError(
            "redis+sentinel:// needs the name of a service behind the hosts: redis+sentinel://host:26379/service/0"
        )
    return decode("the service", service), rest


def address(text: str, default_port: int, whose: str) -> tuple[str, int]:
    """A host and a port, from ``host``, ``host:port`` or ``[IPv6]:port``; spaces around are ignored."""
    text = text.strip()
    bracketed = re.fullmatch(r"(\[[^\]]*\])\s*(?::(.*))?", text, re.DOTALL)
    if bracketed is not None:
        name, port = bracketed[1], bracketed[2]
    else:
        if text.count(":") > 1:
            raise ValueError(
                f"the host{whose} has more than one colon: write an IPv6 address in brackets, [::1]:6379, "
                "and : as %3A in a password, which ends with @"
            )
        name, colon, number = text.partition(":")
        port = number if colon else None
    if not name.strip():
        raise ValueError(f"the host{whose} is missing: write it like {DEFAULT_URL!r}")
    return host_name(name.strip(), f"the host{whose}").lower(), default_port if port is None else port_number(
        port.strip(), f"the port{whose}"
    )


def host_name(text: object, label: str = "host") -> str:
    """A host name or address; an IPv6 address without its brackets."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{label} is {'empty' if text == '' else _kind(text)}: use a host name or address")
    text = text.strip()
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if "://" in inner:
        raise ValueError(f"{label} is a URL: give it as url")
    if inner.count(":") == 1:
        raise ValueError(f"{label} has a colon: use a host name or address, and give the port as port")
    if ":" in inner or inner != text:
        import ipaddress

        number, _, zone = inner.partition("%")
        valid = re.fullmatch(r"[\w.-]*", zone.removeprefix("25")) is not None
        try:
            ipaddress.IPv6Address(number)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"{label} is no IPv6 address: use a host name or address, without port or login")
        return f"{number}%{zone.removeprefix('25')}" if zone else number
    if len(inner) > 253 or not re.fullmatch(r"[\w.-]+", inner):
        raise ValueError(f"{label} has characters that no host has: use a host name or address; {_QUOTED}")
    return inner


def port_number(port: object, label: str = "port") -> int:
    """A port, as a number or as its digits."""
    number = int(port) if isinstance(port, str) and re.fullmatch(r"[0-9]{1,5}", port) else port
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 65535:
        raise ValueError(
            f"{label} is {_kind(number)}: use a whole number from 1 to 65,535 "
            "(in a URL the port follows the host, and a password ends with @)"
        )
    return number


def database(db: object) -> int:
    """The number of a database, as a number or as its digits."""
    number = int(db) if isinstance(db, str) and re.fullmatch(r"[0-9]{1,7}", db) else db
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 1_000_000:
        raise ValueError(f"db is {_kind(number)}: use a whole number from 0")
    return number


def decode(label: str, text: str) -> str:
    """A part of a URL with its %-codes replaced. A + stays what it is."""
    from urllib.parse import unquote

    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError(f"{label} has a % without two hexadecimal digits behind it: write % as %25")
    decoded = unquote(text, errors="surrogateescape")
    if not decoded.isascii() and re.search("[\ud800-\udfff]", decoded):
        raise ValueError(f"{label} has %-codes that are not UTF-8: write % as %25")
    return decoded


def shown_address(settings: Mapping[str, Any]) -> str:
    """``host:port/db``, ``path/db`` or ``service/db``: the name of an instance that is given none."""
    if "service" in settings:
        return f"{settings['service']}/{settings['db']}"
    if "path" in settings:
        return f"{settings['path']}/{settings['db']}"
    host = settings["host"]
    return f"{f'[{host}]' if ':' in host else host}:{settings['port']}/{settings['db']}"


def _kind(value: object) -> str:
    """A wrong value for a message: numbers as they are, of others only what they are."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.6g}" if isinstance(value, float) else "out of range"
    if isinstance(value, str):
        return "no number that fits" if value else "empty"
    return "None" if value is None else type_with_article(value)
