"""fault-D7: a payload that cannot be stored is refused with the place of the value, its type, and what to store."""

from __future__ import annotations

import math
import uuid
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pendulum
import pytest

from interval_scheduler import InvalidTask
from interval_scheduler.core.codec import encode_payload, join_body, pack, unpack
from interval_scheduler.core.definition import decode_body
from interval_scheduler.core.refusal import explain

Point = namedtuple("Point", "x y")


class Colour(Enum):
    RED = 1


class Level(IntEnum):
    HIGH = 1


class Word(StrEnum):
    A = "a"


@dataclass
class Data:
    x: int = 1


class Hostile(dict[str, int]):
    """Everything that one might do with it raises."""

    def _refuse(self, *_: object) -> Any:
        raise RuntimeError("boom")

    __iter__ = __len__ = __getitem__ = items = keys = __repr__ = __str__ = _refuse
    __class__ = property(_refuse)


class HostileList(list[int]):
    def __iter__(self) -> Any:
        raise RuntimeError("boom")

    __getitem__ = __len__ = __iter__  # type: ignore[assignment]


def circle() -> dict[str, Any]:
    payload: dict[str, Any] = {"rows": [{"id": 1}]}
    payload["rows"].append({"parent": payload})
    return payload


def nested(levels: int, inner: object = 0) -> object:
    payload = inner
    for _ in range(levels):
        payload = [payload]
    return payload


async def coroutine() -> None: ...


NOW = datetime(2026, 1, 1, tzinfo=UTC)
CASES: list[tuple[Any, str, str]] = [
    ({"d": NOW}, 'payload["d"] is a datetime', "store text, such as its isoformat(), or a number"),
    ({"list": [0, 1, 2, {"x": NOW}]}, 'payload["list"][3]["x"] is a datetime', "isoformat()"),
    ({"d": pendulum.now()}, 'payload["d"] is a DateTime', "isoformat()"),
    ([date(2026, 1, 1)], "payload[0] is a date", "isoformat()"),
    ([pendulum.duration(days=1)], "payload[0] is a Duration", "total_seconds()"),
    (timedelta(1), "payload is a timedelta", "total_seconds()"),
    ((1,), "payload is a tuple", "make it a list: a tuple would come back as a list"),
    ({"p": Point(1, 2)}, 'payload["p"] is a Point', "make it a list"),
    ({"s": {1}}, 'payload["s"] is a set', "make it a list"),
    ([frozenset()], "payload[0] is a frozenset", "make it a list"),
    ({"c": Colour.RED}, 'payload["c"] is a Colour', "store its value, or its name"),
    ({"c": Level.HIGH}, 'payload["c"] is a Level', "store its value, or its name"),
    ({"c": Word.A}, 'payload["c"] is a Word', "store its value, or its name"),
    ({Word.A: 1}, "a key of payload is a Word", "store its value, or its name"),
    ({"x": {(1, 2): 3}}, 'a key of payload["x"] is a tuple', "make it a list"),
    ({"x": {"\ud800": 3}}, 'a key of payload["x"] is a str that is not valid Unicode', "store bytes"),
    ({"x": "a\udfff"}, "payload[\"x\"] is a str that is not valid Unicode: 'a\\udfff'", "store bytes"),
    ({"n": 2**64}, 'payload["n"] is an int beyond 64 bits: 18446744073709551616', "store it as text"),
    ([-(2**63) - 1], "payload[0] is an int beyond 64 bits", "store it as text"),
    ([10**5000], "payload[0] is an int beyond 64 bits: <int without a repr>", "store it as text"),
    ({"o": OrderedDict(a=1)}, 'payload["o"] is an OrderedDict, a subclass of dict', "make it a plain one by dict(…)"),
    (HostileList([1]), "payload is a HostileList, a subclass of list", "make it a plain one by list(…)"),
    ({"h": Hostile()}, 'payload["h"] is a Hostile, a subclass of dict', "make it a plain one by dict(…)"),
    ([type("Text", (str,), {})("a")], "payload[0] is a Text, a subclass of str", "str(…)"),
    ([type("Raw", (bytes,), {})(b"a")], "payload[0] is a Raw, a subclass of bytes", "bytes(…)"),
    ([type("Number", (float,), {})(1)], "payload[0] is a Number, a subclass of float", "float(…)"),
    ([type("Number", (int,), {})(1)], "payload[0] is a Number, a subclass of int", "int(…)"),
    ([Decimal(1)], "payload[0] is a Decimal", "such as str(…); use only None, bool, int"),
    ([uuid.UUID(int=1)], "payload[0] is an UUID", "such as str(…)"),
    ([Data()], "payload[0] is a Data", "use only None, bool"),
    ([object], "payload[0] is a type", "use only None, bool"),
    ({1.5: {None: {b"x": {True: object()}}}}, "payload[1.5][None][b'x'][True] is an object", "use only"),
    ({"é\n": 1j}, 'payload["é\\n"] is a complex', "use only"),
    ({"k" * 50: {"x": 1j}}, f'payload[\'{"k" * 36}…]["x"] is a complex', "use only"),
    ([memoryview(b"abcd")[::2]], "payload[0] is a memoryview", "use only"),
    (circle(), 'payload["rows"][1]["parent"] holds itself', "leave out what leads back to it"),
    (nested(5000), "[0][0] is nested more than 500 levels deep", "use fewer levels"),
    (nested(100, 1j), "[0][0] is a complex", "use only"),
    ([1, [2, {"a": [3, 1j, 2j]}], 3j], 'payload[1][1]["a"][1] is a complex', "use only"),
]


@pytest.mark.parametrize(("payload", "place", "fix"), CASES, ids=[place for _, place, _ in CASES])
def test_the_error_names_the_place_the_type_and_the_fix(payload: Any, place: str, fix: str) -> None:
    with pytest.raises(InvalidTask) as caught:
        encode_payload(payload, "Job", 1000)
    message = str(caught.value)
    rule, _, told = message.partition("; ")
    assert message.startswith("Job.serialize() holds something msgpack cannot carry exactly: ")
    assert place in rule
    assert fix in told
    assert message.endswith("Nothing was written.")
    assert caught.value.field == "serialize()"
    assert caught.value.__cause__ is not None
    assert len(message) < 500
    assert message.encode()


def test_a_coroutine_is_what_an_async_serialize_returns() -> None:
    payload = coroutine()
    with pytest.raises(
        InvalidTask, match=r"payload is a coroutine; store what it returns: serialize\(\) must be a plain"
    ):
        encode_payload(payload, "Job", 1000)
    payload.close()


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {"a": [1, -(2**63), 2**64 - 1, 1.5, True, None, "é", b"\xff", {}, []]},
        {1: 2, None: 3, 1.5: 4, b"x": 5, False: 6},
        [math.inf, -0.0],
        nested(500),
        bytearray(b"x"),
    ],
)
def test_what_comes_back_equal_is_taken(payload: Any) -> None:
    assert unpack(encode_payload(payload, "Job", 10_000)) == payload


def test_shared_values_are_no_circle() -> None:
    shared = [1]
    assert unpack(encode_payload({"a": shared, "b": [shared, shared]}, "Job", 1000)) == {"a": [1], "b": [[1], [1]]}
    with pytest.raises(InvalidTask, match=r'payload\["c"\] is a set'):
        encode_payload({"a": shared, "b": [shared, shared], "c": set()}, "Job", 1000)


def test_nothing_of_the_application_is_called() -> None:
    """Its methods raise, and it was not asked for its class."""
    with warnings.catch_warnings(action="error"), pytest.raises(InvalidTask):
        encode_payload([Hostile(), HostileList()], "Job", 1000)


@pytest.mark.parametrize("error", [RuntimeError("dictionary changed size during iteration"), MemoryError()])
def test_what_no_value_explains_is_refused_too(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a payload that another thread changed meanwhile."""

    def fail(_: object) -> bytes:
        raise error

    monkeypatch.setattr("interval_scheduler.core.codec.pack", fail)
    monkeypatch.setattr(
        "interval_scheduler.core.codec.explain", lambda payload, error, _: explain(payload, error, pack)
    )
    with pytest.raises(InvalidTask, match=rf"it was not taken \({type(error).__name__}.*\); use only None, bool"):
        encode_payload({"a": [1]}, "Job", 1000)


def test_a_refused_payload_leaves_the_packer_as_it_was() -> None:
    refuse: Callable[[], object] = lambda: encode_payload(["x" * 100, {"d": NOW}], "Job", 1000)  # noqa: E731
    for _ in range(3):
        with pytest.raises(InvalidTask):
            refuse()
        assert encode_payload({"a": 1}, "Job", 1000) == b"\x81\xa1a\x01"


@pytest.mark.parametrize("levels", [500, *range(1000, 1030)])
def test_what_is_taken_can_be_read_back_whatever_its_depth(levels: int) -> None:
    payload = nested(levels, 1)
    try:
        raw = encode_payload(payload, "Job", 10_000)
    except InvalidTask:
        assert levels > 1000
    else:
        assert pack(decode_body(join_body(raw)).payload) == raw  # comparing would be too deep for Python
