"""`Task`: what the application schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..support.text import repr_of, short_repr
from .errors import InvalidTask
from .members import Delivery as Delivery
from .members import Misfire as Misfire
from .retry import Retry
from .task_check import check_class


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

    # Type checkers do not see these. If they were declared as attributes, a subclass could not make them properties; if
    # they were declared as properties, its __init__ could not set them. Both are allowed, and assigning checks them.
    if not TYPE_CHECKING:
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
            task_id = self.id  # type: ignore[attr-defined]
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
