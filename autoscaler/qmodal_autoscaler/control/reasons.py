"""Why pools do not get the containers that they want: noted as they are judged, and told to people once a second."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qmodal.exception import clause
from qmodal.spec.needs.needs import Needs
from qmodal.store.watch.reasons import IN_LINE, Kind, Reason, Reasons
from qmodal_autoscaler.cluster.nodes import Box, Nodes, PlacedContainer
from qmodal_autoscaler.control.allocation import Allocation
from qmodal_autoscaler.control.judgement import Judgement, PoolDecision
from qmodal_autoscaler.control.lacks import BoxView, Ground, lacking
from qmodal_autoscaler.policy.room import NOTHING, ContainerRequest, Shape
from qmodal_autoscaler.policy.start_backoff import backoff

# A pool that waits in line is told for so long that it has made room for others.
LENT_SECONDS = 60.0
# Containers of a pool that are remembered to have made room.
MOST_LENT = 100


class Wish(NamedTuple):
    """A pool that wants containers, as of the last look at it.

    `kind`: why it gets none, as far as that follows from the pool alone; None if it has to find room. `until`: when the
    next start may follow, in monotonic seconds. `most`: the limit that holds it back, of containers or of seconds. `request`: what it has asked for.
    """

    kind: Kind | None
    detail: str = ""
    failures: int = 0
    until: float = 0.0
    most: int = 0
    request: ContainerRequest | None = None


def wish_of(judgement: Judgement, failed: str) -> Wish | None:
    """What the pool wants, by a look at it; `failed`: what its last failed start has reported."""
    if judgement.error is not None:
        return None if judgement.is_leaving else Wish("unreadable", clause(judgement.error))
    if judgement.made is not None:
        return _wish(judgement.made, judgement.request, failed)
    if judgement.purge is not None:
        return Wish("stopped", clause(judgement.purge.reason.removeprefix("stopped: ")))
    return None


def _wish(made: PoolDecision, request: ContainerRequest | None, failed: str) -> Wish | None:
    match made.decision.why:
        case "paused" if made.snapshot.inflight:
            return Wish("paused")
        case "failed_starts":
            last = failed.strip().rpartition("\n")[2] or "they end before they are ready"
            failures, settings = made.snapshot.failures, made.terms.settings
            until = backoff(failures, ephemeral=settings.ephemeral).until
            return Wish("failing", clause(last), len(failures), until)
        case "scaleup_window" if _waiting(made):
            return Wish("window", most=int(made.terms.settings.scaleup_window))
        case "maximum" if _waiting(made):
            return Wish("maximum", most=made.terms.settings.max_containers or 0)
    is_starting = any(each.state == "starting" for each in made.snapshot.containers)
    if request is None and not (is_starting and _waiting(made)):
        return None
    return Wish(None, request=request)


def _waiting(made: PoolDecision) -> int:
    """Inputs that wait, for no retry."""
    seen = made.snapshot
    return seen.inflight - seen.delayed - sum(each.running for each in seen.containers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What pools that wait find at one moment (`now`, in monotonic seconds; `server_ms`).

    `turns`: the first of the pools in line, in the order of their turns. `queued`: how many containers of each wait on their boxes.
    """

    now: float
    server_ms: float
    ground: Ground
    turns: Sequence[str]
    is_in_line: Callable[[str], bool]
    queued: Mapping[str, int]


def surroundings(
    nodes: Nodes, allocation: Allocation, turns: Sequence[str], *, server_ms: float, now: float
) -> Surroundings:
    """What is there now; `turns`: the first of those in line, in the order of their turns."""
    boxes = nodes.boxes()
    hosts = Counter(box.report.host for box in boxes if box.report is not None)
    ground = Ground(
        boxes=[view for box in boxes if (view := _view(box, hosts, now)) is not None],
        rooms=allocation.ledger(server_ms).rooms,
        holds=allocation.reservations.holds,
        running=sum(not each.is_over for box in boxes for each in box.reports.values()),
        places=nodes.places(),
    )
    return Surroundings(
        now=now,
        server_ms=server_ms,
        ground=ground,
        turns=turns,
        is_in_line=allocation.__contains__,
        queued=Counter(held.pool for held in nodes.queued()),
    )


def _view(box: Box, hosts: Mapping[str, int], now: float) -> BoxView | None:
    if box.report is None or box.offer is None:
        return None
    return BoxView(
        worker=box.worker,
        name=box.report.host if hosts[box.report.host] == 1 else box.worker,
        offer=box.offer,
        is_cordoned=box.is_cordoned,
        is_avoided=box.avoided > now,
    )


@dataclass(slots=True)
class ReasonBoard:
    """Why each pool waits that does. `counts`: pools by kind, as they were told last."""

    wishes: dict[str, Wish] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _lent: dict[str, deque[float]] = field(default_factory=dict)

    def judged(self, judgement: Judgement, failed: str) -> None:
        """Take in what a look at a pool has shown; `failed`: what its last failed start has reported."""
        wish = wish_of(judgement, failed)
        if wish is not None:
            self.wishes[judgement.pool] = wish
        elif self.wishes.pop(judgement.pool, None) is not None:
            self._lent.pop(judgement.pool, None)

    def lent(self, pool: str, now: float) -> None:
        """Take in that a container of the pool ends, so that another one gets its place."""
        self._lent.setdefault(pool, deque(maxlen=MOST_LENT)).append(now)

    def keep(self, pools: Collection[str]) -> None:
        """Forget all pools but these."""
        for pool in self.wishes.keys() - pools:
            del self.wishes[pool]
        for pool in self._lent.keys() - pools:
            del self._lent[pool]

    def told(
        self, look: Callable[[], Surroundings], of_pool: Callable[[str], Sequence[PlacedContainer]]
    ) -> Reasons:
        """The reasons now; those first that few pools have, as there is an end to how many are told.

        `look`: what pools find around them. `of_pool`: a pool's containers.
        """
        if not self.wishes:
            self.counts = Counter()
            return Reasons()
        around, alike = look(), dict[tuple[Shape, frozenset[str]], Reason]()
        own, in_line = dict[str, Reason](), dict[str, Reason]()
        for pool, wish in self.wishes.items():
            if wish.kind is None and (around.is_in_line(pool) or pool in around.queued):
                request = wish.request or ContainerRequest(pool=pool, count=1)
                key = request.shape, request.unfit
                reason = alike.get(key) or alike.setdefault(key, lacking(request, around.ground))
                in_line[pool] = self._in_line(pool, reason, around.now)
            else:
                found = own_reason(wish, of_pool(pool), around)
                if found is not None:
                    own[pool] = found
        told = own | self._by_turns(in_line, around.turns)
        self.counts = Counter(each.kind for each in told.values())
        return Reasons(told)

    def _in_line(self, pool: str, reason: Reason, now: float) -> Reason:
        """Whoever lacks GPUs is told which, also after it has made room: no other box would do."""
        if reason.kind != "room":
            return reason
        lent = sum(now - at < LENT_SECONDS for at in self._lent.get(pool, ()))
        return Reason.lent(lent) if lent else reason

    def _by_turns(self, in_line: dict[str, Reason], turns: Iterable[str]) -> dict[str, Reason]:
        """Those that wait for room in the order of their turns, each with those ahead that ask for the same."""
        # By what they ask for: what was measured differs between pools that wait for the same.
        ahead: Counter[Needs] = Counter()
        first: dict[str, Reason] = {}
        for pool in turns:
            reason, wish = in_line.get(pool), self.wishes.get(pool)
            if reason is None or reason.kind not in IN_LINE or wish is None:
                continue
            needs = NOTHING if wish.request is None else wish.request.needs
            first[pool] = Reason(reason.kind, reason.text, ahead[needs])
            ahead[needs] += 1
        return first | {pool: each for pool, each in in_line.items() if pool not in first}


def own_reason(
    wish: Wish, containers: Sequence[PlacedContainer], around: Surroundings
) -> Reason | None:
    """The reason of a pool that does not wait for room; None if it has got what it wanted."""
    match wish.kind:
        case "failing":
            wait = wish.until - around.now
            what = "start has" if wish.failures == 1 else "starts have"
            when = f"the next follows in {wait:.1f} s" if wait > 0 else "one is tried at a time"
            detail = f"{wish.detail} ({wish.failures} {what} failed, {when})"
            return Reason.of("failing", detail=detail)
        case "unreadable":
            return Reason.of("unreadable", detail=wish.detail)
        case "stopped":
            return Reason.of("stopped", detail=wish.detail)
        case "paused":
            return Reason.of("paused")
        case "maximum" | "window" as limit if _is_served(containers):
            return Reason.of(limit, most=wish.most)
        case _:
            return _starting(containers, around)


def _is_served(containers: Sequence[PlacedContainer]) -> bool:
    return any(each.report is not None and each.report.state == "ready" for each in containers)


def _starting(containers: Sequence[PlacedContainer], around: Surroundings) -> Reason | None:
    reports = [each.report for each in containers if each.report is not None]
    since = [each.since for each in reports if each.state == "starting"]
    if since:
        return Reason.starting(since, around.server_ms)
    return Reason.of("placing") if any(each.report is None for each in containers) else None
