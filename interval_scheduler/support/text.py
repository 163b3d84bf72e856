"""Values as text, for messages and reprs: always short, whatever the value is."""

from __future__ import annotations

LONGEST_REPR = 180
"""Most characters of the repr of anything public."""


def short_repr(value: object, longest: int = 80) -> str:
    """The repr of a value, cut to `longest` characters. A repr that fails is replaced by the type."""
    try:
        text = str.__str__(repr(value))
    except Exception:  # an int of thousands of digits, a repr of the application that raises
        return f"<{type(value).__name__} without a repr>"
    return text if len(text) <= longest else f"{text[: longest - 3]}…"


def error_text(error: BaseException, longest: int = 2000) -> str:
    """The type and the message of an error, as text of bounded length that is valid Unicode.

    An error of the application may do anything when it is asked for its message.
    """
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # its __str__ or __format__ may raise anything
        text = type(error).__name__
    return valid_text(text, longest)


def valid_text(text: str, longest: int = 2000) -> str:
    """A text without what UTF-8 cannot carry, cut to `longest` characters."""
    # By the methods of str itself: `text` may be of a subclass, whose own may do anything.
    return str.encode(text, "utf-8", "replace").decode()[:longest]


def repr_of(owner: object, *parts: str) -> str:
    """The repr of an object of this package: its class and what is worth knowing; empty parts are left out."""
    text = f"{type(owner).__name__}({', '.join(part for part in parts if part)})"
    return text if len(text) <= LONGEST_REPR else f"{text[: LONGEST_REPR - 2]}…)"


def type_with_article(value: object) -> str:
    """The type of a value for a sentence: "an int", "a dict"."""
    name = type(value).__name__
    return f"{'an' if name[:1] in tuple('aeiouAEIOU') else 'a'} {name}"
