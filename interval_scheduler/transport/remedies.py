"""Failures that last until somebody corrects something: told apart from outages by what redis-py and ssl raise.

Whether something is an outage is decided in favour of that: a server that loads its data, follows a new primary, is
busy, has too many clients or is not there may be well a moment later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_LOGIN = "correct the username and the password of this instance (:password@host if there is no username)"
_RIGHTS = "give the user the rights that docs/acl.md lists (for a database other than 0 also +select)"
_OF_LOGINS = ("username", "password", "sentinel_username", "sentinel_password")
_REFUSALS = [
    (r"without any password configured|no password is set", "leave the password out, or set one on the server"),
    (r"Authentication required|NOAUTH", "give the username and the password of this instance"),
    (r"invalid (username-)?password|WRONGPASS|Invalid Username or Password", _LOGIN),
    (r"NOPERM|has no permissions|The user executing the script can", _RIGHTS),
    (
        r"DB index is out of range|invalid DB index|Invalid Database",
        "use a smaller number of a database, or raise `databases` on the server",
    ),
    (r"SELECT is not allowed in cluster mode|^MOVED |^CROSSSLOT ", "use a server that is not part of a Redis Cluster"),
    (
        r"^DENIED |running in protected mode",
        "set a password or `bind` on the server: it takes no clients of other hosts",
    ),
    (
        r"WRONGTYPE",
        "a key of the namespace holds another type of value: `interval-scheduler verify` names it; rename or delete it",
    ),
    (r"unknown command", "use a server, or a proxy, that has this command"),
]
"""What servers answer, and what to do about it."""
_VERIFICATIONS = [
    ("expired", "renew the certificate of the server"),
    ("not yet valid", "correct the clock of this machine, or the certificate of the server"),
    (
        "mismatch|not valid for",
        "use a host name that the certificate is for, or ssl_check_hostname=false to check no name",
    ),
    ("", "name the authority that signed the certificate by ssl_ca_certs"),
]
"""What is wrong with the certificate of a server, and what to do about it."""
REPEATED = "with args beginning with"
"""Behind this a server repeats what it was sent."""
NO_TLS = "use the port for TLS, or redis:// (ssl: false) if the connection may be plain"
NEEDS_TLS = "use rediss:// (ssl: true)"
NEEDS_CERTIFICATE = "the server wants a certificate that it trusts: give ssl_certfile, and ssl_keyfile"
NO_REDIS = "what answers there does not speak the Redis protocol: correct the host and the port"
_ALERTS = [
    ("CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE", NEEDS_CERTIFICATE),
    ("PROTOCOL|CIPHER", "let ssl_min_version and ssl_ciphers fit the server"),
    ("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST|UNEXPECTED_MESSAGE", NO_TLS),
]
"""The reasons of OpenSSL, and what to do about them."""


def remedy(error: BaseException, *, connecting: bool) -> str:
    """What must be corrected before this can go well, as a sentence; "" if it may go well by itself.

    `connecting` is whether the connection has never worked: bytes that are no reply mean little later on.
    """
    from redis.exceptions import (
        BusyLoadingError,
        InvalidResponse,
        MasterDownError,
        ReadOnlyError,
    )

    for one in causes(error):
        if isinstance(one, BusyLoadingError | MasterDownError | ReadOnlyError):
            return ""
        found = _of_ssl(one) or _of_server(one)
        if not found and connecting and isinstance(one, InvalidResponse):
            found = NO_REDIS
        if not found and connecting and isinstance(one, PermissionError):
            found = "let this user use the socket or the file, or correct its path"
        if found:
            return found
    return ""


def login_remedy(error: BaseException, settings: Mapping[str, Any]) -> str:
    """What to correct where a login was refused that has white space at an edge: it was hardly meant."""
    if remedy(error, connecting=True) != _LOGIN:
        return ""
    odd = [name for name in _OF_LOGINS if settings.get(name, "") != settings.get(name, "").strip()]
    if not odd:
        return ""
    return (
        f"remove the white space at the edge of the {' and the '.join(odd)}, such as a line break at the end of a file"
    )


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what redis-py made it from.

    What the application was handling when it called is the context of an error too, but was not raised within redis-py.
    """
    yield error
    cause = error.__cause__ or error.__context__
    if cause is not None and cause.__traceback__ is not None and _is_of_redis(type(error).__module__):
        raised_in: str = cause.__traceback__.tb_frame.f_globals.get("__name__", "")
        if _is_of_redis(raised_in):
            yield from causes(cause)


def _is_of_redis(module: str) -> bool:
    return module.partition(".")[0] == "redis"


def reason(error: BaseException) -> str:
    """The message of an error without what a server repeats of a command: the password of an AUTH that it lacks.

    Also without the long reprs of the clients of Sentinels that redis-py puts behind "No master found".
    """
    text = str(error) or type(error).__name__
    return re.split(rf",?\s+{REPEATED}| : <redis\.", text, maxsplit=1)[0]


def _of_ssl(error: BaseException) -> str:
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        told = error.verify_message or ""
        return next(fix for pattern, fix in _VERIFICATIONS if re.search(pattern, told))
    if isinstance(error, ssl.SSLError):
        return next((fix for pattern, fix in _ALERTS if re.search(pattern, error.reason or "")), "")
    return ""


def _of_server(error: BaseException) -> str:
    from redis.exceptions import (
        AuthenticationError,
        ClusterCrossSlotError,
        MovedError,
        NoPermissionError,
        ResponseError,
    )

    if isinstance(error, NoPermissionError):
        return _RIGHTS
    if isinstance(error, MovedError | ClusterCrossSlotError):
        return "use a server that is not part of a Redis Cluster"
    text = str(error)
    if isinstance(error, ResponseError | AuthenticationError):
        found = next((fix for pattern, fix in _REFUSALS if re.search(pattern, text)), "")
        return found or (_LOGIN if isinstance(error, AuthenticationError) else "")
    return ""
