"""Why a box gets nothing: its state, what it cannot run of what waits, and what waits for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from qmodal.cli.commands.finding.scope import observed
from qmodal.cli.commands.finding.why.answer import Answer
from qmodal.cli.commands.finding.why.pool import terms_of
from qmodal.cli.tables import age
from qmodal.client.client import Client
from qmodal.client.waiting.why import FleetState, offer_of
from qmodal.exception import NotFoundError
from qmodal.spec.needs.sizes import size
from qmodal.store.watch.boxes import BoxRecord
from qmodal.store.watch.reasons import IN_LINE
from qmodal.transport.operation import Op

# Pools that wait which are held against a box.
MOST_POOLS = 100
# Why a box gets no further container, and what to do. docs/why.md has them, too.
BOX_WORDING = {
    "lost": (
        "its lease ended {ago} ago: it gets nothing, and what it ran is given to other boxes",
        "Look whether its worker runs and reaches the server",
    ),
    "drained": (
        "it is drained: it gets nothing new, and its containers end after what they run",
        "`qmodal worker uncordon {worker}` lets it have containers again",
    ),
    "cordoned": (
        "it is cordoned: it gets nothing new, and what it runs goes on",
        "`qmodal worker uncordon {worker}` lets it have containers again",
    ),
    "autoscaler": (
        "nobody says what it should run, as no autoscaler runs",
        "Start `qmodal autoscaler` on some machine",
    ),
    "full": ("all its {most} places are taken", "A higher --max-containers gives it more"),
    "waited-for": ("{count} pools wait that it could run, and it has not enough free for them", ""),
    "unable": (
        "it has room, and cannot run what waits",
        "The lines below say what it lacks for each",
    ),
    "idle": ("it has room, and no pool waits for it", ""),
}


@dataclass(slots=True)
class WaitingPools:
    """Pools that wait, as this box sees them: those that it could run, and what it lacks for the others."""

    able: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)


def why_box(client: Client, worker: str, state: FleetState) -> Op[Answer]:
    """The answer for a box."""
    leases = yield from client.fleet.workers()
    box = (yield from client.boxes.records([worker])).get(worker)
    if box is None:
        raise NotFoundError(f"There is no worker {worker} any more.")
    waiting = yield from _waiting(client, box, state)
    kind = _kind(box, leases.get(worker, 0.0), waiting, state)
    report, alive = box.report, state.on_box(worker)
    text, advice = BOX_WORDING[kind]
    ago = age(max(0.0, state.now - leases.get(worker, 0.0)) / 1000)
    said = text.format(ago=ago, most=report.max_containers, count=len(waiting.able))
    labels = Counter(each.label for each in alive)
    facts: dict[str, str | list[str]] = {
        "worker": f"{worker} on {report.host}",
        "offers": _offers(box),
        "containers": f"{len(alive)} of {report.max_containers}",
        "runs": [f"{count} of {label}" for label, count in labels.most_common()],
        "waiting": waiting.able,
        "cannot run": waiting.lacks,
        "leader": state.leader or "none",
    }
    return Answer(
        about=worker,
        kind=kind,
        text=f"{report.host}: {said}" + (f". {advice.format(worker=worker)}" if advice else ""),
        facts={name: fact for name, fact in facts.items() if fact},
    )


def _kind(box: BoxRecord, lease: float, waiting: WaitingPools, state: FleetState) -> str:
    report = box.report
    checks = {
        "lost": lease <= state.now,
        "drained": box.cordon.drained > 0,
        "cordoned": box.cordon.is_closed,
        "autoscaler": state.leader is None,
        "full": len(state.on_box(report.worker)) >= report.max_containers,
        "waited-for": bool(waiting.able),
        "unable": bool(waiting.lacks),
    }
    return next((kind for kind, holds in checks.items() if holds), "idle")


def _offers(box: BoxRecord) -> str:
    report = box.report
    kinds = Counter(gpu.kind for gpu in offer_of(box).gpus)
    parts = [f"{report.cpus:g} CPUs", size(report.memory)]
    parts += [f"{count} {kind}" for kind, count in kinds.items()]
    return ", ".join([*parts, *report.labels, f"Python {report.python}"])


def _waiting(client: Client, box: BoxRecord, state: FleetState) -> Op[WaitingPools]:
    said = [
        pool
        for pool, reason in state.reasons.of.items()
        if reason.kind in IN_LINE or reason.kind in ("impossible", "cordoned", "python", "silent")
    ]
    seen = yield from observed(client, said[:MOST_POOLS])
    records = yield from client.apps.records(sorted({each.app for each in seen.values()}))
    found, offer = WaitingPools(), offer_of(box)
    for pool, each in seen.items():
        terms = yield from terms_of(client, pool, records.get(each.app))
        lacks = terms.problem if terms.needs is None else offer.lacks(terms.needs)
        if lacks:
            found.lacks.append(f"{each.label} ({pool[:8]}): {lacks}")
        else:
            found.able.append(f"{each.label} ({pool[:8]}): {state.reasons.of[pool].short}")
    return found
