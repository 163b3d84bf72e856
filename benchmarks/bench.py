"""What every question is given: sizes, peers, servers, and the memory of what they found about servers on the way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from .figures import Figure, Missing
from .processes import Failed, Segment, assign, stage
from .servers import Server, running
from .subjects import COROUTINE, Subject

PENDING_SECONDS = 24 * 3600.0
"""Over which time the tasks of a filled server are due."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """How long scripts of ours kept one server busy: the time 999 of 1,000 calls took at most, and the longest."""

    p999: float
    longest: float


@dataclass(slots=True)
class Bench:
    """One run of some questions."""

    quick: bool
    peers: Sequence[Subject]
    repetition: int = 0
    blocking: dict[str, list[Blocking]] = field(default_factory=lambda: defaultdict(list))
    """By question, what its servers told at their end."""
    rates: dict[str, float] = field(default_factory=dict)
    """Of every subject the rate at which it assigns, as far as known: how early to begin before jobs are due."""
    _filled: dict[int, Server] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def servers(self, question: str, count: int = 1, persistence: str = "none") -> Iterator[list[Server]]:
        """Fresh servers. With the name of a question, what scripts did to them is remembered for B11."""
        with running(count, persistence) as servers:
            yield servers
            if question:
                for server in servers:
                    self.remember(question, server)

    def remember(self, question: str, server: Server) -> None:
        """Keeps how long scripts blocked a server."""
        self.blocking[question].append(Blocking(server.script_percentile(), server.slowest_script()))

    def filled(self, count: int) -> Server:
        """A server with `count` tasks pending over the next 24 hours, in the default namespace, filled once a run."""
        if count not in self._filled:
            [server] = self._stack.enter_context(running())
            with stage(COROUTINE, [server]) as place:
                assign(place, Segment(count, 0, 3600.0, PENDING_SECONDS))
            self._filled[count] = server
        return self._filled[count]

    def rate(self, subject: Subject) -> float:
        """Jobs a second that the client of a subject assigns in bulk, found out on the first call."""
        if subject.name not in self.rates:
            with running() as servers, stage(subject, servers) as place:
                self.rates[subject.name] = assign(place, Segment(200)).rate
        return self.rates[subject.name]

    def lead(self, subject: Subject, count: int) -> float:
        """Seconds to begin before `count` jobs are due, so that all are assigned by then."""
        return count / self.rate(subject) * 2 + 2.0

    def close(self) -> None:
        self._stack.close()


def attempted(what: str, subject: Subject, measure: Callable[[], Iterator[Figure]]) -> Iterator[Figure | Missing]:
    """The figures of a subject; if it fails, the reason in their place, and the run goes on."""
    try:
        yield from measure()
    except Failed as error:
        yield Missing(what, subject.name, " ".join(str(error).split())[-300:])
