"""A map's producer against a server without containers: the test ends its inputs."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.functions.map.inputs import InputReader
from qmodal.functions.map.map_call import OUTSTANDING, PACKS_OUTSTANDING, MapOptions
from qmodal.functions.map.prefetch import Prefetch
from qmodal.spec.pack_size import MOST_IN_PACK, RECENT_OUTCOMES
from qmodal.store.entries import Claimed, Settled
from qmodal.wire.envelope import open_envelope
from qmodal.wire.outcome import Outcome
from qmodal.wire.plain import pack
from qmodal.wire.signing import mac_of
from tests.support.store.bench import Bench, map_call_of

STEPS = 100


def settle(bench: Bench, claimed: list[Claimed]) -> None:
    """They end well, after so long that none will be packed."""
    attempts = []
    for one in claimed:
        envelope = open_envelope(one.envelope, bench.client.signer)
        outcome = Outcome("value", "m", pack(1), "ta-a-1", 1, 50_000)
        if one.size > 1:
            outcome = outcome._replace(kind="values", payload=pack([1] * one.size))
        sealed = outcome.seal(
            bench.client.signer,
            call=envelope.call,
            index=envelope.first,
            count=one.size,
            request=mac_of(one.envelope),
        )
        attempts.append(
            Settled(one.lane, one.entry, one.call, envelope.first, sealed, False, one.size)
        )
    bench.ask(*bench.client.pools.settle_command(bench.pool, attempts))


def test_inputs_that_cannot_be_unpacked_leave_none_behind_that_were_sent_before(
    bench: Bench,
) -> None:
    map_call = map_call_of(bench, MapOptions())
    pairs: list[Any] = [(n,) for n in range(150)]
    prefetch = Prefetch(map_call, InputReader(([*pairs, 5],), {}, is_star=True))
    with pytest.raises(TypeError):
        for _ in range(STEPS):
            bench.client.run(prefetch.step())
    bench.client.run(map_call.stop())
    assert bench.ask(b"XLEN", bench.client.keys.inputs(bench.pool)) == 0
    assert bench.inflight() == 0


def test_a_producer_reads_on_though_as_much_has_arrived_as_it_has_submitted(bench: Bench) -> None:
    """Another producer of the same call is ahead of it, and only the first result is missing."""
    run = bench.client.run
    one, other = (map_call_of(bench, MapOptions(keep=True, resume="key")) for _ in range(2))
    inputs = InputReader((range(3 * OUTSTANDING),), {})
    prefetch, further = Prefetch(one, inputs), Prefetch(other, inputs)
    for producer in (prefetch, further):
        for _ in range(9):
            run(producer.step())
    held = bench.claim(count=OUTSTANDING)
    settle(bench, held[1:])
    other.settled = other.submitted  # whoever takes its results wants no order
    for _ in range(5):
        run(further.step())
    settle(bench, bench.claim(count=OUTSTANDING))
    for _ in range(STEPS):
        if one.settled >= one.submitted:
            break
        run(prefetch.step())
    settle(bench, held[:1])
    for _ in range(STEPS):
        run(prefetch.step())
        if one.reorder.is_ready:
            break
    assert one.reorder.is_ready


def test_a_map_whose_inputs_turn_out_slow_goes_on(bench: Bench) -> None:
    map_call = map_call_of(bench, MapOptions())
    for _ in range(RECENT_OUTCOMES):
        map_call.pack_sizer.ran(1)
    prefetch = Prefetch(map_call, InputReader((range(16 * MOST_IN_PACK),)))
    bench.client.run(prefetch.step())
    assert map_call.pack_sizer.size == MOST_IN_PACK
    before = 0
    for _ in range(3):
        for _ in range(STEPS):
            settle(bench, bench.claim(count=OUTSTANDING))
            bench.client.run(prefetch.step())
            map_call.reorder.take()
            if map_call.submitted > before and map_call.is_idle:
                break
        assert map_call.pack_sizer.size == 1
        assert map_call.submitted > before
        before = map_call.submitted
    bench.client.run(map_call.stop())


def test_so_many_inputs_are_outstanding_at_most(bench: Bench) -> None:
    map_call = map_call_of(bench, MapOptions())
    map_call.pack_sizer.count(100_000)
    assert map_call.room == OUTSTANDING
    map_call.pack_sizer.expect(1e-6)
    assert map_call.pack_sizer.size == MOST_IN_PACK
    assert map_call.room == PACKS_OUTSTANDING * MOST_IN_PACK
