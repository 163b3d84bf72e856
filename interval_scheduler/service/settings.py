"""Settings of the service, from arguments or from environment variables ``TIMER_SERVICE_…``, all checked at once.

Where timers are kept and how workers claim them are options of the scheduler, which has variables of its own:
``INTERVAL_SCHEDULER_…``.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..model.errors import InvalidOptions
from ..model.retry import Retry
from .api_keys import ApiKey
from .destinations import Network
from .signing import parse_secret

DAY = 86_400
PREFIX = "TIMER_SERVICE_"
_FROM_KUBERNETES = re.compile(PREFIX + r"(HOST|PORT(_.*)?)")
"""Variables that Kubernetes sets in every container beside a service that is called "timer"."""
SCHEDULER_DEFAULTS: Mapping[str, object] = {
    "instances": ["embedded://timer-service-data"],
    "namespace": "timers",
    "concurrency": 1000,
}
"""Options of the scheduler that neither the caller nor the environment sets."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. Numbers are seconds unless the name says otherwise."""

    deliver: bool = True
    """Whether this process delivers webhooks too, besides answering requests."""
    api_keys: tuple[ApiKey, ...] = ()
    """Clients that may ask; with no key everybody may. Every key reaches every timer of the namespace."""
    rate_limit: float = 1000.0
    """Requests per second and client, in this process. Each item of a batch counts as one."""
    rate_burst: int = 1000
    """Requests that a client may make at once."""
    max_body_bytes: int = 4 * 1024 * 1024
    body_seconds: float = 10.0
    """Longest time for the body of a request to arrive."""
    max_batch: int = 10_000
    """Most items of a batch."""
    horizon_seconds: float = 30.0 * DAY
    """How far ahead timers may be."""
    retention_seconds: float = 30.0 * DAY
    """How long finished timers are kept."""
    min_interval_seconds: float = 1.0
    """Shortest interval of recurring timers."""
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Standard Webhooks secrets, newest first: every delivery is signed with each of them."""
    allowed_networks: tuple[Network, ...] = ()
    """Networks that webhooks may go to although they are not public."""
    connect_seconds: float = 5.0
    """Longest time to connect to a receiver."""
    read_seconds: float = 10.0
    """Longest silence of a receiver."""
    total_seconds: float = 30.0
    """Longest time for a whole delivery attempt."""
    max_answer_bytes: int = 64 * 1024
    """How much of an answer is read. The connection of a longer answer is closed."""
    max_retries: int = 8
    """Attempts after the first one."""
    backoff_seconds: float = 5.0
    """Pause before the first retry."""
    backoff_factor: float = 3.0
    """Each further pause is so many times longer."""
    max_backoff_seconds: float = 4 * 3600.0
    """Longest pause between attempts."""
    max_retry_after_seconds: float = float(DAY)
    """Longest Retry-After of a receiver that is honoured."""
    host_concurrency: int = 50
    """Deliveries to one host at once, in this process."""
    delayed_after_seconds: float = 1.0
    """A delivery that starts later than this after its time has the status "delayed"."""

    def __repr__(self) -> str:
        """What differs from the defaults, without secrets."""
        changed = [option for option in fields(self) if getattr(self, option.name) != option.default and option.repr]
        shown = [f"{option.name}={getattr(self, option.name)!r}" for option in changed]
        if self.webhook_secrets:
            shown.append(f"{len(self.webhook_secrets)} webhook secrets")
        return f"Settings({', '.join(shown)})"

    @property
    def retry(self) -> Retry:
        """When a failed delivery is tried again."""
        return Retry(
            max_retries=self.max_retries,
            backoff=self.backoff_seconds,
            factor=self.backoff_factor,
            max_backoff=self.max_backoff_seconds,
            jitter=0.1,
        )

    def __post_init__(self) -> None:
        problems: list[str] = []
        for option in fields(self):
            if option.name not in _RANGES:
                continue
            name, value = option.name, getattr(self, option.name)
            lowest, highest = _RANGES[name]
            whole = isinstance(option.default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                problems.append(f"{name} is {value!r}: use a {'whole ' if whole else ''}number")
            elif not math.isfinite(value) or not lowest <= value <= highest:
                problems.append(f"{name} is {value!r}: use {lowest:,g} to {highest:,g}")
        for number, secret in enumerate(self.webhook_secrets, 1):
            try:
                parse_secret(secret)
            except ValueError as error:
                problems.append(f"webhook_secrets number {number} is wrong: {error}")
        if problems:
            raise InvalidOptions(problems)


# field: (lowest, highest)
_RANGES: Mapping[str, tuple[float, float]] = {
    "rate_limit": (0.001, 1e9),
    "rate_burst": (1, 10**9),
    "max_body_bytes": (1, 2**30),
    "body_seconds": (0.05, 3600),
    "max_batch": (1, 10**6),
    "horizon_seconds": (1, 3650 * DAY),
    "retention_seconds": (1, 3650 * DAY),
    "min_interval_seconds": (0.001, 30 * DAY),
    "connect_seconds": (0.05, 3600),
    "read_seconds": (0.05, 3600),
    "total_seconds": (0.05, 3600),
    "max_answer_bytes": (1, 2**30),
    "max_retries": (0, 1000),
    "backoff_seconds": (0, 30 * DAY),
    "backoff_factor": (1, 1000),
    "max_backoff_seconds": (0, 30 * DAY),
    "max_retry_after_seconds": (0, 30 * DAY),
    "host_concurrency": (1, 100_000),
    "delayed_after_seconds": (0, 30 * DAY),
}


def _flag(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "0", "false", "no"):
        raise ValueError("use true or false")
    return text.lower() in ("1", "true", "yes")


def _entries(text: str) -> list[str]:
    return text.replace(",", " ").split()


_READERS: Mapping[str, Callable[[str], object]] = {
    "deliver": _flag,
    "api_keys": lambda text: tuple(map(ApiKey.parse, _entries(text))),
    "webhook_secrets": lambda text: tuple(_entries(text)),
    "allowed_networks": lambda text: tuple(map(ipaddress.ip_network, _entries(text))),
}


def load_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings from ``TIMER_SERVICE_<NAME>`` variables, with `overrides` on top. Lists are separated by spaces.

    Raises:
        InvalidOptions: naming every variable that is unknown or wrong.
    """
    variables = os.environ if environment is None else environment
    known = {PREFIX + option.name.upper(): option for option in fields(Settings)}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for variable, text in variables.items():
        if not variable.startswith(PREFIX) or _FROM_KUBERNETES.fullmatch(variable):
            continue
        option = known.get(variable)
        if option is None:
            problems.append(f"environment variable {variable} is unknown: use {', '.join(known)}")
            continue
        try:
            values[option.name] = _READERS.get(option.name, type(option.default))(text)
        except ValueError as error:
            problems.append(f"environment variable {variable} is wrong: {error}")
    try:
        settings = replace(Settings(**values), **overrides)
    except InvalidOptions as error:
        problems += error.problems
    if problems:
        raise InvalidOptions(problems)
    return settings
