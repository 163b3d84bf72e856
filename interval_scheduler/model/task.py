"""The values users meet: tasks, and what the scheduler tells about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .errors import InvalidTask
from .retry import Retry

if TYPE_CHECKING:
    pass

Misfire = Literal["coalesce", "skip", "all"]
Delivery = Literal["at_least_once", "at_most_once"]


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
    - ``misfire``: what becomes of occurrences that were missed: ``"coalesce"`` into one run, ``"skip"`` to the
      latest, or ``"all"``.
    - ``misfire_limit``: the most missed occurrences that ``misfire="all"`` makes up for: the newest ones.
    - ``delivery``: whether a run whose worker died is repeated, ``"at_least_once"``, or kept as a dead letter with
      unknown outcome, ``"at_most_once"``.
    - ``jitter``: seconds (or a timedelta) over which tasks are spread: each id is always late by the same part of it.
    """

    # Type checkers do not see these. Declared as attributes they could not be properties of a subclass, declared as
    # properties they could not be set in its __init__; both are wanted, and assigning checks every value anyway.
    if not TYPE_CHECKING:
        execute_on = None
        reschedule_interval = None
        retry = Retry()
        timeout = None
        misfire = "coalesce"
        misfire_limit = 100
        delivery = "at_least_once"
        jitter = 0

    def serialize(self) -> Any:
        """The payload; the handler gets it back equal.

        Anything msgpack carries exactly: None, bool, int of 64 bits, float, str, bytes, and lists and dicts of these.
        Tuples, which would come back as lists, are refused.
        """
        owner = type(self).__name__
        raise InvalidTask(owner, "serialize()", "is missing", f"define serialize(self) on {owner}")
