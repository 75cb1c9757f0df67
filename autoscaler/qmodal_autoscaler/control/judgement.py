"""What follows from one look at a pool, as a value: judging changes nothing, the leader applies it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qmodal.store.watch.observing import Observation
from qmodal_autoscaler.cluster.catalog import APP_STOPPED, PoolTerms
from qmodal_autoscaler.cluster.nodes import PlacedContainer, version_key
from qmodal_autoscaler.policy.decide import serves_alone
from qmodal_autoscaler.policy.room import ContainerRequest
from qmodal_autoscaler.policy.state import Decision, PoolSnapshot

# A pool with so many inputs in flight does not wait behind all those that have a few.
MANY_INPUTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDecision:
    """What the policy decided for a pool, and what that rests on.

    `unstarted` are the containers that were assigned to their boxes long ago and that these do not report;
    `containers` are the others; `snapshot` has those of them that live.
    """

    pool: str
    terms: PoolTerms
    observation: Observation
    containers: tuple[PlacedContainer, ...]
    unstarted: tuple[PlacedContainer, ...]
    snapshot: PoolSnapshot
    decision: Decision

    @property
    def leaving(self) -> frozenset[str]:
        """The containers that the policy lets go, now or after what they run."""
        return frozenset((*self.decision.drain, *self.decision.retire))

    @property
    def is_steady(self) -> bool:
        """Whether the pool keeps the containers that it has."""
        return not (self.decision.start or self.leaving)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """The end of a pool's inputs: the reason that their callers are told, and the `current` app version.

    It stops when another version of the app is current, because that may be able to run them.
    """

    terms: PoolTerms
    reason: str
    current: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Everything that follows from one look at a pool.

    `error`: why nothing about its containers changes: an `Error` that can be foreseen, or a defect
    of ours. `made` is the decision otherwise. `take_off`: containers that should not run any more.
    `unfit`: boxes whose containers cannot decode an input of the pool. `unresponsive`: boxes that
    do not start what they are assigned. `promotes`: retries of the pool may be due. `serves_alone`:
    the new value for the server, None if it has it. `is_leaving`: the pool can be put away, unless
    the server finds something in it. `stopped_app`: the id of the pool's app if that has stopped.
    `messages`: lines for the change log.
    """

    pool: str
    label: str
    error: Exception | None = None
    made: PoolDecision | None = None
    take_off: tuple[PlacedContainer, ...] = ()
    request: ContainerRequest | None = None
    unfit: frozenset[str] = frozenset()
    unresponsive: frozenset[str] = frozenset()
    promotes: bool = False
    serves_alone: bool | None = None
    is_leaving: bool = False
    stopped_app: str = ""
    purge: Purge | None = None
    messages: tuple[str, ...] = ()


def undecided(
    pool: str,
    observation: Observation | None,
    error: Exception,
    *,
    take_off: Iterable[PlacedContainer] = (),
) -> Judgement:
    """The judgement of a pool about whose size nothing can be said."""
    return Judgement(
        pool=pool,
        label=f"pool {pool}",
        error=error,
        take_off=tuple(take_off),
        is_leaving=observation is None,
    )


def outdated(containers: Iterable[PlacedContainer], terms: PoolTerms) -> list[PlacedContainer]:
    """The containers of versions that end at once, whatever they run."""
    return [
        each
        for each in containers
        if each.report is not None and 0 < each.report.number < terms.least
    ]


def ended(
    pool: str,
    terms: PoolTerms,
    observation: Observation | None,
    containers: Iterable[PlacedContainer],
    *,
    current: int,
) -> Judgement:
    """The judgement of a pool in which nothing will run any more."""
    containers = tuple(containers)
    has_inputs = observation is not None and observation.inflight > 0
    is_held = observation is not None and bool(observation.consumers)
    is_running = any(each.is_assigned for each in containers)
    return Judgement(
        pool=pool,
        label=terms.label,
        take_off=containers,
        is_leaving=not (has_inputs or is_held),
        stopped_app=terms.app if terms.ended == APP_STOPPED else "",
        purge=Purge(terms=terms, reason=terms.ended, current=current) if has_inputs else None,
        messages=(f"its containers end: {terms.ended}",) if is_running else (),
    )


def decided(
    made: PoolDecision, *, unfit: frozenset[str], purge: Purge | None, is_measured: bool = False
) -> Judgement:
    """What a decision means for the boxes and for the pool.

    `unfit`: the boxes that were found so before; `purge`: what follows if the policy gives up; `is_measured`: some box
    takes as many containers as it carries.
    """
    newly_unfit = frozenset(
        each.worker
        for each in made.containers
        if each.is_assigned and each.report is not None and each.report.unfit
    )
    unstarted = frozenset(each.worker for each in made.unstarted)
    # A box may not know of a GPU yet that it has to give back first: it takes other containers meanwhile.
    is_short = bool(made.terms.needs.gpus)
    is_served = serves_alone(made.snapshot, made.decision, made.terms.settings)
    return Judgement(
        pool=made.pool,
        label=made.terms.label,
        made=made,
        take_off=tuple(_taken_off(made)),
        request=_request(made, unfit | newly_unfit, is_measured=is_measured),
        unfit=newly_unfit | unstarted if is_short else newly_unfit,
        unresponsive=frozenset() if is_short else unstarted,
        promotes=made.observation.delayed > 0,
        serves_alone=is_served if is_served != made.observation.is_served else None,
        is_leaving=_is_empty(made),
        purge=purge if made.decision.give_up else None,
        messages=tuple(_messages(made)),
    )


def _taken_off(made: PoolDecision) -> Iterable[PlacedContainer]:
    yield from outdated(made.containers, made.terms)
    yield from (each for each in made.containers if each.is_over or each.container in made.leaving)
    yield from made.unstarted
    queued = [each for each in made.containers if each.is_queued]
    yield from queued[: max(0, len(queued) - _wanted_ahead(made, len(queued)))]


def _wanted_ahead(made: PoolDecision, queued: int) -> int:
    """How many of the containers that wait on full boxes have something to do, or keep the minimum or buffer."""
    settings, seen = made.terms.settings, made.observation
    inputs = math.ceil(max(0, seen.inflight - seen.delayed) / settings.slots)
    most = max(inputs, settings.min_containers) + settings.buffer_containers
    return max(0, most - (len(made.snapshot.containers) - queued))


def _request(
    made: PoolDecision, unfit: frozenset[str], *, is_measured: bool
) -> ContainerRequest | None:
    if not made.decision.start:
        return None
    seen = made.observation
    return ContainerRequest(
        pool=made.pool,
        count=made.decision.start,
        have=len(made.snapshot.containers) - len(made.leaving),
        version=version_key(made.terms.app, made.terms.number),
        unfit=unfit,
        app=made.terms.app,
        weight=made.terms.weight,
        is_long=made.snapshot.inflight >= MANY_INPUTS,
        needs=made.terms.needs,
        cpu=seen.busy_cpu if is_measured else None,
        memory=seen.memory if is_measured else None,
    )


def _is_empty(made: PoolDecision) -> bool:
    seen = made.observation
    # One that is paused stays, so that people see it, and that the pause does not end by itself.
    is_used = seen.inflight or seen.consumers or made.snapshot.containers or seen.paused
    return not (is_used or made.decision.start or made.terms.settings.min_containers)


def _messages(made: PoolDecision) -> Iterable[str]:
    for each in made.containers:
        if each.is_assigned and each.report is not None and each.report.state == "failed":
            last_line = each.report.detail.strip().rpartition("\n")[2]
            yield f"{each.container} did not start: {last_line}"
    for each in made.unstarted:
        yield f"{each.worker} does not start {each.container}"
    if made.leaving:
        yield f"{made.decision.reason} ({', '.join(sorted(made.leaving))})"
