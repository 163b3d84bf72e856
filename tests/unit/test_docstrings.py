"""Both schedulers have whole docstrings in their source, and they say the same: editors show what stands there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "interval_scheduler"

DIFFERENCES = {
    "": [
        ("Methods block; any thread may call them.", "Methods are coroutines on the application's event loop."),
        (
            "Workers, and the watch over the instances, run on an event loop in a thread of their own. Assigning, "
            "removing and reading do not use that loop. `AsyncScheduler` has the same methods as coroutines.",
            "Calls that are made in the same turn of the loop are sent together. `Scheduler` has the same methods, "
            "which block.",
        ),
    ],
    "close": [("A ``with`` block", "An ``async with`` block"), ("a handler or a callback", "a handler")],
    "start_task_execute": [("the scheduler's event loop", "the application's event loop")],
    "wait": [("Blocks until", "Waits until")],
    "assign_task": [
        (
            "Raises:",
            "The command is sent in this turn of the loop, whether the call is awaited or not: at once while calls "
            "come one at a time, else together with all others of the turn. What it returns is awaitable; only "
            "``asyncio.wait`` needs a task. Raises:",
        )
    ],
    "upcoming": [("due times.", "due times; iterate with ``async for``.")],
    "try_lock": [("`Lock.extend`", "`AsyncLock.extend`")],
    "lock": [("a ``with`` block", "an ``async with`` block"), ("`Lock.extend`", "`AsyncLock.extend`")],
}
"""By method ("" for the class): what the blocking scheduler says, and what the other one says instead."""


def docstrings(module: str, name: str) -> dict[str, str]:
    """The docstrings in the source text of a class, by method, with the white space of one line."""
    tree = ast.parse((ROOT / f"{module}.py").read_text())
    [found] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    nodes = [node for node in found.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    public = {node.name: node for node in nodes if not node.name.startswith("_") or node.name == "__init__"}
    texts = {method: ast.get_docstring(node) or "" for method, node in public.items()}
    return {method: " ".join(text.split()) for method, text in {"": ast.get_docstring(found) or "", **texts}.items()}


BLOCKING = docstrings("scheduler", "Scheduler")
COROUTINES = docstrings("async_scheduler", "AsyncScheduler")


def test_both_have_the_same_methods() -> None:
    assert BLOCKING.keys() == COROUTINES.keys()
    assert len(BLOCKING) > 30
    assert DIFFERENCES.keys() <= BLOCKING.keys()


@pytest.mark.parametrize("method", BLOCKING)
def test_both_say_the_same_but_for_what_differs(method: str) -> None:
    expected = BLOCKING[method]
    for blocking, coroutines in DIFFERENCES.get(method, ()):
        assert blocking in expected, "a difference that is listed but not there"
        expected = expected.replace(blocking, coroutines)
    assert COROUTINES[method] == expected


@pytest.mark.parametrize("method", COROUTINES)
def test_a_docstring_is_whole(method: str) -> None:
    for text in (BLOCKING[method], COROUTINES[method]):
        assert len(text) > 20
        assert "See `" not in text
