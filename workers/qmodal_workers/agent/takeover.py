"""Releases, retries and settles inputs for a container that cannot do it itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.spec.retries import next_step
from qmodal.store.entries import Claimed, Requeued, Settled
from qmodal.store.history.statistics import Counts, observed
from qmodal.store.keys import GROUP, Keys
from qmodal.store.pools import MOST_HELD
from qmodal.store.results.failures import Failure
from qmodal.telemetry.events import (
    INPUT_CANCELLED,
    INPUT_INTERRUPTED,
    INPUT_RETRIED,
    INPUT_TIMED_OUT,
    emit,
)
from qmodal.transport.operation import Op, ask, ask_one
from qmodal.wire.envelope import Envelope, open_envelope
from qmodal.wire.ids import input_id
from qmodal.wire.outcome import Outcome, text_outcome, told
from qmodal.wire.signing import mac_of
from qmodal_workers.agent.containers import Container
from qmodal_workers.ipc.entry_names import Entry
from qmodal_workers.ipc.shared_record import CANCELLED, TIMEOUT, ContainerStatus

_WHY = {TIMEOUT: "its time limit is over", CANCELLED: "it was cancelled"}


def charged(status: ContainerStatus | None) -> list[str]:
    """The started inputs of a container, as **reclaim** names them.

    Of an unreadable record all of them: it ended while it wrote that, or user code has damaged it,
    and an input that does so has to have an end as well.
    """
    if status is None:
        return ["*"]
    return [f"{lane} {entry} {status.part}" for lane, entry in status.held[: status.running]]


def read_entries(keys: Keys, pool: str, entries: Sequence[Entry]) -> Op[list[Claimed]]:
    """The entries that still exist and look like ours."""
    replies = yield from ask(
        *((b"XRANGE", _lane(keys, pool, lane), entry, entry) for lane, entry in entries)
    )
    found = [
        Claimed(2 if lane == 2 else 1, entry, tuple(reply[0][1]))
        for (lane, entry), reply in zip(entries, replies, strict=True)
        if reply
    ]
    return [claimed for claimed in found if claimed.is_shaped]


def release_behind(client: Client, container: Container, status: ContainerStatus) -> Op[int]:
    """Release the entries that a container has claimed behind the input that it runs; returns how many.

    After a long input it reads what it holds again, and will run that. Such a read counts as a
    delivery, so what was counted while that input ran is released only if nothing was added since.
    """
    keys, pool = client.keys, container.pool
    listed = status.held[status.running :]
    entries = yield from read_entries(
        keys, pool, (*listed, *(yield from _prefetched(keys, container, status)))
    )
    counts = yield from _deliveries(keys, container, entries)
    now = container.status()
    if not entries or now is None or now.serial != status.serial:
        return 0
    held = [(claimed.lane, claimed.entry, claimed.call) for claimed in entries]
    return (yield from client.pools.release(pool, held, deliveries=counts))


def _prefetched(keys: Keys, container: Container, status: ContainerStatus) -> Op[list[Entry]]:
    """The entries behind the running one that the container has been delivered and has not read.

    In the stream of that one only: in the other one it may be what has ended and is not settled.
    """
    if not status.ahead:
        return []
    lane, running = status.held[0]
    stream, behind = _lane(keys, container.pool, lane), f"({running}"
    held = yield from ask_one(b"XPENDING", stream, GROUP, behind, b"+", MOST_HELD, container.id)
    found = [(lane, reply[0].decode()) for reply in held]
    return [entry for entry in found if entry not in status.held]


def _deliveries(keys: Keys, container: Container, entries: Sequence[Claimed]) -> Op[list[int]]:
    """How often each was delivered to the container; -1 for what it does not hold any more."""
    if not entries:
        return []
    pool, holder = container.pool, container.id
    replies = yield from ask(
        *(
            (b"XPENDING", _lane(keys, pool, one.lane), GROUP, one.entry, one.entry, 1, holder)
            for one in entries
        )
    )
    return [reply[0][3] if reply else -1 for reply in replies]


def end_overrun(client: Client, container: Container, status: ContainerStatus) -> Op[Counts]:
    """Retry the input that ran out of time, or settle it as timed out; what that adds to the statistics."""
    entries = yield from read_entries(client.keys, container.pool, status.held[:1])
    for claimed in entries:
        try:
            envelope = open_envelope(claimed.envelope, client.signer)
        except Error:
            return {}  # it is given back with the rest, and whoever claims it next buries it
        if claimed.size > 1:
            yield from _requeue_others(client, container, claimed, status.part)
        return (yield from _conclude_overrun(client, container, status, (claimed, envelope)))
    return {}


def _requeue_others(client: Client, container: Container, claimed: Claimed, part: int) -> Op[None]:
    """Put the other inputs of a pack back in line, if its container did not come to do it."""
    first, behind = claimed.first, claimed.first + claimed.size
    others = (Requeued(first, part - first), Requeued(part + 1, behind - part - 1))
    yield from client.pools.split(
        container.pool,
        container.id,
        claimed,
        keep=part,
        ended=[],
        again=[each for each in others if each.number > 0],
    )


def _conclude_overrun(
    client: Client, container: Container, status: ContainerStatus, attempt: tuple[Claimed, Envelope]
) -> Op[Counts]:
    claimed, envelope = attempt
    took = time.monotonic_ns() - status.started
    outcome = text_outcome(
        "timeout",
        f"the input ran longer than {status.timeout / 1e9:g} s",
        container=container.id,
        started=(time.time_ns() - took) // 1_000_000,
        took=took // 1000,
    )
    delay = next_step(outcome, container.options.retries, claimed.retries)
    if delay is not None:
        is_ours = yield from client.pools.retry(container.pool, claimed, delay=delay)
        if is_ours:
            emit(INPUT_RETRIED, delay=delay, **about_input(container, claimed, status.part))
        return {"retries": 1} | observed("run", took // 1000) if is_ours else {}
    is_kept = claimed.size > 1
    index = status.part if is_kept else claimed.first
    sealed = outcome.seal(
        client.signer, call=envelope.call, index=index, request=mac_of(claimed.envelope)
    )
    lane, entry, _ = claimed
    has_blob = envelope.blob is not None
    settled = Settled(
        *(lane, entry, envelope.call, index, sealed, has_blob),
        is_kept=is_kept,
        keeps_arguments=has_blob,
    )
    _, recorded = yield from ask_one(*client.pools.settle_command(container.pool, [settled]))
    if not recorded:
        return {}
    emit(INPUT_TIMED_OUT, **about_input(container, claimed, index))
    with suppress(Error):  # people may look for it; nothing else needs it
        yield from client.failures.note(_overrun(container, attempt, outcome, index))
    wait = max(0, outcome.started - envelope.head.created) * 1000
    return _timed_out(wait, took // 1000)


def about_input(container: Container, claimed: Claimed | None, index: int) -> dict[str, str | int]:
    """The ids that events have of an attempt, or of one whose entry is gone; `index`: the input of a pack that runs."""
    if claimed is None:
        return {**container.about, "call": "", "input": "", "attempt": 0}
    return {
        **container.about,
        "call": claimed.call,
        "input": input_id(claimed.call, index if claimed.size > 1 else claimed.first),
        "attempt": claimed.retries + claimed.lost + 1,
    }


def tell_interrupted(
    client: Client, container: Container, entry: Entry, index: int, why: int
) -> Op[None]:
    """Emit that what the entry stands for is to stop; the entry of a cancelled one may be gone."""
    entries: list[Claimed] = []
    with suppress(Error):
        entries = yield from read_entries(client.keys, container.pool, [entry])
    name, reason = f"{entry[0]}-{entry[1]}", _WHY.get(why, "its container ends")
    claimed = entries[0] if entries else None
    what = about_input(container, claimed, index)["input"] or f"entry {name}"
    if why == CANCELLED:
        emit(
            INPUT_CANCELLED,
            what=what,
            reason=reason,
            entry=name,
            **about_input(container, claimed, index),
        )
    else:
        emit(
            INPUT_INTERRUPTED,
            what=what,
            reason=reason,
            entry=name,
            **about_input(container, claimed, index),
        )


def _overrun(
    container: Container, attempt: tuple[Claimed, Envelope], outcome: Outcome, index: int
) -> Failure:
    claimed, envelope = attempt
    reason, trace = told(outcome.kind, outcome.payload)
    return Failure(
        app=container.report.app,
        function=container.report.function,
        pool=container.pool,
        call=envelope.call,
        index=index,
        method=envelope.head.method,
        kind=outcome.kind,
        reason=reason,
        trace=trace,
        container=container.id,
        created=envelope.head.created,
        started=outcome.started,
        took=outcome.took,
        retries=claimed.retries,
        lost=claimed.lost,
        envelope=claimed.envelope,
    )


def _timed_out(wait: int, run: int) -> Counts:
    times = {"wait": wait, "run": run, "total": wait + run}
    changes = [observed(histogram, time).items() for histogram, time in times.items()]
    return {"timeout": 1, **{name: amount for each in changes for name, amount in each}}


def _lane(keys: Keys, pool: str, lane: int) -> str:
    return keys.again(pool) if lane == 2 else keys.inputs(pool)
