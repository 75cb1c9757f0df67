"""What a container claims ahead of its need: run once, in turn, or given back, whatever comes between."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from qmodal.spec.options import FunctionOptions
from qmodal.store.keys import GROUP
from qmodal.store.pools import MOST_HELD
from qmodal_workers.ipc.shared_record import AgentCommand
from tests.support.holder import Holder, holder_of
from tests.support.store.bench import Bench, index_of
from tests.support.waiting import wait_until

INPUTS = 200


@pytest.fixture
def holder(bench: Bench) -> Iterator[Holder]:
    """One whose inputs are short, so that it claims many."""
    yield from holder_of(bench, FunctionOptions())


@pytest.fixture
def once(bench: Bench) -> Iterator[Holder]:
    """The same for inputs that never run twice."""
    yield from holder_of(bench, FunctionOptions(delivery="at_most_once"))


def pending(bench: Bench) -> int:
    """How many entries containers hold."""
    found: int = bench.ask(b"XPENDING", bench.client.keys.inputs(bench.pool), GROUP)[0]
    return found


def indexes(bench: Bench, call: str) -> list[int]:
    return [index for index, _, _ in bench.outputs(call)]


def test_what_was_claimed_ahead_runs_in_its_turn_and_once(bench: Bench, holder: Holder) -> None:
    call = bench.submit(INPUTS)
    assert holder.run(INPUTS) == list(range(INPUTS))
    holder.intake.settle()
    assert indexes(bench, call) == list(range(INPUTS))
    assert bench.inflight() == 0


def test_the_next_inputs_are_on_their_way_before_the_last_ones_have_run(
    bench: Bench, holder: Holder
) -> None:
    bench.submit(INPUTS)
    holder.run_until_reached()
    known = len(holder.intake.buffer.queue) + holder.settlement.waiting
    wait_until(lambda: pending(bench) > known, what="the claim that was sent is carried out")


def test_what_was_claimed_ahead_is_given_back_behind_a_long_input(
    bench: Bench, holder: Holder
) -> None:
    call = bench.submit(INPUTS)
    ran = holder.run_until_reached()
    holder.intake.buffer.release_all()  # as the release thread does
    assert pending(bench) <= len(ran)  # nothing but what has ended
    others = [index_of(one) for one in bench.claim("ta-a-2", INPUTS)]
    assert sorted(ran + others) == list(range(INPUTS))
    holder.intake.settle()
    assert indexes(bench, call) == ran


@pytest.mark.parametrize("is_read", [False, True])
def test_a_connection_that_is_lost_behind_a_claim_loses_no_input(
    bench: Bench, holder: Holder, is_read: bool
) -> None:
    call = bench.submit(INPUTS)
    ran = holder.run_until_reached()
    if is_read:
        bench.ask(b"PING")  # the claim before it was carried out
    bench.ask(b"CLIENT", b"KILL", b"ID", holder.claims.client_id)
    ran += holder.run(INPUTS - len(ran))
    assert sorted(ran) == list(range(INPUTS))
    holder.intake.settle()
    assert sorted(indexes(bench, call)) == list(range(INPUTS))
    assert bench.inflight() == 0


def test_a_claim_whose_answer_is_lost_runs_nothing_twice(bench: Bench, holder: Holder) -> None:
    call = bench.submit(INPUTS)
    ran = holder.run_until_reached()
    bench.ask(b"PING")
    line: Any = holder.claims._connection
    line._sock.recv(1 << 20)
    line._sock.shutdown(socket.SHUT_RDWR)
    ran += holder.run(INPUTS - len(ran))
    assert sorted(ran) == list(range(INPUTS))
    holder.intake.settle()
    assert sorted(indexes(bench, call)) == list(range(INPUTS))


def test_inputs_of_a_cancelled_call_make_no_others_run_twice(bench: Bench, holder: Holder) -> None:
    ours = bench.submit(100)
    cancelled = bench.submit(10)
    bench.submit(INPUTS)
    ran = list[tuple[str, int]]()
    while cancelled not in {call for call, _ in ran}:
        ran += holder.run_named(1)
    bench.client.run(bench.client.calls.cancel(cancelled))
    while bench.inflight() > holder.settlement.waiting:
        ran += holder.run_named(1)
    assert [index for call, index in ran if call == ours] == list(range(100))
    assert len(ran) == len(set(ran))


def test_a_container_knows_all_that_it_holds(bench: Bench, holder: Holder) -> None:
    bench.submit(10 * MOST_HELD)
    holder.run(MOST_HELD)
    buffer = holder.intake.buffer
    while not (buffer.stage == "asked" and buffer.queue):
        holder.run(1)
    holder.intake.settle()
    holder.intake.refill()
    assert len(buffer.queue) == pending(bench) > MOST_HELD // 4


def test_a_container_leaves_a_share_to_the_others_that_claim(bench: Bench, holder: Holder) -> None:
    bench.submit(INPUTS)
    for number in range(2, 10):
        bench.claim(f"ta-a-{number}")
    largest = 0
    for _ in range(50):
        holder.run(1)
        largest = max(largest, len(holder.intake.buffer.queue))
    assert 0 < largest <= INPUTS // (2 * 9)


def test_inputs_that_never_run_twice_are_claimed_one_by_one(bench: Bench, once: Holder) -> None:
    bench.submit(INPUTS)
    once.run(10)
    assert not once.intake.buffer.has_more
    once.intake.settle()
    assert pending(bench) == 0


def test_a_container_that_drains_reaches_for_nothing(bench: Bench, holder: Holder) -> None:
    bench.submit(INPUTS)
    holder.run(1)
    holder.record.tell(AgentCommand(draining=True))
    holder.run(len(holder.intake.buffer.queue))
    assert holder.intake.buffer.stage == "empty"
