"""Signatures of the Standard Webhooks specification (standardwebhooks.com), symmetric: scheme ``v1``, HMAC-SHA256.

The signed content is ``{webhook-id}.{webhook-timestamp}.{body}``. The header holds one signature for every secret,
separated by spaces, so that a receiver may still use the older secret while secrets are rotated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence

PREFIX = "whsec_"
TOLERANCE_SECONDS = 300
"""How old, or how far ahead, a timestamp may be: as in the libraries of the specification."""
_SHORTEST, _LONGEST = 24, 64


def new_secret() -> str:
    """A new secret: 32 random bytes, as text with its prefix."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def parse_secret(text: str) -> bytes:
    """The bytes of a secret.

    Raises:
        ValueError: the text is not ``whsec_`` and the base64 of 24 to 64 bytes. The message does not show the secret.
    """
    try:
        raw = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(PREFIX) or not _SHORTEST <= len(raw) <= _LONGEST:
        raise ValueError(f"use {PREFIX} followed by the base64 of {_SHORTEST} to {_LONGEST} random bytes")
    return raw


class Signer:
    """Signs webhooks with each of its secrets, and checks signatures. By convention the newest secret is first."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [parse_secret(text) for text in secrets]

    def __repr__(self) -> str:  # without the secrets
        return f"Signer({len(self._keys)} secrets)"

    def headers(self, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The headers of one delivery, without a signature if there are no secrets. `timestamp`: unix seconds."""
        headers = {"webhook-id": webhook_id, "webhook-timestamp": str(timestamp)}
        if self._keys:
            signatures = (_signature(key, webhook_id, timestamp, body) for key in self._keys)
            headers["webhook-signature"] = " ".join(signatures)
        return headers

    def verify(self, headers: Mapping[str, str], body: bytes, now: float | None = None) -> bool:
        """Whether one of the secrets signed this. For receivers; names of headers must be in lower case."""
        try:
            timestamp = int(headers["webhook-timestamp"])
            given = headers["webhook-signature"].encode()
            expected = [_signature(key, headers["webhook-id"], timestamp, body).encode() for key in self._keys]
        except (KeyError, ValueError):  # ValueError also for text that is not valid Unicode
            return False
        moment = time.time() if now is None else now
        # Not abs(moment - timestamp): anybody can send a number that is too large for a float.
        if not moment - TOLERANCE_SECONDS <= timestamp <= moment + TOLERANCE_SECONDS:
            return False
        found = False
        for signature in given.split():
            for candidate in expected:
                found |= hmac.compare_digest(candidate, signature)
        return found


def _signature(key: bytes, webhook_id: str, timestamp: int, body: bytes) -> str:
    content = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
