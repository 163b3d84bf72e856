"""Values as text, for messages and reprs: always short, whatever the value is."""

from __future__ import annotations


def short_repr(value: object, longest: int = 80) -> str:
    """The repr of a value, cut to `longest` characters. A repr that fails is replaced by the type."""
    try:
        text = repr(value)
    except Exception:  # an int of thousands of digits, a repr of the application that raises
        return f"<{type(value).__name__} without a repr>"
    return text if len(text) <= longest else f"{text[: longest - 3]}…"


def type_with_article(value: object) -> str:
    """The type of a value for a sentence: "an int", "a dict"."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
