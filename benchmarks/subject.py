"""One process of what is measured: ``python -m benchmarks.subject ADAPTER describe|work|assign SPECIFICATION``.

Started by the measuring process in the environment of the adapter; answers in lines of JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from .adapter import Described, Description, Item, payload, run

BLOCK_ITEMS = 50_000
"""Items made at a time, so that filling up takes bounded memory."""


def describe(adapter: ModuleType) -> Described:
    """The description of an adapter, with the versions of what it uses."""
    versions = {}
    for name in adapter.DESCRIPTION.distributions:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    found: Description = adapter.DESCRIPTION
    return Described(configuration=found.configuration, bulk=found.bulk, recurring=found.recurring, versions=versions)


async def assign(adapter: ModuleType, specification: dict[str, Any]) -> None:
    """Assigns one segment of jobs after the other; a line on stdin begins each but the first.

    Only the calls of the client are timed, not the making of payloads.
    """
    client = await _call(adapter.client)
    for position, segment in enumerate(specification["segments"]):
        if position:
            await asyncio.to_thread(sys.stdin.readline)
        count, first = segment["count"], segment["first"]
        begin = time.time() + segment["lead"]
        if segment["grid"]:
            begin = math.ceil(begin / segment["grid"]) * segment["grid"]
        step = segment["spread"] / count
        seconds, cpu = 0.0, 0.0
        for start in range(0, count, BLOCK_ITEMS):
            numbers = range(start, min(start + BLOCK_ITEMS, count))
            items = [Item(first + number, payload(first + number), begin + number * step) for number in numbers]
            method = _method(client, specification)
            clock, processor = time.perf_counter(), time.process_time()
            await method(items)
            seconds += time.perf_counter() - clock
            cpu += time.process_time() - processor
        answer = {"count": count, "seconds": seconds, "cpu": cpu, "due": begin, "ended": time.time()}
        print(json.dumps(answer), flush=True)
    # The measuring process may look at the server while this client is still connected; then it kills this process.
    if len(specification["segments"]) > 1:
        await asyncio.to_thread(sys.stdin.readline)


def _method(client: Any, specification: dict[str, Any]) -> Callable[[Sequence[Item]], Any]:
    """How all items of a block are handed over: in one call, or one after another."""
    mode = specification["mode"]
    if mode == "bulk":
        return lambda items: _call(client.bulk, items)
    if mode == "recurring":
        seconds = specification["seconds"]
        return lambda items: _each(client.recurring, [(item, seconds) for item in items])
    if mode == "one":
        return lambda items: _each(client.one, [(item,) for item in items])
    return lambda items: _call(getattr(client, mode), items)


async def _each(call: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> None:
    if inspect.iscoroutinefunction(call):
        for each in arguments:
            await call(*each)
    else:
        for each in arguments:
            call(*each)


async def _call(call: Callable[..., Any], *arguments: Any) -> Any:
    result = call(*arguments)
    return await result if inspect.isawaitable(result) else result


def main() -> None:
    name, command = sys.argv[1:3]
    adapter = importlib.import_module(name)
    if command == "describe":
        print(json.dumps(describe(adapter)))
    elif command == "work":
        adapter.work()
    else:
        # An adapter may have an event loop of its own choice.
        getattr(adapter, "run", run)(assign(adapter, json.loads(sys.argv[3])))
        # No client is closed: everything it sent was answered, and nothing else matters here.
        os._exit(0)


if __name__ == "__main__":
    main()
