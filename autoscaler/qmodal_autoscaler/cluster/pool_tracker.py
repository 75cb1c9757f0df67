"""The leader's record of a pool across decisions: its containers, and how starts went."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from qmodal.store.fleet import ContainerReport
from qmodal.store.watch.observing import Observation
from qmodal_autoscaler.cluster.catalog import PoolTerms
from qmodal_autoscaler.cluster.nodes import PlacedContainer
from qmodal_autoscaler.cluster.start_failures import failure_kind
from qmodal_autoscaler.policy.start_backoff import LONGEST_PAUSE_SECONDS
from qmodal_autoscaler.policy.state import (
    ContainerState,
    ContainerView,
    FailureKind,
    PoolHistory,
    PoolSnapshot,
)

# A container that ends unasked within this time of being ready, before any input of its pool has ended,
# would do so again; from the second one on it counts as a failed start.
DIED_YOUNG_SECONDS = 10.0
# A worker reports what it is assigned within milliseconds; one that does not in this time will not.
UNREPORTED_SECONDS = 5.0
# Characters of the reason that callers are told.
LONGEST_REASON = 16 * 1024


@dataclass(slots=True)
class ContainerTrack:
    """A container between two looks; times in monotonic seconds.

    `since`: when its state began, and `settled`: how many inputs of the pool had settled by then;
    `busy_at`: when it last held an input.
    """

    state: ContainerState
    since: float
    busy_at: float
    settled: int

    def died_young(self, done: int, now: float) -> bool:
        """Whether it ends soon after it was ready, without any input of its pool having ended meanwhile."""
        return (
            self.state == "ready" and self.settled == done and now - self.since < DIED_YOUNG_SECONDS
        )


@dataclass(slots=True)
class PoolTracker:
    """A pool's containers and failed starts, as of the last look at it; times in monotonic seconds.

    `looked`: when that was; `settled`: the inputs that had settled by then; `number`: the app's
    version; `reset`: when failures were last forgotten by hand. `failures`: when starts have failed;
    `early_deaths`: when containers have died young; `detail`: what the last failed start has
    reported, and `failed_by` what it or the last early death was due to. `_over`: containers whose end is counted.
    """

    history: PoolHistory
    looked: float = -math.inf
    settled: int | None = None
    number: int = 0
    reset: int = 0
    failures: list[float] = field(default_factory=list)
    early_deaths: list[float] = field(default_factory=list)
    detail: str = ""
    failed_by: FailureKind = "other"
    tracks: dict[str, ContainerTrack] = field(default_factory=dict)
    _over: set[str] = field(default_factory=set)

    def see(
        self,
        observation: Observation,
        containers: Iterable[PlacedContainer],
        terms: PoolTerms,
        *,
        now: float,
        server_ms: float,
    ) -> PoolSnapshot:
        """Take in an observation, and return it as the policy's snapshot."""
        containers = list(containers)
        done = observation.submitted - observation.inflight
        progress = 0 if self.settled is None else max(0, done - self.settled)
        self._clear_failures(terms, progress, observation.reset)
        living = [held for held in containers if not held.is_over]
        for held in containers:
            if held.is_over or held.is_leaving:
                self._count_end(held, terms, done, now)
            if not held.is_over:
                self._follow(held, terms, done, now, _age(held.report, server_ms))
        self._over &= {held.container for held in containers}
        self.tracks = {held.container: self.tracks[held.container] for held in living}
        running = self._running(observation, terms.capacity)
        busy = running | self._busy_unseen(running, observation, progress, now)
        for container in busy:
            self.tracks[container].busy_at = now
        self.settled, self.looked = done, now
        return PoolSnapshot(
            inflight=observation.inflight,
            delayed=observation.delayed,
            submitted=observation.submitted,
            containers=tuple(
                self._view(held, busy.get(held.container, 0), terms, now) for held in living
            ),
            service_time=observation.service_time,
            start_time=observation.start_time,
            failures=tuple(self.failures or self.early_deaths[-1:] * (len(self.early_deaths) > 1)),
            failed_by=self.failed_by,
            is_paused=observation.paused > 0,
        )

    def unreported(
        self, containers: Iterable[PlacedContainer], now: float
    ) -> list[PlacedContainer]:
        """Containers that were assigned to their box long ago and that it does not report."""
        return [
            held
            for held in containers
            if held.report is None
            and held.container in self.tracks
            and now - self.tracks[held.container].since > UNREPORTED_SECONDS
        ]

    @property
    def give_up_reason(self) -> str:
        """What callers are told when the pool cannot start: the end of the last traceback."""
        text = self.detail or "its containers fail to start and say nothing about it"
        return "init: " + text[-(LONGEST_REASON - len("init: ")) :]

    def is_worth_keeping(self, now: float) -> bool:
        """Whether failed starts of a pool that is gone would still matter if it came back."""
        return bool(self.failures) and now - self.failures[-1] < LONGEST_PAUSE_SECONDS

    def _clear_failures(self, terms: PoolTerms, progress: int, reset: int) -> None:
        """Forget failures of another version or from before a `reset`, and early deaths once inputs have settled."""
        if (terms.number, reset) != (self.number, self.reset):
            self.number, self.reset = terms.number, reset
            self.failures.clear()
            self.early_deaths.clear()
        if progress:
            self.early_deaths.clear()

    def _count_end(self, held: PlacedContainer, terms: PoolTerms, done: int, now: float) -> None:
        """Count the end of a container that was still assigned, once: a failed start or an early death.

        One that ends by itself is counted before its exit hooks have run, as its successor starts then.
        """
        report, track = held.report, self.tracks.get(held.container)
        if report is None or held.container in self._over or not held.is_assigned:
            return
        self._over.add(held.container)
        if report.gave_way:
            return
        if report.state == "failed" and report.number in (0, terms.number):
            self.failures.append(now)
            self.detail = report.detail
            self.failed_by = failure_kind(report.detail)
        elif track is not None and track.died_young(done, now):
            self.early_deaths.append(now)
            self.failed_by = failure_kind(report.detail)

    def _follow(
        self, held: PlacedContainer, terms: PoolTerms, done: int, now: float, age: float
    ) -> None:
        """Take in the state of a container that lives, which has it for `age` seconds by its report."""
        state = _state(held)
        track = self.tracks.get(held.container)
        if track is not None and track.state == state:
            if held.is_queued:
                track.since = now  # its box has not had room for it so far
            return
        # The state began after our last look, whatever the clock of the box says.
        since = now - min(age, now - self.looked)
        if state == "ready" and held.report is not None and held.report.number == terms.number:
            self.failures.clear()
        busy_at = since if track is None or state == "ready" else track.busy_at
        self.tracks[held.container] = ContainerTrack(state, since, busy_at, done)

    def _running(self, observation: Observation, capacity: int) -> dict[str, int]:
        return {
            consumer.name: min(consumer.pending, capacity)
            for consumer in observation.consumers
            if consumer.pending and consumer.name in self.tracks
        }

    def _busy_unseen(
        self, running: dict[str, int], observation: Observation, progress: int, now: float
    ) -> dict[str, int]:
        """Containers that must have been busy since the last look and are not busy now.

        Inputs shorter than the time between two looks are rarely seen running; without this a
        container that answers one every few seconds would count as never used.
        """
        span = now - self.looked
        if not progress or not 0 < span < math.inf:
            return {}
        busy = max(1, math.ceil(progress * (observation.service_time or 0.0) / span))
        idle = [
            (-track.busy_at, name)
            for name, track in self.tracks.items()
            if track.state == "ready" and name not in running
        ]
        return {name: 1 for _, name in sorted(idle)[: max(0, busy - len(running))]}

    def _view(
        self, held: PlacedContainer, running: int, terms: PoolTerms, now: float
    ) -> ContainerView:
        track = self.tracks[held.container]
        number = 0 if held.report is None else held.report.number
        return ContainerView(
            id=held.container,
            state=track.state,
            running=running,
            idle_seconds=0.0 if running else now - track.busy_at,
            since=track.since,
            version_current=number in (0, terms.number),
            worker=held.worker,
            is_cordoned=held.is_cordoned,
        )


def _age(report: ContainerReport | None, server_ms: float) -> float:
    return 0.0 if report is None else max(0.0, (server_ms - report.since) / 1000)


def _state(held: PlacedContainer) -> ContainerState:
    """The policy's state of a container.

    One that is not assigned any more is draining, reported or not, and so is one that ends by itself.
    """
    if not held.is_assigned or held.is_leaving:
        return "draining"
    match held.report.state if held.report is not None else "starting":
        case "ready":
            return "ready"
        case "draining":
            return "draining"
        case _:
            return "starting"
