"""Packs that take a while: the next one is made ready by another thread while user code runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from qmodal.spec.options import FunctionOptions
from qmodal.store.entries import Claimed, Settled
from qmodal.store.keys import GROUP
from qmodal.wire.plain import pack
from qmodal.wire.trees import pack_columns
from qmodal_workers.container.intake.intake import RELEASE_NS
from qmodal_workers.container.run.admission import Admission, RefusedError
from qmodal_workers.container.settle.settlement import Settlement
from tests.support.holder import NAME, Holder, holder_of
from tests.support.servers import TestServer
from tests.support.store.bench import Bench
from tests.support.store.envelopes import envelope_of
from tests.support.store.pack_cases import outputs
from tests.support.waiting import wait_until

SIZE, PACKS = 5, 40


@pytest.fixture
def holder(bench: Bench) -> Iterator[Holder]:
    """A container whose packs took 8 ms each."""
    yield from holder_of(bench, FunctionOptions(), each=0.0016, size=SIZE)


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


def start(holder: Holder, *, after: int = 0) -> Claimed:
    """Start a pack that runs on, as a container does; the other thread sees it `after` so many ns."""
    intake = holder.intake
    while not intake.buffer.queue:
        intake.claim()
    with intake._claim_lock:  # until it runs, the other thread does nothing
        claimed = intake.buffer.start()
        assert claimed is not None
        intake.reach()
        assert intake.buffer.stage == "planned"
        intake.status.take()
        intake.status.packed(claimed.first)
        intake.buffer.clock = lambda: 1 + after
    return claimed


def test_the_next_pack_is_claimed_and_checked_while_one_runs(bench: Bench, holder: Holder) -> None:
    submit(bench)
    run_one(holder)
    start(holder)
    admission = holder.settlement.admission
    wait_until(lambda: admission._foreseen is not None, what="a pack that was foreseen")
    assert len(pending(bench)) == 2
    assert holder.doing().ahead
    foreseen = admission._foreseen
    assert foreseen is not None
    holder.slot.finish(time.monotonic_ns())
    holder.intake.claim()
    (following,) = holder.intake.buffer.waiting()
    admitted = admission.admit(following)
    assert admitted is foreseen.attempt
    assert admission.arguments(admitted) == ({}, [range_of(following.first)])
    assert admission.arguments(admitted) is not foreseen.arguments  # once


def test_results_are_written_while_the_next_pack_runs(bench: Bench, holder: Holder) -> None:
    call = submit(bench)
    run_one(holder)
    start(holder)
    wait_until(lambda: outputs(bench, call) != [], what="the result of the first pack")
    assert holder.settlement.waiting == 0


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
    while not intake.buffer.queue:
        intake.claim()
    with intake._claim_lock:  # the other thread comes too late
        running = intake.buffer.start()
        intake.reach()
        assert intake.buffer.stage == "planned"
        intake.buffer.release_all()
    assert running is not None
    intake._ask_planned()
    assert not intake.buffer.has_more
    assert pending(bench) == [running.entry]


def test_a_pack_is_checked_again_if_it_was_not_in_order(bench: Bench, holder: Holder) -> None:
    bench.submit(PACKS, sizes=[SIZE] * PACKS, total=PACKS * SIZE)
    run_one(holder)
    start(holder)
    wait_until(lambda: len(pending(bench)) == 2, what="a claim ahead")
    holder.slot.finish(time.monotonic_ns())
    holder.intake.claim()
    (following,) = holder.intake.buffer.waiting()
    with pytest.raises(RefusedError):
        holder.settlement.admission.admit(following)


def test_a_connection_that_is_lost_behind_a_plan_loses_no_pack(
    bench: Bench, holder: Holder
) -> None:
    call = submit(bench)
    ran = [run_one(holder) for _ in range(3)]
    for _ in range(5):
        bench.ask(b"CLIENT", b"KILL", b"ID", holder.claims.client_id)
        ran += [run_one(holder) for _ in range(3)]
    ran += [run_one(holder) for _ in range(PACKS - len(ran))]
    assert sorted(ran) == list(range(0, PACKS * SIZE, SIZE))
    holder.intake.settle()
    assert len(outputs(bench, call)) == PACKS
    assert bench.inflight() == 0


def test_a_plan_is_off_when_what_is_held_is_read_again(bench: Bench, holder: Holder) -> None:
    submit(bench)
    run_one(holder)
    buffer = holder.intake.buffer
    buffer.plan(1, is_background=False)
    holder.intake.refill()
    assert buffer.stage == "empty"
    assert not buffer.ask(lambda _: pytest.fail("it was called off"))


def test_what_has_ended_waits_on_if_a_plan_is_called_off_at_the_last_moment(
    bench: Bench, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(bench)
    holder.intake.claim()
    claimed = holder.intake.buffer.start()
    assert claimed is not None
    holder.end(claimed)
    holder.intake.buffer.plan(1, is_background=False)
    take = holder.settlement.take

    def take_and_call_off() -> list[Settled]:
        holder.intake.buffer.release_all()
        return take()

    monkeypatch.setattr(Settlement, "take", lambda _: take_and_call_off())
    holder.intake._ask_planned()
    monkeypatch.undo()
    assert holder.settlement.waiting == SIZE
    assert holder.intake.buffer.stage == "empty"


def test_a_plan_that_nobody_came_to_is_carried_out_by_the_next_claim(
    bench: Bench, holder: Holder
) -> None:
    submit(bench)
    run_one(holder)
    buffer = holder.intake.buffer
    while buffer.has_more:
        run_one(holder)
    buffer.plan(3, is_background=False)
    holder.intake.claim()
    assert (len(buffer.queue), buffer.stage) == (3, "empty")


def test_nothing_is_claimed_behind_an_input_that_runs_for_long(
    bench: Bench, holder: Holder
) -> None:
    submit(bench)
    run_one(holder)
    buffer = holder.intake.buffer
    running = start(holder, after=RELEASE_NS + 1)
    wait_until(lambda: buffer.stage != "planned", what="the plan is called off")
    assert pending(bench) == [running.entry]


def test_a_server_that_is_silent_keeps_nobody_from_the_buffer(
    bench: Bench, holder: Holder, server: TestServer
) -> None:
    submit(bench)
    run_one(holder)
    intake = holder.intake
    intake.settle()
    while not intake.buffer.queue:
        intake.claim()
    with server.frozen():
        start(holder)
        wait_until(lambda: intake.buffer.stage != "planned", what="it was asked for")
        assert intake.buffer.lock.acquire(timeout=1)
        intake.buffer.lock.release()


def test_results_whose_settle_was_refused_are_settled_later_and_run_once(
    bench: Bench, holder: Holder
) -> None:
    call = submit(bench)
    ran, buffer = [run_one(holder)], holder.intake.buffer
    before = start(holder)
    wait_until(lambda: buffer.stage == "read", what="a claim ahead")
    holder.end(before)
    holder.intake.claim()
    assert (len(buffer.queue), holder.settlement.waiting) == (1, SIZE)
    try:
        bench.ask(b"CONFIG", b"RESETSTAT")
        bench.ask(b"ACL", b"SETUSER", b"default", b"-evalsha")
        running = start(holder)
        refused = b"errorstat_NOPERM"
        wait_until(lambda: refused in bench.ask(b"INFO", b"errorstats"), what="a refusal")
    finally:
        bench.ask(b"ACL", b"SETUSER", b"default", b"+evalsha")
    holder.end(running)
    ran += [before.first, running.first, *(run_one(holder) for _ in range(PACKS - 3))]
    assert sorted(ran) == list(range(0, PACKS * SIZE, SIZE))
    holder.intake.settle()
    assert len(outputs(bench, call)) == PACKS


@pytest.mark.parametrize("stream", [None, object()])
def test_user_code_may_put_anything_in_the_place_of_its_output(
    bench: Bench, holder: Holder, stream: Any
) -> None:
    submit(bench)
    run_one(holder)
    with contextlib.redirect_stdout(stream):
        start(holder)
        wait_until(lambda: len(pending(bench)) == 2, what="a claim ahead")
        run_one(holder)


def claimed_pack(bench: Bench, payload: bytes) -> Claimed:
    """A claimed pack that says it holds two inputs."""
    call = bench.submission(0).call
    envelope = envelope_of(pool=bench.pool, call=call, size=2, payload=payload)
    sealed = [envelope.seal(bench.client.signer)]
    bench.submit(1, call=call, envelopes=sealed, sizes=[2], total=2)
    (claimed,) = bench.claim(NAME)
    return claimed


@pytest.mark.parametrize(
    "payload",
    [
        *map(pack, (None, 3, "ab", [], [{}], [{}, []], [{}, [[1]]], [{}, [[1, 2], [1]]])),
        *map(pack, ([{}, [[1, 2], "ab"]], [{}, ["ab"]], [{}, {"a": 1}], [[], [[1, 2]]])),
        *map(pack, ([None, [[1, 2]]], [{1: 2}, [[1, 2]]], [{}, [[1, 2]], 1], [{}, [(1, 2)]])),
        *map(pack, ([{}, [{1: 1, 2: 2}]], [{}, 3], [{}, [3]])),
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\x92\x80\xdd\xff\xff\xff\xff",
        b"\x92\x80\x91" + b"\x91" * 100 + b"\x01",
    ],
)
def test_a_pack_that_does_not_hold_what_it_says_is_refused_at_its_turn(
    bench: Bench, payload: bytes
) -> None:
    claimed, admission = claimed_pack(bench, payload), Admission(bench.client, bench.pool)
    admission.foresee(claimed)
    with pytest.raises(RefusedError):
        admission.arguments(admission.admit(claimed))


def test_what_was_foreseen_is_used_for_its_own_pack_only(bench: Bench) -> None:
    first, second = (claimed_pack(bench, pack_columns({}, [[n, n]])) for n in (1, 2))
    admission = Admission(bench.client, bench.pool)
    admission.foresee(second)
    assert admission.arguments(admission.admit(first)) == ({}, [[1, 1]])
    assert admission.arguments(admission.admit(second)) == ({}, [[2, 2]])


def test_a_part_of_a_pack_has_the_arguments_of_that_part(bench: Bench) -> None:
    claimed = claimed_pack(bench, pack_columns({"k": 1}, [[1, 2], ["a", "b"]]))
    part = claimed._replace(fields=(*claimed.fields[:5], b"1", *claimed.fields[6:11], b"1"))
    admission = Admission(bench.client, bench.pool)
    assert admission.arguments(admission.admit(part)) == ({"k": 1}, [[2], ["b"]])
