"""Values as text, for messages and reprs: always short, whatever the value is."""

from __future__ import annotations

LONGEST_REPR = 180
"""Most characters of the repr of anything public."""


def short_repr(value: object, longest: int = 80) -> str:
    """The repr of a value, cut to `longest` characters. A repr that fails is replaced by the type."""
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits, a repr of the application that raises
        return f"<{type(value).__name__} without a repr>"
    return text if len(text) <= longest else f"{text[: longest - 3]}…"


def repr_of(owner: object, *parts: str) -> str:
    """The repr of an object of this package: its class and what is worth knowing; empty parts are left out."""
    text = f"{type(owner).__name__}({', '.join(part for part in parts if part)})"
    return text if len(text) <= LONGEST_REPR else f"{text[: LONGEST_REPR - 2]}…)"


def type_with_article(value: object) -> str:
    """The type of a value for a sentence: "an int", "a dict"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
