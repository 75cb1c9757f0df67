"""Packs that take a while: the next one is made ready by another thread while user code runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qmodal.options import FunctionOptions
from qmodal.store.entries import Claimed
from qmodal.store.keys import GROUP
from qmodal.wire.plain import pack_columns
from qmodal_workers.container.admission import RefusedError
from tests.bench import Bench
from tests.envelopes import envelope_of
from tests.holder import NAME, Holder, holder_of
from tests.pack_cases import outputs
from tests.support import wait_until

SIZE, PACKS = 5, 40


@pytest.fixture
def holder(bench: Bench) -> Iterator[Holder]:
    """A container whose packs took 8 ms each; no time passes for it, so that nothing runs too long."""
    for made in holder_of(bench, FunctionOptions(), each=0.0016, size=SIZE):
        made.intake.shelf._clock = lambda: 1
        yield made


def submit(bench: Bench, packs: int = PACKS) -> str:
    """Submit so many packs as one call."""
    call = bench.submission(0).call
    sealed = [
        envelope_of(
            pool=bench.pool,
            call=call,
            first=first,
            size=SIZE,
            payload=pack_columns({}, [range_of(first)]),
        ).seal(bench.client.signer)
        for first in range(0, packs * SIZE, SIZE)
    ]
    return bench.submit(
        packs, call=call, envelopes=sealed, sizes=[SIZE] * packs, total=packs * SIZE
    )


def range_of(first: int) -> list[int]:
    """The arguments of the pack that begins there."""
    return [10 * index for index in range(first, first + SIZE)]


def pending(bench: Bench) -> list[str]:
    """The entries that the container holds."""
    key = bench.client.keys.inputs(bench.pool)
    found = bench.ask(b"XPENDING", key, GROUP, b"-", b"+", 100, NAME)
    return [entry[0].decode() for entry in found]


def run_one(holder: Holder) -> int:
    """End one pack; the first of its indexes."""
    ((_, first),) = holder.run_named(1)
    return first


def start(holder: Holder) -> Claimed:
    """Start a pack that runs on, as a container does."""
    intake = holder.intake
    while not intake.shelf.queue:
        intake.claim()
    with intake._settling:  # until it runs, the other thread does nothing
        claimed = intake.shelf.start()
        assert claimed is not None
        intake.reach()
        assert intake.shelf.planned
        intake.posting.take()
        intake.posting.packed(1, claimed.first)
    return claimed


def test_the_next_pack_is_claimed_and_checked_while_one_runs(bench: Bench, holder: Holder) -> None:
    submit(bench)
    run_one(holder)
    start(holder)
    admission = holder.conclusions.admission
    wait_until(lambda: admission._foreseen is not None, what="a pack that was foreseen")
    assert len(pending(bench)) == 2
    assert holder.doing().ahead
    foreseen = admission._foreseen
    assert foreseen is not None
    holder.intake.shelf.finish()
    holder.intake.claim()
    (following,) = holder.intake.shelf.waiting()
    admitted = admission.admit(following)
    assert admitted is foreseen.admitted
    assert admission.arguments(following, admitted) == ({}, [range_of(following.first)])
    assert admission.arguments(following, admitted) is not foreseen.arguments  # once


def test_results_are_written_while_the_next_pack_runs(bench: Bench, holder: Holder) -> None:
    call = submit(bench)
    run_one(holder)
    start(holder)
    wait_until(lambda: outputs(bench, call) != [], what="the result of the first pack")
    assert holder.conclusions.waiting == 0


def test_every_pack_runs_once_whoever_comes_first_to_what_is_planned(
    bench: Bench, holder: Holder
) -> None:
    call = submit(bench, 5 * PACKS)
    ran = [run_one(holder) for _ in range(5 * PACKS)]
    assert ran == list(range(0, 5 * PACKS * SIZE, SIZE))
    holder.intake.settle()
    assert bench.inflight() == 0
    assert len(outputs(bench, call)) == 5 * PACKS


def test_what_is_planned_is_not_claimed_once_everything_was_given_back(
    bench: Bench, holder: Holder
) -> None:
    submit(bench)
    run_one(holder)
    intake = holder.intake
    while not intake.shelf.queue:
        intake.claim()
    with intake._settling:  # the other thread comes too late
        running = intake.shelf.start()
        intake.reach()
        assert intake.shelf.planned
        intake.shelf.release_all()
    assert running is not None
    intake._keep_plan()
    assert not intake.shelf.has_more
    assert pending(bench) == [running.entry]


def test_a_pack_is_checked_again_if_it_was_not_in_order(bench: Bench, holder: Holder) -> None:
    bench.submit(PACKS, sizes=[SIZE] * PACKS, total=PACKS * SIZE)
    run_one(holder)
    start(holder)
    wait_until(lambda: len(pending(bench)) == 2, what="a claim ahead")
    holder.intake.shelf.finish()
    holder.intake.claim()
    (following,) = holder.intake.shelf.waiting()
    with pytest.raises(RefusedError):
        holder.conclusions.admission.admit(following)


def test_a_connection_that_is_lost_behind_a_plan_loses_no_pack(
    bench: Bench, holder: Holder
) -> None:
    call = submit(bench)
    ran = [run_one(holder) for _ in range(3)]
    for _ in range(5):
        bench.ask(b"CLIENT", b"KILL", b"ID", holder.claims.connection)
        ran += [run_one(holder) for _ in range(3)]
    ran += [run_one(holder) for _ in range(PACKS - len(ran))]
    assert sorted(ran) == list(range(0, PACKS * SIZE, SIZE))
    holder.intake.settle()
    assert len(outputs(bench, call)) == PACKS
    assert bench.inflight() == 0
