"""Recurring and one-off tasks at their time, on Redis.

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .async_scheduler import AsyncScheduler as AsyncScheduler
    from .model.errors import AlreadyExecuting as AlreadyExecuting
    from .model.errors import AssignFailed as AssignFailed
    from .model.errors import CorruptRecord as CorruptRecord
    from .model.errors import EmbeddedServerError as EmbeddedServerError
    from .model.errors import GiveUp as GiveUp
    from .model.errors import InvalidOptions as InvalidOptions
    from .model.errors import InvalidTask as InvalidTask
    from .model.errors import LeaseLost as LeaseLost
    from .model.errors import LockNotAcquired as LockNotAcquired
    from .model.errors import NotAcceptingTasks as NotAcceptingTasks
    from .model.errors import PartitionUnavailable as PartitionUnavailable
    from .model.errors import PayloadTooLarge as PayloadTooLarge
    from .model.errors import Postpone as Postpone
    from .model.errors import RetryAfter as RetryAfter
    from .model.errors import SchedulerClosed as SchedulerClosed
    from .model.errors import SchedulerError as SchedulerError
    from .model.errors import TaskChanged as TaskChanged
    from .model.errors import TaskDefinitionWarning as TaskDefinitionWarning
    from .model.errors import TopologyMismatch as TopologyMismatch
    from .model.errors import UnsuitableServer as UnsuitableServer
    from .model.errors import UnusableInstance as UnusableInstance
    from .model.events import Event as Event
    from .model.locks import AsyncLock as AsyncLock
    from .model.locks import Lock as Lock
    from .model.options import Options as Options
    from .model.options import StorageOptions as StorageOptions
    from .model.results import AssignResult as AssignResult
    from .model.results import DeadTask as DeadTask
    from .model.results import PartitionStats as PartitionStats
    from .model.results import ScheduledTask as ScheduledTask
    from .model.results import Stats as Stats
    from .model.retry import Retry as Retry
    from .model.schedule import Cron as Cron
    from .model.task import Task as Task
    from .protocol.audit import Audit as Audit
    from .protocol.audit import Problem as Problem
    from .scheduler import Scheduler as Scheduler
    from .worker.run import Execution as Execution
    from .worker.run import current_execution as current_execution

_HOMES = {
    "async_scheduler": ("AsyncScheduler",),
    "protocol.audit": ("Audit", "Problem"),
    "model.errors": (
        "AlreadyExecuting",
        "AssignFailed",
        "CorruptRecord",
        "EmbeddedServerError",
        "GiveUp",
        "InvalidOptions",
        "InvalidTask",
        "LeaseLost",
        "LockNotAcquired",
        "NotAcceptingTasks",
        "PartitionUnavailable",
        "PayloadTooLarge",
        "Postpone",
        "RetryAfter",
        "SchedulerClosed",
        "SchedulerError",
        "TaskChanged",
        "TaskDefinitionWarning",
        "TopologyMismatch",
        "UnsuitableServer",
        "UnusableInstance",
    ),
    "model.locks": ("AsyncLock", "Lock"),
    "model.events": ("Event",),
    "model.results": ("AssignResult", "DeadTask", "PartitionStats", "ScheduledTask", "Stats"),
    "model.task": ("Task",),
    "model.options": ("Options", "StorageOptions"),
    "model.retry": ("Retry",),
    "model.schedule": ("Cron",),
    "scheduler": ("Scheduler",),
    "worker.run": ("Execution", "current_execution"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]  # pyright: ignore


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
