"""What the tests of start-up checks share: reading findings, and servers that answer otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from interval_scheduler.doctor import Finding
from interval_scheduler.support.runtime import Runtime
from interval_scheduler.transport.endpoint import Endpoint


def not_ok(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.check) for finding in findings if finding.level != "ok"]


def message(findings: list[Finding], check: str) -> str:
    """What the findings of a check that are not good say."""
    return "\n".join(
        f"{finding.message}; {finding.fix}" for finding in findings if finding.check == check and finding.level != "ok"
    )


class Altered(Runtime):
    """A runtime in which the answers of servers to INFO and TIME are changed on their way, per instance."""

    def __init__(self, **change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.endpoint = lambda instance: AlteredEndpoint(instance, change.get(instance.name, lambda answer: answer))


class AlteredEndpoint(Endpoint):
    def __init__(self, instance: Any, change: Callable[[Any], Any]) -> None:
        super().__init__(instance)
        self._change = change

    def connection_pool(self, asynchronous: bool, answer_seconds: float = 5.0) -> Any:
        pool = super().connection_pool(asynchronous, answer_seconds)
        plain, change = pool.connection_class, self._change

        class Blocking(plain):  # type: ignore[misc,valid-type]
            def read_response(self, *args: Any, **named: Any) -> Any:
                return change(super().read_response(*args, **named))

        class Asynchronous(plain):  # type: ignore[misc,valid-type]
            async def read_response(self, *args: Any, **named: Any) -> Any:
                return change(await super().read_response(*args, **named))

        pool.connection_class = Asynchronous if asynchronous else Blocking
        return pool


def as_redis_6_0(answer: Any) -> Any:
    """INFO as an old server gives it."""
    if isinstance(answer, bytes) and b"redis_version:" in answer:
        return re.sub(rb"redis_version:\S+", b"redis_version:6.0.16", answer)
    return answer


def minutes_ahead(answer: Any) -> Any:
    """TIME by a clock that is two minutes fast."""
    if isinstance(answer, list) and len(answer) == 2 and re.fullmatch(rb"\d{10}", answer[0]):
        return [b"%d" % (int(answer[0]) + 120), answer[1]]
    return answer
