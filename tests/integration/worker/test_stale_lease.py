"""A container whose worker may have lost its lease, or that stood still itself, does not trust what it holds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qmodal.spec.options import FunctionOptions
from qmodal_workers.container.intake.intake import SURE_NS, block_ms
from qmodal_workers.container.intake.prefetch import LONG_NS, PrefetchBuffer
from qmodal_workers.container.run.slot import Slot
from qmodal_workers.ipc.shared_record import lease_clock
from tests.support.holder import NAME, Holder, holder_of
from tests.support.store.bench import Bench, index_of

OTHER = "ta-b-1"


@pytest.fixture
def holder(bench: Bench) -> Iterator[Holder]:
    yield from holder_of(bench, FunctionOptions())


def leave(holder: Holder, nanoseconds: int) -> None:
    """The worker's lease is good for so long."""
    holder.record.hold_until(lease_clock() + nanoseconds)


def test_without_a_lease_nothing_is_claimed(bench: Bench, holder: Holder) -> None:
    bench.submit(2)
    leave(holder, -1)
    holder.intake.claim()
    assert holder.intake.buffer.waiting() == []
    assert len(bench.claim(OTHER, count=5)) == 2
    bench.client.run(bench.client.pools.reclaim(bench.pool, OTHER, reason="gone", charged=()))
    leave(holder, 2 * SURE_NS)
    assert sorted(holder.run(2)) == [0, 1]


def test_what_has_ended_is_settled_without_a_lease(bench: Bench, holder: Holder) -> None:
    call = bench.submit()
    holder.run(1)
    leave(holder, -1)
    holder.intake.claim()
    assert bench.outputs(call) == [(0, b"o", b"done")]


def test_what_was_claimed_ahead_is_given_back_without_a_lease(bench: Bench, holder: Holder) -> None:
    bench.submit(200)
    holder.run_until_reached()
    while holder.intake.buffer.queue:
        holder.run(1)
    leave(holder, -1)
    holder.intake.claim()
    held = bench.ask(*bench.client.pools.held_command(bench.pool, NAME))
    assert bench.client.pools.parse_claim(bench.pool, held) == []


def test_what_comes_while_the_lease_runs_out_is_given_back(bench: Bench, holder: Holder) -> None:
    """The reader waits; what is delivered in the last moment may be taken back already."""
    leave(holder, 300_000_000)
    bench.submit()
    holder.intake._ask(holder.record.lease_left)
    leave(holder, -1)
    holder.intake.refill()
    assert holder.intake.buffer.waiting() == []
    assert [each.lost for each in bench.claim(OTHER)] == [0]
    bench.client.run(bench.client.pools.reclaim(bench.pool, OTHER, reason="gone", charged=["*"]))


@pytest.mark.parametrize(
    ("left", "milliseconds"), [(7.0, 5000), (2.34, 2300), (0.05, 1), (-1.0, 1)]
)
def test_nobody_waits_for_inputs_longer_than_the_lease_is_good(
    left: float, milliseconds: int
) -> None:
    assert block_ms(5000, int(left * 1e9)) == milliseconds


def test_before_a_worker_has_said_anything_its_containers_trust_it(holder: Holder) -> None:
    assert holder.record.held_until == 0
    assert holder.record.lease_left > SURE_NS


def test_with_a_doubtful_lease_only_what_is_still_held_is_started(
    bench: Bench, holder: Holder
) -> None:
    """The worker stands still, and perhaps so did we: what came was cancelled before we read it."""
    call = bench.submit()
    leave(holder, SURE_NS // 4)
    holder.intake._ask(holder.record.lease_left)
    assert holder.claims.is_answered(5)
    bench.client.run(bench.client.calls.cancel(call))
    claimed = holder.claims.answer()
    assert claimed is not None
    assert [index_of(one) for one in claimed] == [0]
    holder.intake.claim()
    assert holder.intake.buffer.waiting() == []


def test_what_was_claimed_long_ago_is_looked_up_before_it_starts() -> None:
    now = 0
    slot = Slot()
    buffer = PrefetchBuffer(
        slot,
        fetch=list,
        release=lambda _: None,
        clock=lambda: now,
    )
    for passed, is_stale in ((0, False), (LONG_NS, False), (LONG_NS + 1, True)):
        buffer.put([])
        now += passed
        buffer.start()
        assert buffer.is_stale is is_stale
