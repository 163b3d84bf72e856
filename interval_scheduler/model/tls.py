"""The TLS options of an instance, typed: what is not understood is refused, so that nothing is silently unverified."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..support.text import type_with_article

if TYPE_CHECKING:
    import ssl

_SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_VERIFICATIONS = ("required", "optional", "none")
_VERSIONS = {"TLSV1.2": "TLSv1_2", "TLSV1_2": "TLSv1_2", "TLSV1.3": "TLSv1_3", "TLSV1_3": "TLSv1_3"}


def switch(name: str, value: object) -> bool:
    """An option that is on or off: a bool, 1 or 0, or one of the usual words in any case.

    Raises:
        ValueError: where it is something else; also None, because a variable that is not set must not switch TLS off.
    """
    if isinstance(value, bool):
        return value
    text = str(value) if type(value) is int else value
    found = _SWITCHES.get(text.strip().lower()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{name} is {_what(value)}: use true or false (yes, no, on, off, 1 and 0 mean the same)")
    return found


def tls_settings(given: Mapping[str, object]) -> dict[str, Any]:
    """The options of a TLS connection (``ssl_…``), as redis-py takes them. Files are read here for the first time.

    Raises:
        ValueError: naming the option, the rule and what to do.
    """
    settings = {
        name: _OPTIONS[name](name, value)
        for name, value in given.items()
        if value is not None or name in ("ssl_cert_reqs", "ssl_check_hostname")
    }
    if settings.get("ssl_cert_reqs") == "none" and settings.get("ssl_check_hostname"):
        raise ValueError("ssl_check_hostname is true, but ssl_cert_reqs=none verifies nothing: leave one of them out")
    if "ssl_keyfile" in settings and "ssl_certfile" not in settings:
        raise ValueError("ssl_keyfile is given without ssl_certfile: give both, or only ssl_certfile if it has the key")
    if "ssl_password" in settings and "ssl_certfile" not in settings:
        raise ValueError("ssl_password is given without ssl_certfile, whose key it opens: give both, or leave it out")
    if settings:
        _try_out(settings)
    return settings


def _try_out(settings: Mapping[str, Any]) -> None:
    """Loads what the options name, as each connection will: what cannot be loaded is told before anything starts."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if "ssl_certfile" in settings:
        # Without a password here, OpenSSL would ask for one at the terminal.
        password = settings.get("ssl_password", "")
        rule = "cannot be loaded: use PEM files that belong together, and ssl_password if the key is encrypted"
        _load(
            f"ssl_certfile (with its key) {rule}",
            lambda: context.load_cert_chain(settings["ssl_certfile"], settings.get("ssl_keyfile"), password),
        )
    for name, argument in (("ssl_ca_certs", "cafile"), ("ssl_ca_path", "capath"), ("ssl_ca_data", "cadata")):
        if name in settings:
            load = partial(context.load_verify_locations, **{argument: settings[name]})
            _load(f"{name} has no certificate that can be read: use PEM", load)
    if "ssl_ciphers" in settings:
        rule = "ssl_ciphers names no cipher that OpenSSL knows: use names such as ECDHE+AESGCM"
        _load(rule, lambda: context.set_ciphers(settings["ssl_ciphers"]))


def _load(rule: str, load: Callable[[], object]) -> None:
    failed = False
    try:
        load()
    except (OSError, ValueError, TypeError):  # ssl.SSLError is an OSError
        failed = True
    if failed:  # raised here, so that no other error, with what it quotes, is its context
        raise ValueError(rule)


def _verification(name: str, value: object) -> str:
    import ssl

    text = value.name if isinstance(value, ssl.VerifyMode) else value
    text = text.strip().lower().removeprefix("cert_") if isinstance(text, str) else ""
    if text not in _VERIFICATIONS:
        raise ValueError(f"{name} is {_what(value)}: use required, or none to verify no certificate")
    return text


def _version(name: str, value: object) -> ssl.TLSVersion:
    import ssl

    text = value.name if isinstance(value, ssl.TLSVersion) else value
    found = _VERSIONS.get(text.strip().upper()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{name} is {_what(value)}: use TLSv1.2 or TLSv1.3")
    return ssl.TLSVersion[found]


def _flags(name: str, value: object) -> list[ssl.VerifyFlags]:
    import ssl

    given = value.split(",") if isinstance(value, str) else value
    flags: list[ssl.VerifyFlags] = []
    for flag in given if isinstance(given, list | tuple) else [None]:
        known = ssl.VerifyFlags.__members__.get(flag.strip()) if isinstance(flag, str) else flag
        if not isinstance(known, ssl.VerifyFlags):
            raise ValueError(f"{name} is {_what(value)}: use names such as VERIFY_X509_STRICT, separated by commas")
        flags.append(known)
    return flags


def _file(name: str, value: object) -> str:
    path = _text(name, os.fspath(value) if isinstance(value, os.PathLike) else value)
    if not os.path.isfile(path):
        raise ValueError(f"{name} names no file: give the path of a PEM file on this machine")
    return path


def _folder(name: str, value: object) -> str:
    path = _text(name, os.fspath(value) if isinstance(value, os.PathLike) else value)
    if not os.path.isdir(path):
        raise ValueError(f"{name} names no folder: give the path of a folder of PEM files on this machine")
    return path


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {_what(value)}: use text")
    return value


def _data(name: str, value: object) -> str | bytes:
    return value if isinstance(value, bytes) and value else _text(name, value)


def _what(value: object) -> str:
    """What a value is, for a message. Its text may be a part of a password that was not quoted."""
    if isinstance(value, str):
        return "not understood" if value.strip() else "empty"
    return "None" if value is None else f"{type_with_article(value)} that is not understood"


_OPTIONS: Mapping[str, Callable[[str, object], Any]] = {
    "ssl_cert_reqs": _verification,
    "ssl_check_hostname": switch,
    "ssl_ca_certs": _file,
    "ssl_ca_path": _folder,
    "ssl_ca_data": _data,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
    "ssl_password": _text,
    "ssl_min_version": _version,
    "ssl_ciphers": _text,
    "ssl_include_verify_flags": _flags,
    "ssl_exclude_verify_flags": _flags,
}
TLS_OPTIONS = frozenset(_OPTIONS)
"""The options of a TLS connection, besides ``ssl`` itself."""
