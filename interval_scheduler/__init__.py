"""Recurring and one-off tasks at their time, on Redis.

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .async_scheduler import AsyncScheduler as AsyncScheduler
    from .auditing import Audit as Audit
    from .auditing import Problem as Problem
    from .errors import AlreadyExecuting as AlreadyExecuting
    from .errors import AssignFailed as AssignFailed
    from .errors import CorruptRecord as CorruptRecord
    from .errors import EmbeddedServerError as EmbeddedServerError
    from .errors import GiveUp as GiveUp
    from .errors import InvalidOptions as InvalidOptions
    from .errors import InvalidTask as InvalidTask
    from .errors import LeaseLost as LeaseLost
    from .errors import LockNotAcquired as LockNotAcquired
    from .errors import NotAcceptingTasks as NotAcceptingTasks
    from .errors import PartitionUnavailable as PartitionUnavailable
    from .errors import PayloadTooLarge as PayloadTooLarge
    from .errors import Postpone as Postpone
    from .errors import RetryAfter as RetryAfter
    from .errors import SchedulerClosed as SchedulerClosed
    from .errors import SchedulerError as SchedulerError
    from .errors import TaskChanged as TaskChanged
    from .errors import TopologyMismatch as TopologyMismatch
    from .errors import UnsuitableServer as UnsuitableServer
    from .locks import AsyncLock as AsyncLock
    from .locks import Lock as Lock
    from .model import AssignResult as AssignResult
    from .model import DeadTask as DeadTask
    from .model import Event as Event
    from .model import PartitionStats as PartitionStats
    from .model import ScheduledTask as ScheduledTask
    from .model import Stats as Stats
    from .model import Task as Task
    from .options import Options as Options
    from .options import StorageOptions as StorageOptions
    from .retry import Retry as Retry
    from .schedule import Cron as Cron
    from .scheduler import Scheduler as Scheduler
    from .worker.run import Execution as Execution
    from .worker.run import current_execution as current_execution

_HOMES = {
    "async_scheduler": ("AsyncScheduler",),
    "auditing": ("Audit", "Problem"),
    "errors": (
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
        "TopologyMismatch",
        "UnsuitableServer",
    ),
    "locks": ("AsyncLock", "Lock"),
    "model": (
        "AssignResult",
        "DeadTask",
        "Event",
        "PartitionStats",
        "ScheduledTask",
        "Stats",
        "Task",
    ),
    "options": ("Options", "StorageOptions"),
    "retry": ("Retry",),
    "schedule": ("Cron",),
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
