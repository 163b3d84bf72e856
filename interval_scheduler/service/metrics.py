"""Metrics for Prometheus. Every process has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..model.results import Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LATENESS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one process. Times in seconds."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.lateness = Histogram(
            "timer_lateness_seconds",
            "How long after its time the first delivery of a timer began",
            buckets=_LATENESS,
            registry=registry,
        )
        self.deliveries = Counter(
            "timer_deliveries",
            "Attempts by outcome: delivered, failed (retried if attempts are left), gave_up, postponed",
            ["outcome"],
            registry=registry,
        )
        self.delivery_seconds = Histogram(
            "timer_delivery_seconds", "How long one attempt took", buckets=_SECONDS, registry=registry
        )
        self.requests = Counter(
            "timer_requests", "Requests answered, by method and status", ["method", "status"], registry=registry
        )
        self.limited = Counter("timer_requests_limited", "Requests refused by the rate limit", registry=registry)
        self.created = Counter("timer_created", "Timers created", registry=registry)
        self.cancelled = Counter("timer_cancelled", "Timers cancelled", registry=registry)
        self._tasks = Gauge("timer_tasks", "Tasks in the namespace, by state", ["state"], registry=registry)
        self._overdue = Gauge(
            "timer_overdue_seconds", "How long the oldest waiting timer is overdue", registry=registry
        )
        self._unreachable = Gauge(
            "timer_partitions_unreachable", "Partitions whose Redis instance does not answer", registry=registry
        )

    def render(self, stats: Stats) -> bytes:
        """All metrics as text, with the state of the namespace."""
        for state in ("scheduled", "running", "retrying", "dead"):
            self._tasks.labels(state).set(getattr(stats, state))
        self._overdue.set(stats.lateness)
        self._unreachable.set(sum(partition.error is not None for partition in stats.partitions))
        return generate_latest(self.registry)
