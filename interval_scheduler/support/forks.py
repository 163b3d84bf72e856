"""What a forked child does anew. It has a copy of everything, but none of its parent's threads.

A lock that another thread held at that moment would stay held in the child for ever. So would that of a module which
another thread was importing: the child could never import it. `held_back` keeps forks out of such imports.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

_renewals: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def call_in_child(renew: Callable[[T], None], thing: T) -> None:
    """Calls ``renew(thing)`` in each forked child, before anything else runs there, as long as `thing` exists."""
    _renewals[thing] = renew


class Lock:
    """A lock that a forked child does not inherit from another thread. Whoever holds it may take it again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        call_in_child(Lock._renew, self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def _renew(self) -> None:
        if self._lock.acquire(blocking=False):
            self._lock.release()  # it was free, or the thread that forked holds it, and goes on in the child
        else:
            self._lock = threading.RLock()


count = 0
"""How many forks lie between the first process and this one. Who sees it change is a copy of its caller."""
held_back = Lock()
"""Held around imports that are not made at the top of a module: a fork waits until they are done. Reentrant."""


def _before() -> None:
    held_back.__enter__()


def _in_parent() -> None:
    held_back.__exit__()


def _in_child() -> None:
    global count
    count += 1
    held_back.__exit__()
    for thing, renew in tuple(_renewals.items()):
        renew(thing)


def end_child(error: BaseException | None = None) -> NoReturn:
    """Ends a forked child as the end of a program would: with its exit code, or with a traceback and 1.

    Exit functions are not called: they are those of the parent.
    """
    code: object = 0
    if isinstance(error, SystemExit):
        code = error.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    elif error is not None:
        with contextlib.suppress(Exception):  # there may be no stderr, and errors whose text raises
            traceback.print_exception(error)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be closed, or lead nowhere
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
