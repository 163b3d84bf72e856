"""Checks a subclass of `Task` when it is defined: a slip is told at its place, and not by a task that never runs.

Only what is certain is refused. Values of classes that are not known here, such as the fields of other libraries, are
checked when a task is assigned, like everything else. Where a class has a member itself, other names of it are its own
business: ``execute_at`` may be what its ``execute_on`` is computed from.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MemberDescriptorType
from typing import Any

from ..support.kinds import is_a
from ..support.text import short_repr, type_with_article
from .errors import InvalidTask, TaskDefinitionWarning
from .members import CHECKS
from .retry import Retry
from .schedule import Cron, Interval
from .spelling import MEMBERS, meant

# The words for members in other systems, and of the original packages. They are refused like misspelt ones.
_OTHER_NAMES = {"execute_at": "execute_on", "max_retry": "retry"}
_WORDS = {
    **dict.fromkeys(("eta", "countdown", "run_at", "start_at", "scheduled_at", "next_run_time"), "execute_on"),
    **dict.fromkeys(
        ("cron", "crontab", "schedule", "schedule_interval", "interval", "every", "run_every", "trigger"),
        "reschedule_interval",
    ),
    "reschedule_intervals": "reschedule_interval",
    "misfire_limits": "misfire_limit",
    **dict.fromkeys(("max_retries", "retries", "retry_delay", "retry_backoff", "default_retry_delay"), "retry"),
    **dict.fromkeys(("time_limit", "soft_time_limit", "job_timeout"), "timeout"),
    **dict.fromkeys(("misfire_grace_time", "coalesce"), "misfire"),
    **dict.fromkeys(("acks_late", "acks_on_failure_or_timeout"), "delivery"),
    **dict.fromkeys(("expires", "expires_in", "ttl", "priority", "queue", "rate_limit", "max_instances"), ""),
}
"""Options of other systems, and the member that does their work here ("" for none)."""
_PLAIN = frozenset({"builtins", "datetime", "decimal", "fractions", "enum", "uuid"})
"""Modules whose classes are surely no descriptors or fields that stand for something else."""
_COROUTINE, _GENERATOR = 0x80 | 0x200, 0x20
"""Flags of code: a coroutine function (or an asynchronous generator), a generator."""


def check_class(kind: type, base: type) -> None:
    """Checks a class, and the classes it inherits from that are no tasks, which nobody checked before.

    Raises:
        InvalidTask: for a misspelt member, and for a value that a member cannot have.
    """
    if "__dataclass_fields__" in kind.__dict__ or "__attrs_attrs__" in kind.__dict__:
        return  # made again, with slots: the first one was checked
    order = kind.__mro__
    names = {ancestor: _names(ancestor) for ancestor in order if ancestor not in base.__mro__}
    everything = frozenset().union(*names.values())
    given: set[str] = set()
    for ancestor, own in names.items():
        # By the order of inheritance: issubclass may ask a metaclass, which is not ready yet.
        if ancestor is kind or base not in ancestor.__mro__:
            for name in sorted(own):
                _check_spelling(kind, ancestor.__dict__.get(name), name, own)
            if order.index(ancestor) < order.index(base):  # else the values of the base come first
                for member in sorted(own.intersection(ancestor.__dict__, MEMBERS) - given):
                    _check_value(kind, member, ancestor.__dict__[member])
        given |= own
    for name in sorted(names[kind]):
        _check_word(kind, name, everything)


def _names(kind: type) -> set[str]:
    """The names that a class gives values or types, in its body or in ``__init__``."""
    names = set(kind.__dict__) | set(_annotations(kind))
    for method in ("__init__", "__post_init__"):
        function = kind.__dict__.get(method)
        if is_a(function, FunctionType):
            names |= set(_stored(function.__code__))
    return {name for name in names if not name.startswith("_")}


def _annotations(kind: type) -> Mapping[str, Any]:
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations

        return get_annotations(kind, format=Format.FORWARDREF)
    return inspect.get_annotations(kind)


def _stored(code: CodeType) -> Iterator[str]:
    """The attributes that a method sets of its object: members, and names that might be misspelt ones."""
    wanted = {name for name in code.co_names if name in MEMBERS or name in _OTHER_NAMES or meant(name)}
    if not wanted:
        return
    from dis import get_instructions  # slow to import, and mostly not needed

    before = None
    for instruction in get_instructions(code):
        if instruction.opname == "STORE_ATTR" and instruction.argval in wanted and before is not None:
            # Some versions load two variables by one instruction.
            loaded = before.argval[-1] if isinstance(before.argval, tuple) else before.argval
            if "LOAD_FAST" in before.opname and code.co_varnames[:1] == (loaded,):
                yield instruction.argval
        before = instruction


def _check_spelling(kind: type, value: object, name: str, own: set[str]) -> None:
    member = meant(name)
    if member is None or member in own:
        return
    # A method that is called with arguments is no option of the task, whatever its name.
    if member == "serialize" or not is_a(value, FunctionType) or value.__code__.co_argcount == 1:
        raise InvalidTask(kind.__name__, name, "is no member of a Task", f"write {member}")


def _check_word(kind: type, name: str, everything: frozenset[str]) -> None:
    """Refuses another name of a member, and warns of a word of other systems, where the member itself is not given."""
    member = _OTHER_NAMES.get(name) or _WORDS.get(name)
    value = kind.__dict__.get(name)
    is_method = is_a(value, FunctionType, classmethod, staticmethod, MemberDescriptorType)
    if member is None or member in everything or is_method:
        return
    if name in _OTHER_NAMES:
        fix = "write retry = Retry(max_retries=…)" if member == "retry" else f"write {member}"
        raise InvalidTask(kind.__name__, name, "is no member of a Task", fix)
    if value is not None and name not in _annotations(kind):
        _warn(kind, name, member)


def _warn(kind: type, name: str, member: str) -> None:
    instead = f"use {member}" if member else "nothing here does its work"
    text = (
        f"{kind.__name__}.{name} has no effect: it is no member of a Task; {instead}. If it is your own, annotate it."
    )
    level, frame = 1, sys._getframe()
    internal = {__name__.partition(".")[0], "abc", "dataclasses", "typing"}
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in internal:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, TaskDefinitionWarning, stacklevel=level)


def _check_value(kind: type, member: str, value: object) -> None:
    """Refuses a value in the body of a class that the member can never have."""
    getter = value.fget if is_a(value, property) else None
    if is_a(getter, FunctionType) and getter.__code__.co_flags & (_COROUTINE | _GENERATOR):
        what = "a coroutine function" if getter.__code__.co_flags & _COROUTINE else "a generator"
        raise InvalidTask(kind.__name__, member, f"is {what}", "make it a plain property")
    if member == "serialize":
        _check_serialize(kind, value)
    elif is_a(value, FunctionType, classmethod, staticmethod):
        raise InvalidTask(kind.__name__, member, "is a method", "make it a property: write @property above it")
    elif _is_plain(value):
        CHECKS[member](value, kind.__name__)


def _is_plain(value: object) -> bool:
    """Whether a value is surely meant as it is: no field of another library, and nothing that says "later"."""
    kind = type(value)
    if kind in (Retry, Cron, Interval):
        return True
    if value is None or value is ... or (type(value) is str and not value):
        return False
    return not hasattr(kind, "__get__") and any(ancestor.__module__ in _PLAIN for ancestor in kind.__mro__[:-1])


def _check_serialize(kind: type, value: object) -> None:
    fix = "write def serialize(self), which returns the payload"
    if is_a(value, property):
        raise InvalidTask(kind.__name__, "serialize", "is a property", "leave @property out: it is called")
    if is_a(value, FunctionType):
        code, flags = value.__code__, value.__code__.co_flags
        if flags & (_COROUTINE | _GENERATOR):
            what = "a coroutine function" if flags & _COROUTINE else "a generator"
            raise InvalidTask(kind.__name__, "serialize", f"is {what}", fix)
        needed = code.co_varnames[: code.co_argcount - len(value.__defaults__ or ())][1:]
        keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
        needed += tuple(name for name in keywords if name not in (value.__kwdefaults__ or {}))
        if needed:
            raise InvalidTask(kind.__name__, "serialize", f"needs the arguments {', '.join(needed)}", fix)
        if not code.co_argcount and not flags & 0x04:
            raise InvalidTask(kind.__name__, "serialize", "does not take self", fix)
    elif _is_plain(value) and not callable(value):
        raise InvalidTask(kind.__name__, "serialize", f"is {type_with_article(value)}: {short_repr(value)}", fix)
