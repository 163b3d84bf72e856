"""How often, and when, a run that failed is repeated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..support.numbers import plain_number
from ..support.text import short_repr
from .errors import InvalidTask
from .times import YEAR_MS, parse_duration


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff with jitter.

    Attributes:
        max_retries: how often a failed run is repeated; 0: never; None: without limit.
        backoff: seconds (or a timedelta) before the first retry.
        factor: each pause is the one before times this, 1 or more.
        max_backoff: longest pause, in seconds (or a timedelta).
        jitter: by which part, 0 to 1, a pause is shorter or longer, at random, so that tasks that failed together are
            not repeated together.

    Raises:
        InvalidTask: naming the wrong field.
    """

    max_retries: int | None = 3
    backoff: float | timedelta = 1.0
    factor: float = 2.0
    max_backoff: float | timedelta = 3600.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        retries = self.max_retries
        if retries is not None and (type(retries) is not int or not 0 <= retries <= 2**31):
            raise InvalidTask(
                "Retry", "max_retries", f"is {short_repr(retries)}", "use a whole number from 0, or None for no limit"
            )
        for name in ("backoff", "max_backoff"):
            value = parse_duration(getattr(self, name), "Retry", name, maximum_ms=YEAR_MS)
            object.__setattr__(self, name, value / 1000)
        for name, lowest, highest in (("factor", 1.0, 1000.0), ("jitter", 0.0, 1.0)):
            number = plain_number(getattr(self, name))
            if number is None or not lowest <= number <= highest:
                rule = f"is {short_repr(getattr(self, name))}"
                raise InvalidTask("Retry", name, rule, f"use a number from {lowest:g} to {highest:g}")
            object.__setattr__(self, name, number)

    def allows(self, attempt: int) -> bool:
        """Whether another run is allowed after `attempt` failed ones."""
        return self.max_retries is None or attempt <= self.max_retries

    def delay_ms(self, attempt: int, random: float) -> int:
        """The pause before the next run, in ms, after `attempt` failed ones; `random` from [0, 1) spreads it."""
        backoff, longest = self.backoff, self.max_backoff
        assert isinstance(backoff, float)
        assert isinstance(longest, float)
        pause = 0.0
        if backoff:
            # In logarithms, because the power overflows a float when `attempt` is large.
            exponent = math.log(backoff) + (attempt - 1) * math.log(self.factor)
            pause = longest if longest == 0 or exponent >= math.log(longest) else math.exp(exponent)
        return max(0, round(pause * (1 + self.jitter * (2 * random - 1)) * 1000))

    def to_values(self) -> list[object]:
        """The fields in order, as they are stored."""
        return [self.max_retries, self.backoff, self.factor, self.max_backoff, self.jitter]

    @classmethod
    def from_values(cls, values: list[Any]) -> Retry:
        """A `Retry` from what `to_values` returned."""
        return cls(*values)
