"""Fault plans: what goes wrong in one simulated run, drawn from its seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from .kernel import Kernel, Process
from .network import FATES, Weather
from .servers import SimulatedServer

SERVER_FAULTS = ("down", "down-losing-writes", "clock-step", "script-flush", "hang-up", "unreachable")
PROCESS_FAULTS = ("crash", "stall", "deploy")
HANDLER_FAULTS = ("hostile-handler",)
MESSAGE_FAULTS = ("lost-hint", "doubled-hint", "late-hint")
LOSS_SECONDS = 1.0
"""Writes that `appendfsync everysec` may lose."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something done to a server or a process at a virtual time, for so many seconds or by so many."""

    time: float
    kind: str
    which: int
    amount: float


class FaultPlan(Weather):
    """The weather and the happenings of a run whose faults end at `until`. `injected` counts faults by kind."""

    def __init__(self, kernel: Kernel, until: float, servers: int, workers: int, lease_seconds: float) -> None:
        self.injected: Counter[str] = Counter()
        self.until = until
        self._kernel = kernel
        self._random = random.Random(f"faults-{kernel.seed}")
        chance = self._random
        self.calm = chance.random() < 0.1
        """No faults at all: then everything must also be prompt."""
        # By a generator of its own, so that seeds stay what they were before there was this fault.
        self.hostile = not self.calm and random.Random(f"hostile-{kernel.seed}").random() < 0.5
        """Whether there are hostile handlers."""
        kinds = [*SERVER_FAULTS, *PROCESS_FAULTS]
        rate = 0.0 if self.calm else chance.choice([0.0, 0.001, 0.004, 0.015])
        self._fates = {fate: rate * chance.random() for fate in FATES if chance.random() < 0.7}
        self._messages = {fault: 0.0 if self.calm else chance.choice([0.0, 0.02, 0.3]) for fault in MESSAGE_FAULTS}
        self._slowest = chance.choice([0.0005, 0.002, 0.02])
        self._cut_off: dict[tuple[str, str], float] = {}
        self.happenings: list[Happening] = []
        # A clock that steps back over writes that are lost would let tokens go back: no system can tell.
        without = chance.choice(["down-losing-writes", "clock-step"])
        for _ in range(0 if self.calm else chance.randrange(8)):
            kind = chance.choice(kinds)
            if kind == without:
                continue
            which = chance.randrange(servers if kind in SERVER_FAULTS else workers)
            self.happenings.append(Happening(chance.uniform(2, until), kind, which, self._amount(kind, lease_seconds)))

    def _amount(self, kind: str, lease_seconds: float) -> float:
        chance = self._random
        if kind == "clock-step":
            return chance.choice([-1, 1]) * chance.choice([0.05, 2.0, 30.0])
        if kind == "stall":
            return lease_seconds * chance.choice([0.3, 0.9, 1.5, 4.0])
        return chance.choice([0.05, 0.5, 3.0, 8.0])

    @property
    def promptness(self) -> float | None:
        """Seconds by which a handler may start late: a few round trips, if nothing goes wrong in this run."""
        return 0.01 + 6 * self._slowest if self.calm else None

    @property
    def _raging(self) -> bool:
        return self._kernel.now < self.until

    def latency(self) -> float:
        return self._random.uniform(0.0001, self._slowest)

    def command(self, process: Process, server: SimulatedServer, args: list[bytes]) -> str:
        if not self._raging or self._kernel.now < 1.0:
            return ""
        drawn = self._random.random()
        for fate, rate in self._fates.items():
            drawn -= rate
            if drawn < 0:
                if fate.startswith("crash") and not process.name.startswith("worker"):
                    return ""
                self.injected[fate] += 1
                return fate
        return ""

    def message(self) -> list[float]:
        copies = [self.latency()]
        if self._raging:
            if self._strikes("doubled-hint"):
                copies.append(self._random.uniform(0, 5))
            if self._strikes("late-hint"):
                copies[0] += self._random.uniform(0, 5)
            if self._strikes("lost-hint"):
                copies.clear()
        return copies

    def _strikes(self, fault: str) -> bool:
        if self._random.random() < self._messages[fault]:
            self.injected[fault] += 1
            return True
        return False

    def cut_off(self, process: Process, server: SimulatedServer, seconds: float) -> None:
        """New connections from the process to the server hang for a while."""
        self._cut_off[process.name, server.name] = self._kernel.now + seconds

    def reachable(self, process: Process, server: SimulatedServer) -> bool:
        return self._cut_off.get((process.name, server.name), 0.0) <= self._kernel.now

    def slowness(self) -> float:
        return self._random.choice([0.05, 1.0, 4.0, 8.0])
