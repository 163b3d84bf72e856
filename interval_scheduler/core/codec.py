"""Payloads and bodies as msgpack, exact both ways.

A body is ``[payload, schedule, options, error]`` with empty entries at the end left out, so that a one-off task with
default options costs one byte on top of its payload. ``schedule`` is ms, or ``[expression, zone]`` of a cron. An option
whose name begins with ``_`` may be ignored by a version that does not know it; any other unknown one may not.
"""

from __future__ import annotations

from typing import Any

import msgpack

from ..model.errors import CorruptRecord, InvalidTask, PayloadTooLarge
from ..support.interruption import is_interruption
from ..support.text import error_text
from .refusal import GENERAL_FIX, OF_PACKING, explain

# Packers that are free: making one allocates 256 KiB, and two threads must not use the same one at once.
_packers: list[Any] = []
_NIL = b"\xc0"
_LEVELS_OF_MSGPACK = 1000
"""About how many levels msgpack writes and reads. Each takes a byte at least."""


def encode_payload(payload: object, owner: str, limit: int) -> bytes:
    """A payload as msgpack.

    Raises:
        InvalidTask: where the payload would not come back equal, or cannot be encoded.
        PayloadTooLarge: above `limit` bytes.
    """
    try:
        raw = pack(payload)
        if len(raw) >= _LEVELS_OF_MSGPACK:
            pack([payload])  # a body is one level more, and must be readable too
    except Exception as error:  # several types of msgpack, and what a change by another thread leads to
        if is_interruption(error, OF_PACKING):
            raise
        problem, fix = explain(payload, error, pack) or (f"it was not taken ({error_text(error, 200)})", GENERAL_FIX)
        rule = f"holds something msgpack cannot carry exactly: {problem}"
        raise InvalidTask(owner, "serialize()", rule, fix) from error
    if len(raw) > limit:
        raise PayloadTooLarge(
            owner,
            "serialize()",
            f"is {len(raw)} bytes, above max_payload_bytes = {limit}",
            "store the data elsewhere and schedule a reference to it, or raise max_payload_bytes",
        )
    return raw


def pack(value: object) -> bytes:
    """msgpack bytes of a value; types must match exactly, so that nothing changes on the way."""
    try:
        packer = _packers.pop()
    except IndexError:
        packer = msgpack.Packer(strict_types=True)
    try:
        return packer.pack(value)  # type: ignore[no-any-return]
    finally:
        _packers.append(packer)


def unpack(raw: bytes) -> Any:
    """The value of msgpack bytes.

    Raises:
        CorruptRecord: where they are not what this version writes.
    """
    try:
        return msgpack.unpackb(raw, strict_map_key=False)
    except Exception as error:  # msgpack raises its own types and several built-in ones on foreign bytes
        raise CorruptRecord(f"a stored body cannot be read ({error}); nothing was changed") from error


def join_body(payload: bytes, *rest: object) -> bytes:
    """A body from an encoded payload and what follows it; empty entries at the end are left out."""
    fields = list(rest)
    while fields and fields[-1] is None:
        fields.pop()
    # An array of up to 15 entries starts with one byte, 0x90 + length: the payload need not be encoded twice.
    return bytes((0x91 + len(fields),)) + payload + b"".join(map(pack, fields))


def replace_error(body: bytes, error: str | None) -> bytes:
    """A stored body with another error. Payload, schedule and options are not decoded: their bytes stay."""
    unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=0)
    unpacker.feed(body)
    count = unpacker.read_array_header()
    start = unpacker.tell()
    fields: list[bytes] = []
    for _ in range(min(count, 3)):
        unpacker.skip()
        fields.append(body[start : unpacker.tell()])
        start = unpacker.tell()
    if error is not None:
        fields += [_NIL] * (3 - len(fields)) + [pack(error)]
    while len(fields) > 1 and fields[-1] == _NIL:
        fields.pop()
    return bytes((0x90 + len(fields),)) + b"".join(fields)
