"""`Task`: what the application schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..support.text import repr_of, short_repr
from .errors import InvalidTask
from .members import Delivery as Delivery
from .members import Misfire as Misfire
from .retry import Retry
from .task_check import check_class

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from .schedule import Cron, Interval


MYPY = False
"""What mypy takes for true. It knows of a function that a decorator makes a descriptor: a subclass may make it a
property, a field or an attribute, in its body or in ``__init__``, of a fitting type. Pyright would refuse all of them,
and is told nothing of the types.
"""

if MYPY:
    T = TypeVar("T")

    class _Member(Generic[T]):
        """A member that has a type, whatever a subclass makes of it."""

        def __get__(self, task: object, kind: object) -> T: ...

        def __set__(self, task: object, value: T) -> None: ...

    def _member(function: Callable[[Any], T]) -> _Member[T]: ...
else:
    _member: Any = None


class Task:
    """What the application schedules. Subclass it with properties, plain attributes or as a dataclass.

    `id` and `serialize` are required; everything else has a default:

    - ``id``: a str, the identity of the task: not empty, at most 1,024 bytes of UTF-8. The same id is the same task.
    - ``execute_on``: the first due time: aware datetime, unix seconds, or None for as soon as possible (Cron: next
      match).
    - ``reschedule_interval``: seconds between occurrences (rounded to 1 ms), a timedelta, a `Cron`, or None to run
      once.
    - ``retry``: a `Retry`: how often and when a run that failed is repeated.
    - ``timeout``: seconds (or a timedelta) a run may take; None for as long as it likes.
    - ``misfire``: what happens after occurrences were missed: ``"coalesce"``: one run for all of them; ``"skip"``: only
      the latest one runs; ``"all"``: each one runs.
    - ``misfire_limit``: how many missed occurrences ``misfire="all"`` runs at most: the newest ones.
    - ``delivery``: what happens after a worker died during a run: ``"at_least_once"``: the run is repeated;
      ``"at_most_once"``: it becomes a dead letter with unknown outcome.
    - ``jitter``: seconds (or a timedelta) over which tasks are spread: each id is late by its own, constant part of it.

    A subclass is checked when it is defined: a value that its member cannot have, and a name that is nearly that of a
    member (``rescedule_interval``), raise `InvalidTask`; an option of other systems that has no effect here (``cron``,
    ``eta``) is told by a `TaskDefinitionWarning`.
    """

    # For type checkers these are something else: attributes could not be made properties by a subclass, and properties
    # could not be set by its __init__. Both are allowed.
    if TYPE_CHECKING:

        @_member
        def id(self) -> str: ...

        @_member
        def execute_on(self) -> datetime | float | None: ...

        @_member
        def reschedule_interval(self) -> float | timedelta | Cron | Interval | None: ...

        @_member
        def retry(self) -> Retry: ...

        @_member
        def timeout(self) -> float | timedelta | None: ...

        @_member
        def misfire(self) -> str: ...  # of a Literal, misfire: str = "skip" would be wrong

        @_member
        def misfire_limit(self) -> int: ...

        @_member
        def delivery(self) -> str: ...

        @_member
        def jitter(self) -> float | timedelta: ...

    else:
        execute_on = None
        reschedule_interval = None
        retry = Retry()
        timeout = None
        misfire = "coalesce"
        misfire_limit = 100
        delivery = "at_least_once"
        jitter = 0

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        check_class(cls, Task)

    def __repr__(self) -> str:
        try:
            task_id = self.id
        except Exception:  # a property of the application, perhaps of an object that is not complete yet
            return repr_of(self, "no id")
        return repr_of(self, short_repr(task_id))

    def serialize(self) -> Any:
        """The payload; the handler gets it back equal.

        Anything that msgpack carries exactly: None, bool, int of 64 bits, float, str, bytes, and lists and dicts of
        these. Tuples are refused, because they would come back as lists.
        """
        owner = type(self).__name__
        raise InvalidTask(owner, "serialize()", "is missing", f"define serialize(self) on {owner}")
