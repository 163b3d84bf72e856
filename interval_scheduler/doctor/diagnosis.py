"""The diagnosis: every check of every instance, put together."""

from __future__ import annotations

from typing import Any, Unpack

from ..model.errors import PartitionUnavailable, UnusableInstance
from ..model.instances import Instance
from ..model.options import OptionFields, Options, OptionsGiven, load_options
from ..servers.requirements import Finding, number, parse_info, startup_findings, untold_findings
from ..support.runtime import Runtime
from ..transport.blocking import BlockingTransport
from ..transport.endpoint import Endpoint, close_pool
from .clocks import clock_findings, measure_clock
from .connection import Connection, is_unknown, lacks_right
from .namespace import Mark, name_findings, read_mark, topology_findings
from .rights import right_findings
from .trial import Trial, trial_namespace
from .zones import live_workers, zone_findings


def diagnose(
    options: OptionsGiven = None, *, runtime: Runtime | None = None, **fields: Unpack[OptionFields]
) -> list[Finding]:
    """Checks every instance of the options, and whether they fit the namespace. Blocks; a few round trips each.

    Nothing of the configured namespace is changed, and it is not created where it is new. What is tried for real is
    tried in a throw-away namespace, and deleted.

    Args:
        options: whatever a `Scheduler` takes.
        runtime: only for tests and simulations.
        **fields: single options by name, on top of `options`.

    Raises:
        InvalidOptions: naming every wrong field. Everything else that is wrong is a finding.
    """
    loaded = load_options(options, fields)
    diagnosis = _Diagnosis(loaded, runtime or Runtime())
    try:
        return diagnosis.run()
    finally:
        diagnosis.close()


class _Diagnosis:
    """One run of `diagnose`."""

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._options = options
        self._runtime = runtime
        reach = runtime.endpoint or Endpoint
        self._endpoints: dict[str, Endpoint] = {instance.name: reach(instance) for instance in options.instances}
        self._transport = BlockingTransport(self._endpoints)
        self._pools: list[Any] = []
        self._clocks: dict[str, tuple[float, float]] = {}
        self._marks: dict[str, Mark] = {}

    def run(self) -> list[Finding]:
        findings: list[Finding] = []
        for instance in self._options.instances:
            found: list[Finding] = []
            try:
                self._examine(instance, found)
            except Exception as error:  # the other instances are examined whatever it is
                findings += [finding for finding in found if finding.check != "reachable"]
                findings.append(_unreachable(instance, self._endpoints[instance.name].failure(error)))
            else:
                findings += found
        findings += clock_findings(self._clocks)
        findings += topology_findings(self._options, self._marks, self._transport.execute, self._runtime)
        order = [instance.name for instance in self._options.instances]
        return sorted(findings, key=lambda finding: order.index(finding.instance))

    def close(self) -> None:
        self._transport.close()
        for pool in self._pools:
            close_pool(pool)
        for endpoint in self._endpoints.values():
            endpoint.close()

    def _examine(self, instance: Instance, found: list[Finding]) -> None:
        """Adds to `found` as it goes, so that what was seen before a connection broke is kept."""
        name, namespace = instance.name, self._options.namespace
        endpoint = self._endpoints[name]
        endpoint.open()
        pool = endpoint.connection_pool(asynchronous=False)
        self._pools.append(pool)
        with Connection(pool) as connection:
            info: dict[str, str] = {}
            answer = connection.one("INFO")
            if instance.kind == "memory":
                message = "memory:// keeps nothing: tasks end with this process"
                found.append(Finding("warning", name, "persistence", message, "use it for tests and demos only"))
            elif isinstance(answer, bytes):
                info = parse_info(answer.decode("utf-8", "replace"))
                found += startup_findings(info, name)
            elif is_unknown(answer):
                found += untold_findings(answer, name)
            elif not lacks_right(answer):  # which `right_findings` reports
                raise answer
            found.insert(0, Finding("ok", name, "reachable", "it answers"))
            if number(info, "loading"):
                return
            if (clock := measure_clock(connection, self._runtime)) is not None:
                self._clocks[name] = clock
            user = str(instance.settings.get("username", "default"))
            trial = trial_namespace(namespace)
            found += right_findings(connection, name, user, namespace, trial, self._options.partitions)
            mark = read_mark(connection, namespace)
            if isinstance(mark, Mark):
                self._marks[name] = mark
            if name == self._options.master.name:
                ahead = clock[0] if clock is not None else 0.0
                workers = live_workers(connection, namespace, (self._runtime.time() + ahead) * 1000)
                found += zone_findings(name, self._runtime.zone_data(), workers)
            found += name_findings(mark, name, namespace)
            if any(finding.level == "error" and finding.check in ("rights", "role", "version") for finding in found):
                message = "they were not tried, because they would fail"
                found.append(Finding("warning", name, "scripts", message, "repair the errors of this instance first"))
            else:
                found += Trial(name, trial, self._options, self._transport.execute, connection, self._runtime).run()


def _unreachable(instance: Instance, failure: PartitionUnavailable) -> Finding:
    message = f"no usable connection ({failure.reason}): its partitions are unavailable"
    if isinstance(failure, UnusableInstance) and failure.remedy:
        fix = failure.remedy
    elif instance.kind == "sentinel":
        fix = "check the addresses of the Sentinels, and the service name"
    else:
        fix = "check that the server runs, its address and port, firewall, TLS (rediss://) and maxclients"
    return Finding("error", instance.name, "reachable", message, fix)
