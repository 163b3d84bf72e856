"""What a forked child does anew. It has a copy of everything, but none of its parent's threads.

A lock that another thread held at that moment would stay held in the child for ever. So would that of a module which
another thread was importing: the child could never import it. `held_back` keeps forks out of such imports.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

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


held_back = Lock()
"""Held around imports that are not made at the top of a module: a fork waits until they are done. Reentrant."""


def _before() -> None:
    held_back.__enter__()


def _in_parent() -> None:
    held_back.__exit__()


def _in_child() -> None:
    held_back.__exit__()
    for thing, renew in tuple(_renewals.items()):
        renew(thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
