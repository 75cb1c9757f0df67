"""The metrics of a box's GPUs: what the driver says of each, who has it, and why nobody may have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from qmodal.spec.needs.gpus import Gpu
from qmodal.store.history.statistics import Series
from qmodal_workers.devices.leases import GpuLeases
from qmodal_workers.devices.nvml import MEBIBYTE, GpuFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """A GPU at one moment; `figures` are None for a declared one, and for one that the driver does not list.

    `owners`: the functions of its containers, as far as they are known, and how many containers each has there.
    """

    gpu: Gpu
    figures: GpuFigures | None
    containers: int
    owners: Mapping[Series, int]
    shares: int
    is_lost: bool
    is_strange: bool


Measure = tuple[str, str, Callable[[GpuFacts, GpuFigures], float | None]]
# Of what the driver says; a GPU of which it does not say that is left out.
SAID: Sequence[Measure] = (
    (
        "utilization_ratio",
        "Part of the time in which it computed something.",
        lambda _, said: None if said.use is None else said.use / 100,
    ),
    ("memory_used_bytes", "Memory in use, by anybody.", lambda _, said: said.used * MEBIBYTE),
    ("memory_bytes", "Memory that it has.", lambda _, said: said.total * MEBIBYTE),
    ("temperature_celsius", "Its temperature.", lambda _, said: said.temperature),
    ("power_watts", "What it draws.", lambda _, said: said.power),
)
KNOWN: Sequence[tuple[str, str, Callable[[GpuFacts], float]]] = (
    (
        "containers",
        "Containers that it, or a share of it, is leased to.",
        lambda gpu: gpu.containers,
    ),
    ("shares", "In how many shares it is cut now: 1 for whole ones.", lambda gpu: gpu.shares),
    ("lost", "1: it is lost, and not offered.", lambda gpu: gpu.is_lost),
    (
        "strangers",
        "1: others use its memory, so that it is not leased.",
        lambda gpu: gpu.is_strange,
    ),
)


def gpu_facts(leases: GpuLeases, owner: Callable[[str], Series | None]) -> tuple[GpuFacts, ...]:
    """The GPUs of the box now; called in the worker's loop. `owner` says which function a container is of."""
    watch = leases.watch
    return tuple(
        GpuFacts(
            gpu=gpu,
            figures=watch.figures.get(gpu.uuid),
            containers=len(leases.holders(gpu.uuid)),
            owners=Counter(filter(None, map(owner, leases.holders(gpu.uuid)))),
            shares=leases.shares(gpu.uuid),
            is_lost=gpu.uuid in watch.lost,
            is_strange=leases.is_strange(gpu.uuid),
        )
        for gpu in watch.gpus
    )


def gpu_families(gpus: Sequence[GpuFacts]) -> Iterator[Metric]:
    """A family for each measure; none where the box has no GPU."""
    if not gpus:
        return
    for name, text, measure in SAID:
        seen = [
            (each.gpu, measure(each, each.figures)) for each in gpus if each.figures is not None
        ]
        yield _family(name, text, seen)
    for name, text, known in KNOWN:
        yield _family(name, text, [(each.gpu, known(each)) for each in gpus])
    yield _owners(gpus)


def _owners(gpus: Sequence[GpuFacts]) -> Metric:
    family = GaugeMetricFamily(
        "qmodal_box_gpu_owners",
        "Containers of a function that it, or a share of it, is leased to.",
        labels=("gpu", "kind", *Series._fields),
    )
    for each in gpus:
        for series, count in each.owners.items():
            family.add_metric((each.gpu.uuid, each.gpu.kind, *series), count)
    return family


def _family(name: str, text: str, values: Sequence[tuple[Gpu, float | None]]) -> Metric:
    family = GaugeMetricFamily(f"qmodal_box_gpu_{name}", text, labels=("gpu", "kind"))
    for gpu, value in values:
        if value is not None:
            family.add_metric((gpu.uuid, gpu.kind), float(value))
    return family
