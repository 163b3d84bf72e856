"""Why a payload cannot be stored: where in it the value is that msgpack does not carry, and what to store instead.

A payload is only searched after msgpack refused it. Nothing of the application is called but a repr.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, time, timedelta
from enum import Enum
from types import CoroutineType
from typing import Any

from ..support.interruption import is_interruption
from ..support.kinds import is_a
from ..support.text import short_repr, type_with_article, valid_text

_DEEP = 500
"""Levels that every version of msgpack carries: some take 511, some 1,025."""
_LONGEST_PATH = 160
_KEY, _END = "key", "end"
"""Steps that lead nowhere: to a key, and behind the last entry."""
OF_PACKING = frozenset({"builtins", "msgpack"})
"""The packages whose errors mean that a value cannot be packed."""
GENERAL_FIX = "use only None, bool, int within 64 bits, float, str, bytes, list and dict"


def explain(payload: object, error: Exception, pack: Callable[[object], bytes]) -> tuple[str, str] | None:
    """What is wrong, such as 'payload["at"] is a datetime', and what to do; None where `pack` takes every single value.

    `error` is what `pack` raised for the whole. Values are looked at in the same order, so that the first one is found
    that was refused.
    """
    deepest = _DEEP if "recursion" in str(error) else None
    path: list[str] = []
    holders: list[object] = []
    levels: list[Iterator[tuple[str, object]]] = [iter([("payload", payload)])]
    while levels:
        step, value = next(levels[-1], (_END, None))
        if step is _END:
            levels.pop()
            del path[-1:], holders[-1:]
        elif problem := _problem(value, holders, deepest, pack):
            where = f"a key of {_text(path)}" if step is _KEY else _text([*path, step])
            return f"{where} {problem[0]}", problem[1]
        elif type(value) in (list, dict):
            path.append(step)
            holders.append(value)
            levels.append(_entries(value))
    return None


def _entries(holder: Any) -> Iterator[tuple[str, object]]:
    """What a list or a dict holds, each with the step that leads to it."""
    if type(holder) is list:
        for position, item in enumerate(holder):
            yield f"[{position}]", item
        return
    for key, item in list(holder.items()):
        yield _KEY, key
        is_short = type(key) is str and len(key) <= 40
        yield f"[{valid_text(json.dumps(key, ensure_ascii=False)) if is_short else short_repr(key, 40)}]", item


def _text(path: list[str]) -> str:
    text = "".join(path)
    return text if len(text) <= _LONGEST_PATH else f"{text[:60]}…{text[60 - _LONGEST_PATH :]}"


def _problem(
    value: object, holders: list[object], deepest: int | None, pack: Callable[[object], bytes]
) -> tuple[str, str] | None:
    """What is wrong with a value, apart from what it holds, and what to do."""
    if type(value) in (list, dict):
        if any(value is holder for holder in holders):
            return "holds itself", "leave out what leads back to it"
        if deepest is not None and len(holders) >= deepest:
            return f"is nested more than {deepest} levels deep", "use fewer levels"
        return None
    try:
        pack(value)
    except Exception as error:
        if is_interruption(error, OF_PACKING):
            raise
        return _is(value), _instead(value)
    return None


def _is(value: object) -> str:
    if type(value) is int:
        return f"is an int beyond 64 bits: {short_repr(value, 40)}"
    if type(value) is str:
        return f"is a str that is not valid Unicode: {short_repr(value, 40)}"
    base = next((kind for kind in (dict, list, int, float, str, bytes) if is_a(value, kind)), None)
    if base is None or is_a(value, Enum):
        return f"is {type_with_article(value)}"
    return f"is {type_with_article(value)}, a subclass of {base.__name__}"


# What to store instead, by the first type that fits.
_INSTEAD: tuple[tuple[tuple[type, ...], str], ...] = (
    ((Enum,), "store its value, or its name"),
    ((tuple,), "make it a list: a tuple would come back as a list"),
    ((set, frozenset), "make it a list"),
    ((date, time), "store text, such as its isoformat(), or a number, such as its timestamp()"),
    ((timedelta,), "store a number, such as its total_seconds()"),
    ((dict,), "make it a plain one by dict(…)"),
    ((list,), "make it a plain one by list(…)"),
    ((float,), "make it a plain one by float(…)"),
    ((bytes,), "make it a plain one by bytes(…)"),
    ((int,), "make it a plain one by int(…)"),
    ((str,), "make it a plain one by str(…)"),
)


def _instead(value: object) -> str:
    if is_a(value, CoroutineType):
        return "store what it returns: serialize() must be a plain function"
    if type(value) is int:
        return "store it as text"
    if type(value) is str:
        return 'store bytes, or what encode("utf-8", "replace") makes of it'
    for kinds, fix in _INSTEAD:
        if is_a(value, *kinds):
            return fix
    return f"store what it can be made of again, such as str(…); {GENERAL_FIX}"
