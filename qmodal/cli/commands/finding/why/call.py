"""Why a call waits: each of its inputs that has not ended, by where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from qmodal.cli.commands.finding.scope import app_names
from qmodal.cli.commands.finding.why.answer import Answer
from qmodal.cli.commands.finding.why.pool import PoolTerms, pool_reason, terms_of
from qmodal.client.client import Client
from qmodal.client.waiting.why import FleetState
from qmodal.exception import NotFoundError
from qmodal.store.results.outputs import CallRecord
from qmodal.store.watch.observing import Observation, Place, QueuedEntry
from qmodal.store.watch.reasons import Reason
from qmodal.transport.operation import Op
from qmodal.wire.ids import input_id

# Entries of a pool's streams, of each place, that are looked through.
MOST_ENTRIES = 1000


@dataclass(slots=True, kw_only=True)
class FoundInputs:
    """Inputs of a call that have not ended, by place: how many, and a line for each; and why those in line wait."""

    reason: Reason
    counts: dict[Place, int] = field(default_factory=dict)
    lines: dict[Place, list[str]] = field(default_factory=dict)

    def add(self, place: Place, count: int, line: str) -> None:
        """Take in inputs of one entry."""
        self.counts[place] = self.counts.get(place, 0) + count
        self.lines.setdefault(place, []).append(line)


def why_call(client: Client, call: str, index: int | None, state: FleetState) -> Op[Answer]:
    """The answer for a call, or for one of its inputs; raises NotFoundError."""
    record = yield from client.calls.record(call)
    if record is None:
        raise NotFoundError(
            f"Call {call} was delivered, has expired, or never existed; `qmodal call show {call}` "
            "says what is left of it."
        )
    name = call if index is None else input_id(call, index)
    (seen,) = yield from client.observing.observe([record.pool])
    if record.is_finished or seen is None:
        how = "it was cancelled" if record.state == "cancelled" else _all_ended(record)
        return Answer(about=name, kind="idle", text=f"{name} waits for nothing: {how}")
    app = (yield from client.apps.records([seen.app])).get(seen.app)
    terms = yield from terms_of(client, seen.pool, app)
    found = FoundInputs(reason=(yield from pool_reason(client, seen, state)))
    for entry in (yield from client.observing.queue(record.pool, count=MOST_ENTRIES)):
        if entry.claimed.call == call and _has(entry, index):
            found.add(entry.place, *_counted(entry, index, terms, state.now))
    _add_unseen(found, record, index)
    names = yield from app_names(client, [seen.app])
    facts = _facts(found, record, seen, names.get(seen.app, seen.app))
    kind, text = _answer(found, name, seen, index)
    return Answer(about=name, kind=kind, text=text, facts=facts)


def _all_ended(record: CallRecord) -> str:
    if record.submitted == 1:
        return "its input has ended"
    return f"all {record.submitted} inputs have ended"


def _has(entry: QueuedEntry, index: int | None) -> bool:
    one = entry.claimed
    return index is None or one.first <= index < one.first + one.size


def _counted(
    entry: QueuedEntry, index: int | None, terms: PoolTerms, now: float
) -> tuple[int, str]:
    """How many inputs of the entry are meant, and the line for them."""
    one = entry.claimed
    count, first = (one.size, one.first) if index is None else (1, index)
    name = f"input {first}" if count == 1 else f"inputs {first} to {first + count - 1}"
    return count, f"{name}: {_about(entry, terms, now)}"


def _about(entry: QueuedEntry, terms: PoolTerms, now: float) -> str:
    attempt = (
        f"attempt {entry.claimed.retries + 1} of {max(terms.attempts, entry.claimed.retries + 1)}"
    )
    match entry.place:
        case "running":
            return f"held by {entry.container} for {entry.idle / 1000:.1f} s, {attempt}"
        case "delayed":
            return f"its retry is due in {max(0.0, entry.since - now) / 1000:.1f} s, {attempt}"
        case _:
            return f"in line for {max(0.0, now - entry.since) / 1000:.1f} s, {attempt}"


def _add_unseen(found: FoundInputs, record: CallRecord, index: int | None) -> None:
    """Inputs behind more entries than were looked at, or on their way between two of them."""
    unseen = record.submitted - record.settled - sum(found.counts.values())
    if index is None and unseen > 0:
        found.add("waiting", unseen, f"{unseen} others behind those")


def _answer(found: FoundInputs, name: str, seen: Observation, index: int | None) -> tuple[str, str]:
    counts, reason = found.counts, found.reason
    of_all = sum(counts.values())
    if "waiting" in counts:
        which = _which(counts["waiting"], of_all, name)
        return reason.kind, f"{which}: {reason.sentence(seen.pool)}"
    if "delayed" in counts:
        which = _which(counts["delayed"], of_all, name)
        return "retry", f"{which} for a retry: {found.lines['delayed'][0]}"
    if "running" in counts:
        return "running", f"{name} runs: {found.lines['running'][0]}"
    about = "its input has ended" if index is not None else "its inputs are on their way"
    return "idle", f"{name} waits for nothing: {about}"


def _which(count: int, of_all: int, name: str) -> str:
    return f"{name} waits" if of_all == 1 else f"{name}: {count} of {of_all} inputs wait"


def _facts(
    found: FoundInputs, record: CallRecord, seen: Observation, app: str
) -> dict[str, str | list[str]]:
    titles: dict[Place, str] = {"waiting": "waiting", "delayed": "retries", "running": "running"}
    by_reason = list(_by_reason(found))
    facts: dict[str, str | list[str]] = {
        "function": f"{seen.label} of {app}",
        "pool": seen.pool,
        "ended": f"{record.settled} of {record.submitted} inputs",
        "reasons": by_reason if len(by_reason) > 1 else [],
        **{title: found.lines.get(place, []) for place, title in titles.items()},
    }
    return {name: fact for name, fact in facts.items() if fact}


def _by_reason(found: FoundInputs) -> Iterator[str]:
    """How many inputs have which reason."""
    shorts: dict[Place, str] = {
        "waiting": found.reason.short,
        "delayed": "waits for a retry",
        "running": "running",
    }
    for place, short in shorts.items():
        if place in found.counts:
            yield f"{found.counts[place]}: {short}"
