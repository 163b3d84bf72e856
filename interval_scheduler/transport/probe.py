"""Looks why a connection was cut before it worked: a server with TLS is spoken to plainly, or the other way round.

Neither side says so: a plain Redis waits for the rest of what it takes for a command, and one with TLS hangs up.
Nothing secret is sent: a PING, or the begin of a TLS handshake.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from .remedies import NEEDS_CERTIFICATE, NEEDS_TLS, NO_TLS, causes, remedy

PROBE_SECONDS = 0.5
"""Longest time for each step. A server that is slower than this is taken for one that is away."""


def may_be_tls(error: BaseException, settings: Mapping[str, Any]) -> bool:
    """Whether a server that was reached then hung up or kept silent, as one does where only one side uses TLS."""
    from redis.exceptions import InvalidResponse

    found = list(causes(error))
    if any(isinstance(one, ConnectionRefusedError | socket.gaierror | FileNotFoundError) for one in found):
        return False
    if settings.get("ssl") and any(isinstance(one, TimeoutError) for one in found):
        return True
    cut = (ConnectionError, EOFError, ssl.SSLEOFError, InvalidResponse)
    return any(isinstance(one, cut) or "losed by server" in str(one) for one in found)


def tls_remedy(settings: Mapping[str, Any]) -> str:
    """What to correct about TLS in the settings of a server, by trying the other way; "" if that does no better."""
    host, port = settings["host"], settings["port"]
    if not settings.get("ssl"):
        return NEEDS_TLS if _shakes_hands(host, port) is not None else ""
    if _answers_plainly(host, port):
        return NO_TLS
    if "ssl_certfile" not in settings and "CERTIFICATE" in (_shakes_hands(host, port) or ""):
        return NEEDS_CERTIFICATE
    return ""


def sentinel_remedy(sentinels: Sequence[Any], settings: Mapping[str, Any]) -> str:
    """What to correct about Sentinels (blocking clients of redis-py) that name no primary, by asking each again."""
    from redis.exceptions import AuthenticationError, RedisError

    found = ""
    for sentinel, (host, port) in zip(sentinels, settings["sentinels"], strict=True):
        try:
            services = sentinel.sentinel_masters()
        except (RedisError, OSError) as error:
            way = {**settings, "host": host, "port": port, "ssl": settings.get("sentinel_ssl", False)}
            fix = tls_remedy(way) if may_be_tls(error, way) else remedy(error, connecting=True)
            if isinstance(error, AuthenticationError):
                fix = "correct sentinel_username and sentinel_password"
            found = found or (f"about Sentinel {host}:{port}: {fix}" if fix else "")
        else:
            # One that answers decides: there may be no primary for a moment, but not no such service.
            return "" if settings["service"] in services else "use the name of a service that the Sentinels watch"
        finally:
            sentinel.close()
    return found


def _answers_plainly(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as plain:
            plain.settimeout(PROBE_SECONDS)
            plain.sendall(b"*1\r\n$4\r\nPING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False  # it is away, or does not speak like that


def _shakes_hands(host: str, port: int) -> str | None:
    """None if the server does not speak TLS; else the reason for which it then ends the connection, or ""."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # who it is does not matter: nothing is told
    try:
        with socket.create_connection((host, port), PROBE_SECONDS) as plain:
            try:
                secure = context.wrap_socket(plain, server_hostname=host)
            except ssl.SSLError as error:
                # Only a server with TLS sends an alert.
                return error.reason if error.reason and "ALERT" in error.reason else None
            with secure:
                return _end(secure)
    except OSError:
        return None  # it is away


def _end(secure: ssl.SSLSocket) -> str:
    try:
        secure.recv(1)
    except ssl.SSLError as error:
        return error.reason or ""
    except OSError:
        return ""  # it waits for a command
    return ""
