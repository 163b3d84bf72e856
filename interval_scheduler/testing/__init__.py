"""For tests: `SimulatedScheduler`, a scheduler in virtual time, and the simulation that proves the promises.

``python -m interval_scheduler.testing --seeds 10000`` runs many producers and workers, with the real scripts and the
real code, against faults drawn from each seed, and checks what happened.
"""

from .simulated import Occurrence, SimulatedRun, SimulatedScheduler

__all__ = ["Occurrence", "SimulatedRun", "SimulatedScheduler"]
