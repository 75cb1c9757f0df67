"""Why a pool waits: its reason, what it may have and needs, and the boxes that there are."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from qmodal.cli.commands.app import backlog_of
from qmodal.cli.commands.finding.scope import app_names
from qmodal.cli.commands.finding.why.answer import Answer
from qmodal.cli.tables import age
from qmodal.client.client import Client
from qmodal.client.waiting.why import FleetState, offer_of, reason_of
from qmodal.exception import Error
from qmodal.spec.documents import FunctionSpec, PoolSpec
from qmodal.spec.needs.needs import Needs
from qmodal.spec.variant import Limit, limits_in_force, options_in_force
from qmodal.store.apps import AppRecord
from qmodal.store.watch.boxes import BoxRecord
from qmodal.store.watch.observing import Observation, QueuedEntry
from qmodal.store.watch.reasons import Reason
from qmodal.transport.operation import Op


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTerms:
    """What a pool may have and needs, by its signed documents; `problem`: why that cannot be told."""

    limits: tuple[Limit, ...] = ()
    needs: Needs | None = None
    attempts: int = 1  # of each input, at most
    problem: str = ""


def terms_of(client: Client, pool: str, record: AppRecord | None) -> Op[PoolTerms]:
    """The terms of a pool, whose app has that record."""
    try:
        found = yield from _documents(client, pool, record)
    except Error as error:  # published with another key, or changed by something else
        return PoolTerms(problem=str(error))
    if found is None:
        return PoolTerms(problem="the version that it runs is gone")
    spec, function = found
    overridden = yield from client.apps.overridden(spec.app_id, pool)
    options = options_in_force(function, spec)
    return PoolTerms(
        limits=tuple(limits_in_force(function, spec, overridden)),
        needs=options.needs,
        attempts=1 + (0 if options.retries is None else options.retries.max_retries),
    )


def _documents(
    client: Client, pool: str, record: AppRecord | None
) -> Op[tuple[PoolSpec, FunctionSpec] | None]:
    spec = yield from client.specs.pool(pool)
    if spec is None or record is None or record.app_id != spec.value.app_id:
        return None
    version = yield from client.specs.of_record(record, spec.value.number)
    function = None if version is None else version.value.functions.get(spec.value.function)
    return None if function is None else (spec.value, function)


def pool_reason(client: Client, seen: Observation, state: FleetState) -> Op[Reason]:
    """Why the pool waits, with what only its app's record and its entries show."""
    record = (yield from client.apps.records([seen.app])).get(seen.app)
    return (yield from _reason(client, seen, state, record))


def _reason(
    client: Client, seen: Observation, state: FleetState, record: AppRecord | None
) -> Op[Reason]:
    if record is None or record.state == "stopped":
        return Reason.of("stopped", detail="the app was stopped")
    reason = reason_of(seen, state)
    if reason.kind != "retry":
        return reason
    entries = yield from client.observing.queue(seen.pool, count=1)
    due = [each.since for each in entries if each.place == "delayed"]
    when = f", the next one for {max(0.0, min(due) - state.now) / 1000:.1f} s" if due else ""
    return Reason.of("retry", count=seen.delayed, when=when)


def why_pool(client: Client, seen: Observation, state: FleetState) -> Op[Answer]:
    """The answer for a pool."""
    record = (yield from client.apps.records([seen.app])).get(seen.app)
    reason = yield from _reason(client, seen, state, record)
    names = yield from app_names(client, [seen.app])
    terms = yield from terms_of(client, seen.pool, record)
    entries = yield from client.observing.queue(seen.pool, count=1)
    facts = {
        "pool": seen.pool,
        "app": names.get(seen.app, seen.app),
        "inputs": _inputs(seen, entries, state.now),
        "containers": _containers(state, seen.pool),
        "needs": str(terms.needs) if terms.needs is not None and terms.needs.is_declared else "",
        "limits": [shown_limit(each) for each in terms.limits] or terms.problem,
        "starts": "" if seen.start_time is None else f"{seen.start_time:.3f} s",
        "leader": state.leader or "none",
        "boxes": [_box(each, state, terms.needs) for each in state.workers] or "none",
    }
    return Answer(
        about=seen.pool,
        kind=reason.kind,
        text=sentence(seen.label, reason, seen.pool),
        facts={name: fact for name, fact in facts.items() if fact},
    )


def sentence(label: str, reason: Reason, pool: str) -> str:
    """The reason as a sentence about what has that label."""
    waits = "waits for nothing" if reason.kind in ("idle", "enough") else "waits"
    return f"{label} {waits}: {reason.sentence(pool)}"


def shown_limit(limit: Limit) -> str:
    """A limit with its source, such as `max_containers 8 (update_autoscaler, 2 min ago)`."""
    value = "none" if limit.value is None else limit.value
    ago = f", {age(time.time() - limit.since / 1000)} ago" if limit.since else ""
    return f"{limit.name} {value} ({limit.source}{ago})"


def _inputs(seen: Observation, entries: list[QueuedEntry], now: float) -> str:
    held = sum(consumer.pending for consumer in seen.consumers)
    counts = {"wait": backlog_of(seen), "run": held, "wait for a retry": seen.delayed}
    text = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none"
    oldest = [each.since for each in entries if each.place == "waiting"]
    ago = age(max(0.0, now - min(oldest)) / 1000) if oldest else ""
    return f"{text}; the oldest waits for {ago}" if ago else text


def _containers(state: FleetState, pool: str) -> str:
    states = Counter(each.state for each in state.of_pool(pool) if not each.is_over)
    return ", ".join(f"{count} {name}" for name, count in states.items()) or "none"


def _box(box: BoxRecord, state: FleetState, needs: Needs | None) -> str:
    return "; ".join(_about(box, state, needs))


def _about(box: BoxRecord, state: FleetState, needs: Needs | None) -> Iterator[str]:
    report = box.report
    count = len(state.on_box(report.worker))
    yield f"{report.host} ({report.worker}): {count} of {report.max_containers} containers"
    if box.cordon.is_closed:
        yield "drained" if box.cordon.drained else "cordoned"
    lacks = "" if needs is None else offer_of(box).lacks(needs)
    if lacks:
        yield lacks
