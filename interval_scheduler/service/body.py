"""Request bodies: read within limits, and parsed more strictly than the json module parses."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from typing import NoReturn

from starlette.types import Receive

from .errors import BodyRefused, InvalidRequest

_DEEPEST = 100
"""Levels of lists and objects in a body."""


class ClientGone(Exception):
    """The client closed the connection before it had sent its whole body, so there is nobody to answer."""


def check_headers(headers: Mapping[bytes, bytes], limit: int) -> None:
    """Checks what the headers say about the body.

    Raises:
        BodyRefused: the body is not JSON, is compressed, or is too long.
    """
    kind, _, parameters = headers.get(b"content-type", b"").decode("latin-1").lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"')
    if kind.strip() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise BodyRefused(415, "send the body as Content-Type: application/json, in UTF-8")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise BodyRefused(415, "send the body without Content-Encoding")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and (len(length) > 15 or int(length) > limit):
        raise _too_long(limit)


async def read_body(receive: Receive, limit: int, seconds: float) -> bytes:
    """The body of an ASGI request.

    Raises:
        BodyRefused: the body is too long, or takes too long.
        ClientGone: the connection was closed before the end of the body.
    """
    chunks = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise _too_long(limit)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise BodyRefused(408, f"the body took longer than {seconds:g} s: send it faster") from None


def parse_json(raw: bytes) -> object:
    """The value of JSON text as in RFC 8259. Duplicate keys, NaN, unpaired surrogates and deep nesting are refused.

    Raises:
        InvalidRequest: with the rule.
    """
    if not raw:
        raise InvalidRequest("the body is missing: send a JSON object")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_object, parse_constant=_constant)
        _check(value, 0)
    except UnicodeError:
        raise InvalidRequest("the body is not valid Unicode in UTF-8") from None
    except RecursionError:
        raise InvalidRequest(f"the body is nested deeper than {_DEEPEST} levels") from None
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # One pass only: an object may have hundreds of thousands of keys.
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidRequest(f"the key {twice[:100]!r} comes twice in one object of the body")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check(value: object, depth: int) -> None:
    if depth > _DEEPEST:
        raise RecursionError
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            raise ValueError("a number is too large")
    elif isinstance(value, dict):
        for name, item in value.items():
            name.encode()
            _check(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)


def _too_long(limit: int) -> BodyRefused:
    return BodyRefused(413, f"the body is longer than {limit:,} bytes: send less at once")
