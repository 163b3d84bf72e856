"""What a value is, without asking the value."""

from __future__ import annotations

from typing import TypeGuard, TypeVar

T = TypeVar("T")


def is_a(value: object, *kinds: type[T]) -> TypeGuard[T]:
    """As isinstance, which asks a value for its ``__class__``: a proxy may answer anything, or raise."""
    return issubclass(type(value), kinds)
