"""What a leader knows of the cluster, as values that another thread may read."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qmodal.spec.needs.needs import Needs
from qmodal.store.history.statistics import MOST_SERIES, Series
from qmodal_autoscaler.cluster.catalog import Catalog
from qmodal_autoscaler.cluster.nodes import Nodes
from qmodal_autoscaler.control.judgement import Judgement, PoolDecision
from qmodal_autoscaler.metrics.pool_labels import OTHER, pool_label
from qmodal_autoscaler.policy.start_backoff import backoff
from qmodal_autoscaler.policy.state import FailureKind

Labels = tuple[str, ...]

# Containers that a leader has placed (`more`) or let go (`fewer`), by direction and reason.
Changes = Counter[tuple[str, str]]


@dataclass(slots=True)
class FunctionFacts:
    """The pools of a function together, or one of them."""

    running: int = 0
    waiting: int = 0
    delayed: int = 0
    containers: Counter[str] = field(default_factory=Counter)  # by state
    desired: Counter[str] = field(default_factory=Counter)  # by the reason for it
    backlogged: list[str] = field(default_factory=list)  # pools with inputs that wait
    # Seconds until the next start of the pools that have failed to start, the longest, by what was the cause.
    backoffs: dict[FailureKind, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """The cluster at one moment."""

    functions: dict[Labels, FunctionFacts]
    changes: Mapping[Series, Changes]
    pools: int
    boxes: int
    slots: int  # containers that all boxes may run
    waiting: Mapping[str, int] = field(default_factory=dict)  # pools that wait, by kind of reason
    wanted: Mapping[Needs, int] = field(default_factory=dict)  # containers that wait for room
    has_pools: bool = False  # the label of a pool stands behind those of its function


class LeaderView:
    """Keeps the last decision on each pool of a leader, and counts changes; used in the leader's loop only.

    Of changes it keeps those of the functions that have changed last, MOST_SERIES of them.

    `wanted`: what the fleet lacks, as `Allocation.wanted` says it. `pool_labels`: so many pools of a function are told apart by their parameters, if that is wanted: those that were
    there first, so that a series does not change its meaning while its pool lives.
    """

    def __init__(
        self,
        nodes: Nodes,
        catalog: Catalog,
        wanted: Callable[[], Mapping[Needs, int]],
        waiting: Callable[[], Mapping[str, int]],
        pool_labels: int | None = None,
    ) -> None:
        self._wanted = wanted
        self._waiting = waiting
        self._pool_labels = pool_labels
        self._nodes = nodes
        self._catalog = catalog
        self._decisions: dict[str, PoolDecision] = {}
        self._changes: dict[Series, Changes] = {}

    def judged(self, judgement: Judgement) -> None:
        """Take in what the leader has judged of a pool."""
        if judgement.made is not None:
            self._let_go(judgement.made)
            self._decisions[judgement.pool] = judgement.made
        elif judgement.error is None:  # nothing of it runs any more
            self._decisions.pop(judgement.pool, None)

    def placed(self, made: PoolDecision, count: int) -> None:
        """Take in that so many containers that a decision asked for have found room."""
        self._count(made, "more", count)

    def _let_go(self, made: PoolDecision) -> None:
        # A container is let go again at each look until its box has heard of it.
        before = self._decisions.get(made.pool)
        self._count(made, "fewer", len(made.leaving - (before.leaving if before else frozenset())))

    def _count(self, made: PoolDecision, direction: str, count: int) -> None:
        series = self._series(made) if count else None
        if series is None:
            return
        changes = self._changes.pop(series, Changes())
        changes[direction, made.decision.why] += count
        self._changes[series] = changes  # as the last one
        if len(self._changes) > MOST_SERIES:
            del self._changes[next(iter(self._changes))]

    def facts(self) -> ClusterFacts:
        """The facts now."""
        now = time.monotonic()
        functions: dict[Labels, FunctionFacts] = {}
        named: defaultdict[Series, set[str]] = defaultdict(set)
        for pool in self._decisions.keys() - self._catalog.pools():
            del self._decisions[pool]
        for made in self._decisions.values():
            series = self._series(made)
            if series is not None:
                labels = self._labels(series, made.pool, named[series])
                _add(functions.setdefault(labels, FunctionFacts()), made, now)
        boxes = self._nodes.boxes()
        return ClusterFacts(
            functions=functions,
            changes={series: changes.copy() for series, changes in self._changes.items()},
            pools=len(self._decisions),
            boxes=len(boxes),
            wanted=self._wanted(),
            waiting=self._waiting(),
            slots=sum(box.report.max_containers for box in boxes if box.report is not None),
            has_pools=self._pool_labels is not None,
        )

    def _labels(self, series: Series, pool: str, named: set[str]) -> Labels:
        """Those of the function, and of the pool if that is wanted; `named`: the pools of the function so far."""
        if self._pool_labels is None:
            return series
        spec = self._catalog.spec(pool)
        label = "" if spec is None else pool_label(spec)
        if label and label not in named and len(named) >= self._pool_labels:
            return (*series, OTHER)
        named.add(label)
        return (*series, label)

    def _series(self, made: PoolDecision) -> Series | None:
        record = self._catalog.records().get(made.terms.app)
        if record is None:
            return None
        return Series(record.environment, record.name, made.observation.function)


def _add(facts: FunctionFacts, made: PoolDecision, now: float) -> None:
    snapshot, decision = made.snapshot, made.decision
    running = sum(each.running for each in snapshot.containers)
    waiting = max(0, snapshot.inflight - running - snapshot.delayed)
    facts.running += running
    facts.waiting += waiting
    facts.delayed += snapshot.delayed
    for each in snapshot.containers:
        facts.containers[each.state] += 1
    facts.desired[decision.why] += decision.desired
    if waiting:
        facts.backlogged.append(made.pool)
    if snapshot.failures:
        until = backoff(snapshot.failures, ephemeral=made.terms.settings.ephemeral).until
        longest = facts.backoffs.get(snapshot.failed_by, 0.0)
        facts.backoffs[snapshot.failed_by] = max(longest, until - now)
