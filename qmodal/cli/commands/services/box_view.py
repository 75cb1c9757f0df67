"""Boxes as people see them: found by id or host, with what they offer, and what each container takes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from qmodal.cli.commands.fleet import FleetTable, look
from qmodal.client.client import Client
from qmodal.exception import Error, NotFoundError
from qmodal.spec.needs.counted import counted_cpu, counted_memory
from qmodal.spec.needs.gpus import Gpu
from qmodal.spec.needs.needs import Needs
from qmodal.spec.variant import options_in_force
from qmodal.store.fleet import ContainerReport
from qmodal.store.watch.boxes import BoxRecord
from qmodal.store.watch.observing import Observation
from qmodal.transport.operation import Op


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxView:
    """One box: its record, its containers that live, and its lease in seconds from now (negative: it has ended)."""

    record: BoxRecord
    containers: tuple[ContainerReport, ...]
    lease: float
    now: float  # of the server, in ms

    @property
    def worker(self) -> str:
        """Its id."""
        return self.record.report.worker

    @property
    def state(self) -> str:
        """What it does, in a word."""
        cordon = self.record.cordon
        if self.lease <= 0:
            return "lost"
        if cordon.drained:
            return "draining" if self.containers else "drained"
        return "cordoned" if cordon.is_closed else "ready"

    @property
    def row(self) -> dict[str, Any]:
        """What it is, in plain values; times in seconds."""
        report, cordon = self.record.report, self.record.cordon
        since = cordon.cordoned or cordon.drained
        return {
            "worker": report.worker,
            "host": report.host,
            "pid": report.pid,
            "state": self.state,
            "cordoned": round(max(0.0, self.now - since) / 1000, 3) if since else None,
            "lease": round(self.lease, 3),
            "cpus": report.cpus,
            "memory": report.memory,
            "gpus": [
                {"uuid": gpu.uuid, "kind": gpu.kind, "memory": gpu.memory} for gpu in self.gpus
            ],
            "labels": list(report.labels),
            "containers": len(self.containers),
            "max_containers": report.max_containers,
            "is_measured": report.is_measured,
            "python": report.python,
            "version": report.version,
        }

    @property
    def gpus(self) -> list[Gpu]:
        """The GPUs that it offers."""
        return [gpu for text in self.record.report.gpus if (gpu := Gpu.parse(text)) is not None]

    @property
    def gpus_in_words(self) -> str:
        """How many of each kind: "4xA100-80GB"."""
        counted = Counter(gpu.kind for gpu in self.gpus)
        return ", ".join(f"{count}x{kind}" for kind, count in sorted(counted.items()))

    def taken(self, containers: Iterable[ContainerView]) -> dict[str, float]:
        """What its containers take of what it offers, as the autoscaler counts it."""
        listed = list(containers)
        return {
            "cpus_taken": round(sum(each.cpu for each in listed), 3),
            "memory_taken": sum(each.memory for each in listed),
            "gpus_taken": len({gpu for each in listed for gpu in each.report.gpus}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerView:
    """A container and what it takes: what its function asks for, else what was measured, else what is assumed.

    `is_measured`: whether what was measured decides how many containers its box takes.
    """

    report: ContainerReport
    needs: Needs
    seen: Observation | None
    is_measured: bool
    now: float  # of the server, in ms

    @property
    def cpu(self) -> float:
        """CPUs."""
        measured = None if self.seen is None else self.seen.busy_cpu
        return counted_cpu(
            self.needs, measured, is_measured=self.is_measured, is_idle=self._is_idle
        )

    @property
    def _is_idle(self) -> bool:
        """Whether it is ready and holds no input."""
        consumers = () if self.seen is None else self.seen.consumers
        holds = any(each.pending for each in consumers if each.name == self.report.container)
        return self.report.state == "ready" and not holds

    @property
    def memory(self) -> int:
        """Bytes."""
        measured = None if self.seen is None else self.seen.memory
        return counted_memory(self.needs, measured, is_measured=self.is_measured)

    @property
    def row(self) -> dict[str, Any]:
        """What it is, in plain values; its age in seconds."""
        report = self.report
        return {
            "container": report.container,
            "pool": report.label,
            "app": report.app,
            "state": "leaving" if report.leaving else report.state,
            "age": round(max(0.0, self.now - report.since) / 1000, 3),
            "cpu": self.cpu,
            "is_cpu_measured": self.needs.cpu is None,
            "memory": self.memory,
            "is_memory_measured": self.needs.memory is None,
            "gpus": list(report.gpus),
        }


def view(client: Client) -> Op[list[BoxView]]:
    """All boxes, by host."""
    fleet = yield from look(client)
    boxes = [_view(worker, record, fleet) for worker, record in fleet.boxes.items()]
    return sorted(boxes, key=lambda each: (each.record.report.host, each.worker))


def _view(worker: str, record: BoxRecord, fleet: FleetTable) -> BoxView:
    return BoxView(
        record=record,
        containers=tuple(fleet.containers.get(worker, ())),
        lease=(fleet.leases.get(worker, 0.0) - fleet.now) / 1000,
        now=fleet.now,
    )


def find(client: Client, which: str) -> Op[BoxView]:
    """The box of that id, beginning of an id, or host; raises NotFoundError if there is none, or several."""
    boxes = yield from view(client)
    exact = [each for each in boxes if each.worker == which]
    meant = exact or _called(which, [each for each in boxes if each.lease > 0])
    meant = meant or _called(which, boxes)
    if len(meant) == 1:
        return meant[0]
    if meant:
        shown = ", ".join(f"{each.worker} ({each.record.report.host})" for each in meant[:5])
        raise NotFoundError(f"{len(meant)} boxes are called '{which}': {shown}. Give an id.")
    raise NotFoundError(
        f"There is no box '{which}'; `qmodal worker list` shows their ids and hosts."
    )


def _called(which: str, boxes: Sequence[BoxView]) -> list[BoxView]:
    starts = (which, f"wk-{which}")
    return [
        each
        for each in boxes
        if which and (each.worker.startswith(starts) or each.record.report.host == which)
    ]


def details(client: Client, box: BoxView) -> Op[list[ContainerView]]:
    """The containers of a box, those that have lived longest first."""
    pools = sorted({each.pool for each in box.containers})
    observed = yield from client.observing.observe(pools)
    seen = {each.pool: each for each in observed if each is not None}
    needs: dict[tuple[str, int], Needs] = {}
    for each in box.containers:
        if (each.pool, each.number) not in needs:
            needs[each.pool, each.number] = yield from _needs(client, each)
    found = [
        ContainerView(
            report=each,
            needs=needs[each.pool, each.number],
            seen=seen.get(each.pool),
            is_measured=box.record.report.is_measured,
            now=box.now,
        )
        for each in box.containers
    ]
    return sorted(found, key=lambda each: (each.report.since, each.report.container))


def _needs(client: Client, report: ContainerReport) -> Op[Needs]:
    """What the container's function asks for; nothing if that cannot be read (any more)."""
    try:
        spec = yield from client.specs.pool(report.pool)
        version = yield from client.specs.version(report.app, report.number)
    except Error:  # published with another key, or by another release
        return Needs()
    function = None if version is None else version.value.functions.get(report.function)
    if spec is None or function is None:
        return Needs()
    return options_in_force(function, spec.value).needs
