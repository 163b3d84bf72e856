"""What every question gets: sizes, peers, servers, and what earlier questions found out about servers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from interval_scheduler import Options

from .figures import Figure, Missing
from .processes import Client, Failed, Segment, stage
from .servers import Server, running
from .subjects import COROUTINE, Subject

DAY = 24 * 3600.0
_DEFAULTS = Options()
BUCKET_SECONDS = _DEFAULTS.storage.task_interval_seconds
NAMESPACE = _DEFAULTS.namespace
PARTITIONS = _DEFAULTS.partitions
_WARM = 100
"""Tasks assigned before the measurement: they open connections, load scripts and allocate buffers."""
_TRIAL = 1000
"""Jobs that are assigned to measure how fast a subject assigns."""


@dataclass(frozen=True, slots=True)
class Blocking:
    """How long our scripts blocked one server: the time that 999 of 1,000 calls stayed below, and the longest call."""

    p999: float
    longest: float


@dataclass(frozen=True, slots=True)
class Filled:
    """A server with `count` pending tasks of ours in the default namespace, which were assigned at `rate` a second.

    They are due uniformly over `seconds` from `begin` on, where a bucket begins, about a day after they were assigned.
    """

    server: Server
    count: int
    begin: float
    seconds: float
    bytes_per_task: float
    rate: float


@dataclass(slots=True)
class Bench:
    """One run of some questions."""

    quick: bool
    peers: Sequence[Subject]
    largest: int
    """Most tasks that a server is filled with."""
    repetitions: int = 1
    repetition: int = 0
    peer_repetitions: int = 1
    """In how many of the repetitions peers are measured too."""
    blocking: dict[str, list[Blocking]] = field(default_factory=lambda: defaultdict(list))
    """By question, how long its servers were blocked."""
    rates: dict[str, float] = field(default_factory=dict)
    """By subject, the jobs that it assigns per second, once measured: how early to begin before jobs are due."""
    _filled: dict[tuple[int, float], Filled] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @property
    def asks_peers(self) -> bool:
        """Whether peers are measured in this repetition."""
        return self.repetition < self.peer_repetitions

    @property
    def last(self) -> bool:
        """Whether this is the last repetition: then filled servers may be changed for good."""
        return self.repetition == self.repetitions - 1

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

    def fills(self) -> list[int]:
        """How many tasks to fill servers with."""
        sizes = [2000, 5000] if self.quick else [100_000, 1_000_000, 10_000_000]
        return [size for size in sizes if size <= self.largest] or [self.largest]

    def filled(self, count: int, seconds: float) -> Filled:
        """A server with `count` tasks pending over `seconds`, filled once per run. Questions undo what they change."""
        key = (count, seconds)
        if key not in self._filled:
            self._filled[key] = self._fill(count, seconds)
        return self._filled[key]

    def _fill(self, count: int, seconds: float) -> Filled:
        [server] = self._stack.enter_context(running())
        with stage(COROUTINE, [server]) as place:
            segments = [Segment(_WARM, count, DAY, seconds), Segment(count, 0, DAY, seconds, BUCKET_SECONDS)]
            client = Client(place, segments, "bulk")
            try:
                # The client is connected and idle when memory is read, both times: so its own share cancels out.
                client.answer()
                before = server.memory()
                client.go_on()
                assigned = client.answer(3600.0)
                grown = server.memory() - before
            finally:
                client.close()
        self.remember("fill", server)
        server.forget()
        return Filled(server, count, assigned.due, seconds, grown / count, assigned.rate)

    def rate(self, subject: Subject) -> float:
        """Jobs a second that the client of a subject assigns in bulk, measured on the first call."""
        if subject.name not in self.rates:
            with running() as servers, stage(subject, servers) as place:
                client = Client(place, [Segment(_WARM), Segment(_TRIAL, _WARM)], "bulk")
                try:
                    client.answer()
                    client.go_on()
                    self.rates[subject.name] = client.answer().rate
                finally:
                    client.close()
        return self.rates[subject.name]

    def lead(self, subject: Subject, count: int) -> float:
        """Seconds to begin before `count` jobs are due, so that all are assigned by then."""
        return count / self.rate(subject) * 2 + 2.0

    def close(self) -> None:
        self._stack.close()


def attempt(what: str, subject: Subject, measure: Callable[[], Iterator[Figure]]) -> Iterator[Figure | Missing]:
    """The figures of a subject. If it fails, the reason takes their place, and the run goes on."""
    try:
        yield from measure()
    except Failed as error:
        yield Missing(what, subject.name, " ".join(str(error).split())[-300:])
