"""Signatures of the Standard Webhooks specification (standardwebhooks.com), symmetric: scheme ``v1``, HMAC-SHA256.

The signed content is ``{webhook-id}.{webhook-timestamp}.{body}``; the header holds one signature for every secret,
separated by blanks, so that receivers may still know an older secret while it is rotated.
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
"""How old, or how far ahead, a timestamp may be, as in the specification's own libraries."""
_SHORTEST, _LONGEST = 24, 64


def new_secret() -> str:
    """A fresh secret of 32 random bytes, as text with its prefix."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def parse_secret(text: str) -> bytes:
    """The bytes of a secret.

    Raises:
        ValueError: for what is not ``whsec_`` and the base64 of 24 to 64 bytes. The secret is not in the message.
    """
    try:
        raw = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not text.startswith(PREFIX) or not _SHORTEST <= len(raw) <= _LONGEST:
        raise ValueError(f"use {PREFIX} followed by the base64 of {_SHORTEST} to {_LONGEST} random bytes")
    return raw


class Signer:
    """Signs with every one of some secrets; newest first by convention."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [parse_secret(text) for text in secrets]

    def headers(self, webhook_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The headers of one delivery; without a signature where there are no secrets. `timestamp`: unix seconds."""
        headers = {"webhook-id": webhook_id, "webhook-timestamp": str(timestamp)}
        if self._keys:
            signatures = (_signature(key, webhook_id, timestamp, body) for key in self._keys)
            headers["webhook-signature"] = " ".join(signatures)
        return headers

    def verify(self, headers: Mapping[str, str], body: bytes, now: float | None = None) -> bool:
        """Whether any of the secrets signed this: for receivers, which read names of headers in lower case."""
        try:
            timestamp = int(headers["webhook-timestamp"])
            given = headers["webhook-signature"].encode()
            expected = [_signature(key, headers["webhook-id"], timestamp, body).encode() for key in self._keys]
        except (KeyError, ValueError):  # the last also where servers pass bytes on that are no text
            return False
        moment = time.time() if now is None else now
        # Not abs(moment - timestamp): a number that anybody may send can be too large for a float.
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
