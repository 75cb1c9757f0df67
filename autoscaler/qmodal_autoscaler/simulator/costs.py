"""What a run costs and how long its inputs waited, in the figures by which policies are compared."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qmodal_autoscaler.simulator.oracle import needed, oracle_seconds
from qmodal_autoscaler.simulator.record import Lifetime, Record
from qmodal_autoscaler.simulator.traces.trace import Arrival, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A run in figures. Waits are in seconds; `cost` is container-seconds over those of the oracle.

    `cold`: the share of inputs that waited for a container to start; `overshoot`: the most containers over
    the most that were needed at once; `turns`: changes between starting and ending, for each window of the
    trace's time; `busy_victims`: containers that were chosen to end although they were known to run something;
    `unfinished`: inputs that never began.
    """

    cost: float
    container_seconds: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    cold: float
    overshoot: float
    turns: float
    busy_victims: int
    unfinished: int


def figures(record: Record) -> Figures:
    """The figures of a run."""
    trace = record.trace
    seconds = sum(each.ended - each.began for each in record.lives)
    waits = sorted(each.wait for each in record.inputs.values())
    return Figures(
        cost=seconds / oracle_seconds(trace),
        container_seconds=seconds,
        wait_p50=_percentile(waits, 0.50),
        wait_p95=_percentile(waits, 0.95),
        wait_p99=_percentile(waits, 0.99),
        cold=sum(each.is_cold for each in record.inputs.values()) / max(1, len(waits)),
        overshoot=highest(_sizes(record.lives)) / highest(_needed(trace)),
        turns=_turns(record.moves) * trace.window / max(trace.window, trace.end),
        busy_victims=record.busy_victims,
        unfinished=len(trace.arrivals) - len(waits),
    )


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean of positive numbers."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 if all are equal, 1 / n if one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))


def shares(lives: Iterable[Lifetime], begin: float, end: float) -> dict[str, float]:
    """The container-seconds of each pool between two moments."""
    seconds: dict[str, float] = defaultdict(float)
    for each in lives:
        seconds[each.pool] += max(0.0, min(each.ended, end) - max(each.began, begin))
    return dict(seconds)


def steps(changes: Iterable[tuple[float, int]]) -> list[tuple[float, int]]:
    """A step function (moment, level) out of the changes of its level."""
    level, levels = 0, []
    for at, change in sorted(changes):
        level += change
        levels.append((at, level))
    return levels


def highest(levels: Iterable[tuple[float, int]]) -> int:
    """The highest level of a step function."""
    return max((level for _, level in levels), default=0)


def sizes(record: Record) -> list[tuple[float, int]]:
    """How many containers there were from when on."""
    return _sizes(record.lives)


def _sizes(lives: Iterable[Lifetime]) -> list[tuple[float, int]]:
    begun = [(each.began, 1) for each in lives]
    return steps(begun + [(each.ended, -1) for each in lives])


def _needed(trace: Trace) -> list[tuple[float, int]]:
    """How many containers the inputs of all pools would keep busy at once if they never waited."""
    pools: dict[str, list[Arrival]] = defaultdict(list)
    for each in trace.arrivals:
        pools[each.pool].append(each)
    changes: list[tuple[float, int]] = []
    for arrivals in pools.values():
        before = 0
        for at, level in needed(arrivals, trace.slots):
            changes.append((at, level - before))
            before = level
    return steps(changes)


def _percentile(ordered: Sequence[float], share: float) -> float:
    if not ordered:
        return math.nan
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _turns(moves: Iterable[tuple[float, int]]) -> int:
    turns, before = 0, 0
    for _, change in moves:
        direction = 1 if change > 0 else -1
        turns += before not in (0, direction)
        before = direction
    return turns
