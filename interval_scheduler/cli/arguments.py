"""The arguments that all commands for a namespace share, and how they become options of a scheduler."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..model.instances import named_instance
from ..model.options import ENVIRONMENT, Options

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    """What ``add_subparsers`` returns: each command adds itself to it."""

DEFAULTS = Options()


def add_namespace_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say where tasks are."""
    storage = DEFAULTS.storage
    parser.add_argument(
        "--url",
        action="append",
        required=not os.environ.get("INTERVAL_SCHEDULER_INSTANCES"),
        metavar="URL",
        help="a Redis instance; repeat for several; NAME=URL names it (default: INTERVAL_SCHEDULER_INSTANCES)",
    )
    parser.add_argument(
        "--master-index",
        type=int,
        metavar="N",
        help=f"which URL, from 0, is the master instance (default {storage.master_index})",
    )
    parser.add_argument("--namespace", help=f"default {DEFAULTS.namespace}")
    parser.add_argument("--partitions", type=int, metavar="N", help=f"default {DEFAULTS.partitions}")
    parser.add_argument(
        "--task-interval-seconds",
        type=float,
        metavar="S",
        help=f"bucket width (default {storage.task_interval_seconds:g})",
    )


def scheduler_options(arguments: argparse.Namespace) -> dict[str, object]:
    """The arguments that were given, as options of a scheduler."""
    fields: dict[str, object] = {}
    if arguments.url:
        fields["instances"] = [named_instance(text) for text in arguments.url]
    for name in ENVIRONMENT.values():
        if getattr(arguments, name, None) is not None:
            fields[name] = getattr(arguments, name)
    return fields


@contextlib.contextmanager
def arguments_win(fields: dict[str, object]) -> Iterator[None]:
    """Hides the environment variables of options that were given as arguments, which would override them.

    Afterwards they are back, because the handler may make schedulers of its own.
    """
    hidden = {
        variable: os.environ.pop(variable)
        for variable, name in ENVIRONMENT.items()
        if name in fields and variable in os.environ
    }
    try:
        yield
    finally:
        os.environ.update(hidden)
