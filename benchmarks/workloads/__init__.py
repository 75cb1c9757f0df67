"""The workloads by name: what each needs, and the function that measures it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.bench import Bench
from benchmarks.workloads import containers, latency, pools, throughput, together

UNPACKED = {"QMODAL_PACKING": "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One workload; `workers` of 0 means that nothing runs what is submitted."""

    run: Callable[[Bench], Awaitable[None]]
    workers: int = 1
    at_its_best: bool = False
    for_latency: bool = False
    needs_asyncio: bool = False
    # Measured once, whatever the number of rounds: it takes minutes.
    once: bool = False
    # Only for those that would do the same work packed otherwise.
    is_unpacked: bool = False
    # Seconds after which a subject that is not done is ended.
    limit: float = 180.0
    environ: Mapping[str, str] = field(default_factory=dict)


WORKLOADS: dict[str, Workload] = {
    "w1": Workload(run=throughput.w1),
    "w1-best": Workload(run=throughput.w1_best, at_its_best=True, environ=UNPACKED),
    "w2": Workload(run=throughput.w2, workers=0),
    "w3": Workload(run=latency.w3, for_latency=True),
    "w3-asyncio": Workload(run=latency.w3_asyncio, for_latency=True, needs_asyncio=True),
    "w3-idle": Workload(run=latency.w3_idle, for_latency=True),
    "w4": Workload(run=latency.w4, for_latency=True),
    "w5": Workload(run=throughput.w5, workers=2, at_its_best=True),
    "w5-unpacked": Workload(
        run=throughput.w5_unpacked,
        workers=2,
        at_its_best=True,
        environ=UNPACKED,
        is_unpacked=True,
    ),
    "w6": Workload(run=containers.w6),
    "w7": Workload(run=containers.w7, for_latency=True, once=True),
    "w8": Workload(run=throughput.w8, workers=2, at_its_best=True, once=True, limit=300.0),
    "w9": Workload(run=latency.w9, at_its_best=True, for_latency=True, needs_asyncio=True),
    "w9-many": Workload(
        run=latency.w9_many, at_its_best=True, for_latency=True, needs_asyncio=True
    ),
    "w9-threads": Workload(run=latency.w9_threads, at_its_best=True, for_latency=True),
    "w10": Workload(run=latency.w10, workers=8, for_latency=True),
    "w11": Workload(run=together.w11, at_its_best=True, needs_asyncio=True),
    "w12": Workload(run=together.w12, at_its_best=True, for_latency=True, needs_asyncio=True),
    "w13": Workload(run=pools.w13, once=True, limit=600.0),
    "w14": Workload(run=pools.w14, once=True, limit=600.0),
    "cost": Workload(run=throughput.cost, at_its_best=True, environ=UNPACKED),
}
