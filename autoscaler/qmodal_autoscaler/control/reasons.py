"""Why pools do not get the containers that they want: noted as they are judged, and told to people once a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from qmodal.exception import clause
from qmodal.spec.needs.gpus import Gpu
from qmodal.spec.needs.needs import Needs
from qmodal.spec.needs.offer import Offer
from qmodal.store.fleet import WorkerReport
from qmodal.store.watch.reasons import IN_LINE, Kind, Reason, Reasons
from qmodal_autoscaler.cluster.nodes import Box, Nodes, PlacedContainer
from qmodal_autoscaler.control.judgement import Judgement, PoolDecision
from qmodal_autoscaler.policy.placement import ContainerRequest
from qmodal_autoscaler.policy.start_backoff import backoff
from qmodal_autoscaler.policy.turns import TurnQueue

# A pool that waits in line is told for so long that it has made room for others.
LENT_SECONDS = 60.0
# Boxes that one text names.
MOST_BOXES = 3


class Wish(NamedTuple):
    """A pool that wants containers, as of the last look at it.

    `kind`: why it gets none, as far as that follows from the pool alone; None if it has to find room. `until`: when the
    next start may follow, in monotonic seconds. `unfit`: boxes that cannot decode its inputs.
    """

    kind: Kind | None
    detail: str = ""
    failures: int = 0
    until: float = 0.0
    most: int = 0
    needs: Needs = Needs()
    unfit: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxView:
    """A box for which a pool may wait: what it offers, and what of that is free now.

    `name`: as people know it. `is_closed`: cordoned or drained. `is_avoided`: it did not start what it was assigned.
    `gpus`: those that nobody uses.
    """

    worker: str
    name: str
    offer: Offer
    gpus: tuple[Gpu, ...] = ()
    is_closed: bool = False
    is_avoided: bool = False


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
        case "maximum" if _waiting(made):
            return Wish("maximum", most=made.terms.settings.max_containers or 0)
    is_starting = any(each.state == "starting" for each in made.snapshot.containers)
    if request is None and not (is_starting and _waiting(made)):
        return None
    unfit = frozenset[str]() if request is None else request.unfit
    return Wish(None, needs=made.terms.needs, unfit=unfit)


def _waiting(made: PoolDecision) -> int:
    """Inputs that wait, for no retry."""
    seen = made.snapshot
    return seen.inflight - seen.delayed - sum(each.running for each in seen.containers)


def lacking(wish: Wish, around: Surroundings) -> Reason:
    """Why no box takes a container of a pool that is in line: the first that holds, from "never" to "not now"."""
    needs, boxes = wish.needs, around.boxes
    able = [box for box in boxes if not box.offer.lacks(needs)]
    if boxes and not able:
        lacks = _each((box.name, box.offer.lacks(needs)) for box in boxes)
        return Reason.of("impossible", boxes=lacks)
    if able and all(box.worker in wish.unfit for box in able):
        return Reason.of("python", boxes=_names(able))
    is_open = [box for box in able if not box.is_closed]
    if able and not is_open:
        return Reason.of("cordoned", boxes=_names(able))
    if is_open and all(box.is_avoided for box in is_open):
        return Reason.of("silent", boxes=_names(is_open))
    if needs.gpus and not any(_has_gpu(box, needs) for box in is_open):
        return Reason.of("gpu", gpus=" or ".join(map(str, needs.gpus)), boxes=_names(is_open))
    return Reason.of("room", detail=f"{around.running} of {around.places} containers run")


def _has_gpu(box: BoxView, needs: Needs) -> bool:
    return any(sum(map(need.fits, box.gpus)) >= need.count for need in needs.gpus)


def _names(boxes: Sequence[BoxView]) -> str:
    return _listed([box.name for box in boxes], ", ")


def _each(lacks: Iterable[tuple[str, str]]) -> str:
    """What boxes lack; those that lack the same together."""
    by_lack: dict[str, list[str]] = {}
    for name, lack in lacks:
        by_lack.setdefault(lack, []).append(name)
    return _listed([f"{_listed(names, ', ')}: {lack}" for lack, names in by_lack.items()], "; ")


def _listed(texts: Sequence[str], between: str) -> str:
    more = len(texts) - MOST_BOXES
    return between.join([*texts[:MOST_BOXES], *([f"{more} others"] if more > 0 else [])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What pools that wait find at one moment (`now`, in monotonic seconds; `server_ms`).

    `turns`: pools in line, by how many are ahead of them. `queued`: how many containers of each wait on their boxes.
    """

    now: float
    server_ms: float
    boxes: tuple[BoxView, ...]
    running: int
    places: int
    turns: Mapping[str, int]
    is_in_line: Callable[[str], bool]
    queued: Mapping[str, int]


def surroundings(
    nodes: Nodes, line: TurnQueue, turns: Sequence[str], *, server_ms: float, now: float
) -> Surroundings:
    """What is there now; `turns`: the first of those in line, in the order of their turns."""
    boxes, queued = nodes.boxes(), nodes.queued()
    hosts = Counter(box.report.host for box in boxes if box.report is not None)
    return Surroundings(
        now=now,
        server_ms=server_ms,
        boxes=tuple(_view(box, box.report, hosts, now) for box in boxes if box.report is not None),
        running=sum(not each.is_over for box in boxes for each in box.reports.values()),
        places=nodes.places(),
        turns={pool: ahead for ahead, pool in enumerate(turns)},
        is_in_line=line.__contains__,
        queued=Counter(held.pool for held in queued),
    )


def _view(box: Box, report: WorkerReport, hosts: Mapping[str, int], now: float) -> BoxView:
    leased = {uuid for each in box.reports.values() if not each.is_over for uuid in each.gpus}
    offer = Offer.of(cpus=report.cpus, memory=report.memory, gpus=report.gpus, labels=report.labels)
    return BoxView(
        worker=box.worker,
        name=report.host if hosts[report.host] == 1 else box.worker,
        offer=offer,
        gpus=tuple(gpu for gpu in offer.gpus if gpu.uuid not in leased),
        is_avoided=box.avoided > now,
    )


@dataclass(slots=True)
class ReasonBoard:
    """Why each pool waits that does. `counts`: pools by kind, as they were told last."""

    wishes: dict[str, Wish] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _lent: dict[str, list[float]] = field(default_factory=dict)

    def judged(self, judgement: Judgement, failed: str) -> None:
        """Take in what a look at a pool has shown; `failed`: what its last failed start has reported."""
        wish = wish_of(judgement, failed)
        if wish is not None:
            self.wishes[judgement.pool] = wish
        elif self.wishes.pop(judgement.pool, None) is not None:
            self._lent.pop(judgement.pool, None)

    def lent(self, pool: str, now: float) -> None:
        """Take in that a container of the pool ends, so that another one gets its place."""
        self._lent.setdefault(pool, []).append(now)

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
        around, alike = look(), dict[tuple[Needs, frozenset[str]], Reason]()
        own, in_line = dict[str, Reason](), dict[str, Reason]()
        for pool, wish in self.wishes.items():
            if wish.kind is None and (around.is_in_line(pool) or pool in around.queued):
                key = wish.needs, wish.unfit
                reason = alike.get(key) or alike.setdefault(key, lacking(wish, around))
                in_line[pool] = self._in_line(pool, reason, around)
            else:
                found = own_reason(wish, of_pool(pool), around)
                if found is not None:
                    own[pool] = found
        far = len(in_line)
        told = own | dict(sorted(in_line.items(), key=lambda each: around.turns.get(each[0], far)))
        self.counts = Counter(each.kind for each in told.values())
        return Reasons(told)

    def _in_line(self, pool: str, reason: Reason, around: Surroundings) -> Reason:
        if reason.kind not in IN_LINE:
            return reason
        lent = [at for at in self._lent.get(pool, ()) if around.now - at < LENT_SECONDS]
        if lent:
            reason = Reason.of("lent", count=len(lent))
        return Reason(reason.kind, reason.text, around.turns.get(pool, 0))


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
        case "maximum" if _is_served(containers):
            return Reason.of("maximum", most=wish.most)
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
