"""Tasks made ready to be written: every member checked, and encoded as the assign script takes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from ..model.errors import InvalidTask
from ..model.members import (
    CHECKS,
    check_delivery,
    check_misfire,
    check_misfire_limit,
    check_retry,
    encode_id,
    parse_jitter,
    parse_timeout,
)
from ..model.schedule import Cron, parse_interval
from ..model.task import Task
from ..model.times import parse_execute_on
from ..support.text import type_with_article
from .codec import encode_payload
from .definition import Definition, encode_body
from .schedule import next_slot

# A plain tuple and no class: many are made. A tuple of texts and bytes is made in a fraction of the time, and the
# garbage collector stops looking at it soon.
Prepared = tuple[bytes, str, str, bytes]
"""A task ready to be written, as the assign script takes it: id, slot, jitter in ms ("" for none), body."""


def task_id_of(task: object, owner: str | None = None) -> bytes:
    """The id of a `Task`, or an id that was given as text, as it is stored.

    Raises:
        InvalidTask: for anything that is neither.
    """
    if isinstance(task, Task):
        owner = type(task).__name__
        return encode_id(_member(task, "id", owner), owner)
    if isinstance(task, type) and issubclass(task, Task):
        raise _not_a_task(task)
    return encode_id(task, owner or "task")


def prepare(task: object, max_payload_bytes: int, now_ms: Callable[[], int]) -> Prepared:
    """Checks a task whole and encodes it.

    `now_ms()` is the time of the task's instance as far as known; only a Cron without ``execute_on`` asks for it.

    Raises:
        InvalidTask: naming class, member, rule and fix.
    """
    if not isinstance(task, Task):
        raise _not_a_task(task)
    owner = type(task).__name__
    try:
        task_id, execute_on = task.id, task.execute_on
        interval, retry, timeout = task.reschedule_interval, task.retry, task.timeout
        misfire, limit = task.misfire, task.misfire_limit
        delivery, jitter = task.delivery, task.jitter
    except AttributeError:
        for name in CHECKS:
            _member(task, name, owner)  # raises for the first one that is missing
        raise
    raw_id = encode_id(task_id, owner)
    (an_interval, a_retry, a_timeout, a_misfire, a_limit, a_delivery, a_jitter), recipe = _newest
    # One after the other: comparing two tuples would call __eq__, and take longer.
    same = interval is an_interval and retry is a_retry and timeout is a_timeout and misfire is a_misfire
    if not (same and limit is a_limit and delivery is a_delivery and jitter is a_jitter):
        recipe = _another_recipe(owner, (interval, retry, timeout, misfire, limit, delivery, jitter))
    slot = parse_execute_on(execute_on, owner)
    definition = recipe.definition
    if slot is not None:
        when = f"={slot}"
    elif isinstance(definition.schedule, Cron):
        slot = next_slot(definition.schedule, now_ms())
        when = f"~{slot}"
    else:
        when = "~"
    delay = ""
    if definition.jitter:
        delay = str(definition.delay(raw_id.decode(), now_ms() if slot is None else slot) or "")
    payload = encode_payload(task.serialize(), owner, max_payload_bytes)
    return raw_id, when, delay, recipe.head + payload + recipe.tail


@dataclass(slots=True, eq=False)
class _Recipe:
    """What tasks share that differ only in id, first due time and payload.

    `head` and `tail` are the bytes of the body before and after the payload.
    """

    definition: Definition
    head: bytes
    tail: bytes


def _another_recipe(owner: str, kind: tuple[object, ...]) -> _Recipe:
    """The recipe for tasks whose members from `reschedule_interval` on are `kind`. It becomes the newest one."""
    global _newest
    try:
        recipe = _recipe(owner, *kind)
    except TypeError:  # a value that cannot be hashed is not valid: without the cache, the error names the member
        return _recipe.__wrapped__(owner, *kind)
    _newest = kind, recipe
    return recipe


# Nearly always the same for all tasks of a class: checking and encoding once makes assigning in bulk twice as fast.
# Typed, because True and 1.0 equal 1, and not all of them are allowed.
@lru_cache(maxsize=1024, typed=True)
def _recipe(
    owner: str,
    interval: object,
    retry: object,
    timeout: object,
    misfire: object,
    limit: object,
    delivery: object,
    jitter: object,
) -> _Recipe:
    definition = Definition(
        None,
        parse_interval(interval, owner),
        check_retry(retry, owner),
        parse_timeout(timeout, owner),
        check_misfire(misfire, owner),
        check_misfire_limit(limit, owner),
        check_delivery(delivery, owner),
        parse_jitter(jitter, owner),
    )
    body = encode_body(b"", definition)
    return _Recipe(definition, body[:1], body[1:])


# Members and recipe of the newest task. Comparing with these first takes a third of the time of a look into the cache.
_newest: tuple[tuple[Any, ...], _Recipe] = ((object(),) * 7, _Recipe(Definition(None), b"", b""))


def _not_a_task(given: object) -> InvalidTask:
    """The error for what was given instead of a task."""
    if isinstance(given, type) and issubclass(given, Task):
        return InvalidTask(given.__name__, "", "is a class", f"pass an instance, {given.__name__}(...)")
    fix = "subclass interval_scheduler.Task and pass an instance"
    if isinstance(given, list | tuple | set | Iterator):
        fix = "pass one task here, and several to assign_tasks()"
    return InvalidTask("assign_task", "task", f"is {type_with_article(given)}, not a Task", fix)


def _member(task: Task, name: str, owner: str) -> object:
    try:
        return getattr(task, name)
    except AttributeError as error:
        if isinstance(inspect.getattr_static(task, name, None), property | cached_property):
            raise InvalidTask(owner, name, f"raised an AttributeError ({error})", "correct this property") from error
        raise InvalidTask(owner, name, f"is missing ({error})", f"define it on {owner}") from error
