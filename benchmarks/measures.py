"""What is measured: every figure's unit, which way is better, and what it should come to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One row of the table; goals are for qmodal, and None where there is none."""

    workload: str
    text: str
    unit: str
    less_is_better: bool = False
    digits: int = 0
    # qmodal / raw, and qmodal / another row of its own: at most, or at least where more is better.
    to_raw: float | None = None
    to_own: tuple[str, float] | None = None
    # How many times as good as the best peer, or as the standard library's pool, at least.
    to_peers: float | None = None
    to_pool: float | None = None
    # In the unit: at most, or at least.
    goal: float | None = None


MEASURES: dict[str, Measure] = {
    "one by one": Measure(
        workload="w1",
        text="no-ops, one entry at a time",
        unit="/s",
        to_raw=0.6,
        to_peers=4,
    ),
    "bulk": Measure(
        workload="w1-best",
        text="no-ops in bulk, one container",
        unit="/s",
        to_raw=0.6,
        to_peers=8,
    ),
    "submit": Measure(
        workload="w2",
        text="submit in a loop",
        unit="/s",
        to_raw=0.6,
        to_peers=1.7,
    ),
    "submit bulk": Measure(
        workload="w2",
        text="submit in bulk",
        unit="/s",
        to_raw=0.6,
        to_peers=2.5,
    ),
    "call p50": Measure(
        workload="w3",
        text="call, p50",
        unit="µs",
        less_is_better=True,
        to_raw=1.8,
        to_peers=5,
    ),
    "call p95": Measure(workload="w3", text="call, p95", unit="µs", less_is_better=True),
    "call p99": Measure(workload="w3", text="call, p99", unit="µs", less_is_better=True, to_raw=3),
    "idle call p50": Measure(
        workload="w3-idle",
        text="call after 2 s of nothing, p50",
        unit="µs",
        less_is_better=True,
        goal=1500,
    ),
    "asyncio call p50": Measure(
        workload="w3-asyncio",
        text="asyncio call, p50",
        unit="µs",
        less_is_better=True,
        to_own=("call p50", 1.4),
    ),
    "asyncio call p95": Measure(
        workload="w3-asyncio", text="asyncio call, p95", unit="µs", less_is_better=True
    ),
    "asyncio call p99": Measure(
        workload="w3-asyncio", text="asyncio call, p99", unit="µs", less_is_better=True
    ),
    "1 MiB echo": Measure(
        workload="w4",
        text="1 MiB echo, each way",
        unit="MiB/s",
        to_raw=0.7,
        to_peers=1,
    ),
    "map": Measure(
        workload="w5",
        text="ordered map, two containers",
        unit="/s",
        to_raw=8,
        to_pool=1,
    ),
    "map unpacked": Measure(
        workload="w5-unpacked",
        text="the same, one input an entry",
        unit="/s",
        to_raw=0.6,
        to_peers=8,
    ),
    "container memory": Measure(
        workload="w6",
        text="private memory of a container",
        unit="MiB",
        less_is_better=True,
        digits=1,
        goal=3,
    ),
    "all memory": Measure(
        workload="w6",
        text="all that runs for one container",
        unit="MiB",
        less_is_better=True,
        digits=1,
    ),
    "cold start p50": Measure(
        workload="w6", text="cold start, p50", unit="ms", less_is_better=True
    ),
    "cold start p95": Measure(
        workload="w6", text="cold start, p95", unit="ms", less_is_better=True, goal=600
    ),
    "warm template p50": Measure(
        workload="w6",
        text="cold start from a warm template, p50",
        unit="ms",
        less_is_better=True,
        goal=60,
    ),
    "warm template p95": Measure(
        workload="w6",
        text="cold start from a warm template, p95",
        unit="ms",
        less_is_better=True,
    ),
    "again after kill": Measure(
        workload="w7",
        text="kill -9 to running again, worst",
        unit="s",
        less_is_better=True,
        digits=3,
        goal=0.2,
    ),
    "efficiency": Measure(
        workload="w8",
        text="long map of 1 ms inputs, efficiency",
        unit="%",
        digits=1,
        goal=95,
    ),
    "callers": Measure(workload="w9", text="50 asyncio callers", unit="/s", to_peers=4.5),
    "callers p95": Measure(
        workload="w9",
        text="50 asyncio callers, p95",
        unit="ms",
        less_is_better=True,
        digits=1,
    ),
    "callers sockets": Measure(
        workload="w9",
        text="50 asyncio callers",
        unit="sockets",
        less_is_better=True,
        goal=12,
    ),
    "many callers": Measure(
        workload="w9-many", text="500 asyncio callers", unit="/s", to_own=("callers", 0.9)
    ),
    "many callers p95": Measure(
        workload="w9-many",
        text="500 asyncio callers, p95",
        unit="ms",
        less_is_better=True,
        digits=1,
    ),
    "many callers sockets": Measure(
        workload="w9-many",
        text="500 asyncio callers",
        unit="sockets",
        less_is_better=True,
        goal=12,
    ),
    "threads": Measure(
        workload="w9-threads", text="50 threads that call", unit="/s", to_own=("callers", 0.7)
    ),
    "threads p95": Measure(
        workload="w9-threads",
        text="50 threads that call, p95",
        unit="ms",
        less_is_better=True,
        digits=1,
    ),
    "threads sockets": Measure(
        workload="w9-threads",
        text="50 threads that call",
        unit="sockets",
        less_is_better=True,
    ),
    "mixed short p95": Measure(
        workload="w10",
        text="1 ms inputs among 2 s ones, p95",
        unit="ms",
        less_is_better=True,
    ),
    "mixed ratio": Measure(
        workload="w10",
        text="the same, to 1 ms inputs alone",
        unit="x",
        less_is_better=True,
        digits=2,
        goal=1.3,
    ),
    "at once": Measure(
        workload="w11",
        text="100 at once that sleep 50 ms, efficiency",
        unit="%",
        digits=1,
        goal=95,
    ),
    "batch fill": Measure(
        workload="w12",
        text="batches of 32 under 64 callers, how full",
        unit="%",
        digits=1,
        goal=90,
    ),
    "batches": Measure(
        workload="w12",
        text="batches of 32 that take 5 ms, efficiency",
        unit="%",
        digits=1,
        goal=80,
    ),
    "pools": Measure(
        workload="w13", text="parameter pools with one no-op each", unit="pools/s", goal=50
    ),
    "pools autoscaler": Measure(
        workload="w13",
        text="the same: the autoscaler",
        unit="% of a processor",
        less_is_better=True,
    ),
    "many pools": Measure(workload="w13", text="ten times as many", unit="pools/s", goal=60),
    "many pools autoscaler": Measure(
        workload="w13",
        text="the same: the autoscaler",
        unit="% of a processor",
        less_is_better=True,
        goal=25,
    ),
    "pools beside": Measure(
        workload="w14", text="parameter pools beside a large backlog", unit="pools/s"
    ),
    "backlog first": Measure(
        workload="w14",
        text="the same: until the large one is served",
        unit="s",
        less_is_better=True,
        digits=2,
        goal=2,
    ),
    "backlog": Measure(
        workload="w14",
        text="the same: until all of it has ended",
        unit="s",
        less_is_better=True,
        digits=1,
    ),
    "many pools beside": Measure(
        workload="w14", text="ten times as many beside it", unit="pools/s"
    ),
    "many backlog first": Measure(
        workload="w14",
        text="the same: until the large one is served",
        unit="s",
        less_is_better=True,
        digits=2,
        goal=2,
    ),
    "many backlog": Measure(
        workload="w14",
        text="the same: until all of it has ended",
        unit="s",
        less_is_better=True,
        digits=1,
    ),
    "server cpu": Measure(
        workload="cost",
        text="server CPU for a no-op in a map",
        unit="µs",
        less_is_better=True,
        digits=1,
        goal=9,
    ),
    "server memory": Measure(
        workload="cost",
        text="server memory for a kept call",
        unit="B",
        less_is_better=True,
        goal=1024,
    ),
}
