"""API keys: random text that clients send, of which only a hash is configured."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's name and the SHA-256 of its key in hex. A key is 256 random bits, so a fast hash is safe."""

    name: str
    digest: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> ApiKey:
        """A key as it is configured, ``NAME:DIGEST``.

        Raises:
            ValueError: with the rule.
        """
        if not re.fullmatch(r"[A-Za-z0-9_.\-]{1,64}:[0-9a-f]{64}", text):
            raise ValueError("use NAME:DIGEST as `interval-scheduler serve --new-key NAME` prints it")
        return cls(*text.split(":"))


def new_key(name: str) -> tuple[str, ApiKey]:
    """A new key: the text that the client gets, and what is configured."""
    key = secrets.token_urlsafe(32)
    return key, ApiKey.parse(f"{name}:{_digest(key)}")


def client_of(key: str, keys: Sequence[ApiKey]) -> str | None:
    """The name of the client whose key this is, or None. Takes equally long for every key."""
    digest = _digest(key)
    found = None
    for candidate in keys:
        if hmac.compare_digest(candidate.digest, digest):
            found = candidate.name
    return found


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
