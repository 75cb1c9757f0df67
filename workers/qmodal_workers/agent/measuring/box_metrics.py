"""The metrics of a box: its containers and templates, what they take of it, and its lease.

Imported only where a port for metrics was given.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from qmodal import __version__
from qmodal.client.client import Client
from qmodal.store.history.statistics import ENDS, Series
from qmodal.store.server import ping
from qmodal.telemetry.metrics_server import (
    ANSWER_SECONDS,
    Families,
    LoopReader,
    MetricsServer,
    MetricsSource,
    gauge,
    redis_up,
)
from qmodal_workers.agent.box.machine import free_memory
from qmodal_workers.agent.box.offered import Offered
from qmodal_workers.agent.containers import ContainerTable
from qmodal_workers.agent.lease import SAFE_NS
from qmodal_workers.agent.measuring.gpu_metrics import GpuFacts, gpu_facts, gpu_families
from qmodal_workers.agent.measuring.statistics import FunctionStatistics
from qmodal_workers.devices.leases import GpuLeases
from qmodal_workers.ipc.shared_record import lease_clock
from qmodal_workers.spawn.template_pool import TemplatePool

STATES = ("starting", "ready", "draining")


@dataclass(frozen=True, slots=True)
class BoxFacts:
    """A box at one moment; `renewed` and `until`: when its lease was, and ends, by `lease_clock`."""

    worker: str
    states: Mapping[str, int]
    pids: tuple[int, ...]  # of containers
    templates: tuple[int, ...]  # pids
    totals: Mapping[str, int]  # starts and ends since this process began
    until: int
    gpus: tuple[GpuFacts, ...] = ()

    @property
    def lease_age(self) -> float:
        """Seconds since the request was sent that has renewed the lease."""
        return max(0, lease_clock() - (self.until - SAFE_NS)) / 1e9


class BoxMetrics(MetricsSource):
    """The metrics of one worker process; made in its loop. `watch` says which session is the present one."""

    def __init__(
        self,
        client: Client,
        statistics: FunctionStatistics,
        templates: TemplatePool,
        offered: Offered,
    ) -> None:
        self._client = client
        self._statistics = statistics
        self._templates = templates
        self._offered = offered
        self._reader = LoopReader(asyncio.get_running_loop())
        self._worker = ""
        self._containers = ContainerTable()
        self._gpus: GpuLeases | None = None

    def serve(self, port: int) -> MetricsServer:
        """The server on that port, started; raises ConfigurationError."""
        server = MetricsServer(port, self)
        server.start()
        return server

    def watch(self, worker: str, containers: ContainerTable, gpus: GpuLeases) -> None:
        """From now on the worker has this id, these containers, and these leases of its GPUs."""
        self._worker, self._containers, self._gpus = worker, containers, gpus

    def families(self) -> tuple[Families, bytes]:
        """As `MetricsSource.families`."""
        # First what needs no server, as that may not answer.
        facts = self._reader.ask(self._facts)
        is_up = self._reader.ask(self._ping) is not None
        found = [redis_up(is_up=is_up)]
        return ([*found, *self._box_families(facts)] if facts is not None else found), b""

    def is_ready(self) -> bool:
        """Whether the box has a lease, so that its containers work."""
        facts = self._reader.ask(self._facts)
        return facts is not None and lease_clock() < facts.until

    async def _facts(self) -> BoxFacts:
        living = self._containers.living()
        return BoxFacts(
            worker=self._worker,
            states=Counter(each.report.state for each in living),
            pids=tuple(each.pid for each in living if each.pid),
            templates=tuple(self._templates.pids),
            totals=dict(self._statistics.totals),
            until=self._containers.safe_until,
            gpus=() if self._gpus is None else gpu_facts(self._gpus, self._owner),
        )

    def _owner(self, container: str) -> Series | None:
        """The function of a container, once that is known."""
        found = self._containers.find(container)
        return None if found is None else found.series

    async def _ping(self) -> bool:
        await self._client.aio(ping(patience=ANSWER_SECONDS))
        return True

    def _box_families(self, facts: BoxFacts) -> Iterator[Metric]:
        about = {"worker": facts.worker, "version": __version__}
        yield InfoMetricFamily("qmodal_box", "The worker of this box.", value=about)
        yield from _offers(self._offered)
        states = GaugeMetricFamily(
            "qmodal_box_containers", "Containers of this box, by state.", labels=("state",)
        )
        for state in STATES:
            states.add_metric((state,), facts.states.get(state, 0))
        yield states
        yield from _totals(facts.totals)
        yield gauge(
            "qmodal_box_lease_age_seconds",
            "Seconds since its lease was renewed; it ends after ten.",
            facts.lease_age,
        )
        yield from _taken(facts)
        yield from gpu_families(facts.gpus)


def _offers(offered: Offered) -> Iterator[Metric]:
    yield gauge(
        "qmodal_box_max_containers", "Containers that it runs at most.", offered.max_containers
    )
    yield gauge("qmodal_box_cpus", "CPUs that it offers.", offered.cpus)
    yield gauge("qmodal_box_memory_bytes", "Memory that it offers.", offered.memory)
    yield gauge(
        "qmodal_box_memory_free_bytes",
        "Memory that programs may still take there before the kernel ends some.",
        free_memory(),
    )


def _totals(totals: Mapping[str, int]) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "qmodal_box_container_starts",
        "Containers that this worker has started.",
        value=totals.get("starts", 0),
    )
    ends = CounterMetricFamily(
        "qmodal_box_container_ends",
        "Containers of this worker that have ended, by how.",
        labels=("how",),
    )
    for how in ENDS:
        ends.add_metric((how,), totals.get(f"end:{how}", 0))
    yield ends


def _taken(facts: BoxFacts) -> Iterator[Metric]:
    """What containers and templates take of the box, with all that they have started."""
    over = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = over.ru_utime + over.ru_stime
    for each in psutil.Process().children():
        with suppress(psutil.Error):
            seconds += sum(each.cpu_times()[:4])
    yield CounterMetricFamily(
        "qmodal_box_cpu_seconds",
        "Processor time of all that the worker has started.",
        value=seconds,
    )
    yield gauge(
        "qmodal_box_container_memory_bytes",
        "Resident memory of its containers; pages that they share count for each.",
        _resident(facts.pids),
    )
    yield gauge(
        "qmodal_box_template_memory_bytes",
        "Resident memory of the templates that containers are forked from.",
        _resident(facts.templates),
    )


def _resident(pids: Collection[int]) -> float:
    total = 0
    for pid in pids:
        with suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return total
