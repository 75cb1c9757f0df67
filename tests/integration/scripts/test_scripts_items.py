"""Emit and take, alone: items keep their order, come once, and only from whoever holds the input."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qmodal.store.results.items import ROOM, ROOM_BYTES, Emission, room_for
from tests.support.store.bench import Bench, index_of, state_of
from tests.support.store.cases import emission


def emit(bench: Bench, items: Emission) -> tuple[int, str]:
    """Emit; how many are recorded in all, and the verdict."""
    return bench.client.run(bench.client.items.emit(items))


def take(bench: Bench, call: str, count: int) -> int:
    """Read and remove the first items; how many were removed."""
    outputs = bench.client.run(bench.client.calls.read(call, b"0", block=0, count=count))
    command = bench.client.items.take_command(call, [output.entry for output in outputs])
    return int(bench.ask(*command))


def test_items_are_recorded_once_although_they_are_sent_again(bench: Bench) -> None:
    call = bench.submit()
    first = emission(bench, 2)
    assert emit(bench, first) == (2, "OK")
    overlapping = replace(first, first=1, signed=[b"item 1", b"item 2"])
    for _ in range(2):
        assert emit(bench, overlapping) == (3, "OK")
    assert emit(bench, first) == (3, "OK")
    assert bench.outputs(call) == [(0, b"y", b"item %d" % n) for n in range(3)]


def test_an_outcome_comes_behind_the_items_and_counts_as_the_only_one(bench: Bench) -> None:
    call = bench.submit()
    (claimed,) = bench.claim()
    emit(bench, emission(bench, 1, of=claimed))
    assert bench.left(bench.client.keys.outputs(call)) == -1
    assert bench.settle(claimed) == [0, 1]
    assert bench.outputs(call) == [(0, b"y", b"item 0"), (0, b"o", b"done")]
    assert bench.record(call).is_finished
    assert bench.left(bench.client.keys.outputs(call)) > 0


@pytest.mark.parametrize("way", ["settled", "cancelled", "reclaimed", "another container"])
def test_who_does_not_hold_the_input_cannot_emit(bench: Bench, way: str) -> None:
    call = bench.submit()
    (claimed,) = bench.claim()
    items = emission(bench, of=claimed)
    pools = bench.client.pools
    match way:
        case "settled":
            bench.settle(claimed)
        case "cancelled":
            bench.client.run(bench.client.calls.cancel(call))
        case "reclaimed":
            op = pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=["*"])
            assert bench.client.run(op) == (1, 0)
            assert bench.claim("ta-a-2")
        case _:
            items = replace(items, container="ta-a-2")
    before = state_of(bench.line, bench.client.settings.prefix)
    assert emit(bench, items) == (0, "STALE")
    assert state_of(bench.line, bench.client.settings.prefix) == before


def test_items_behind_lost_ones_are_refused(bench: Bench) -> None:
    """A server that was rolled back knows fewer than it had acknowledged."""
    bench.submit()
    assert emit(bench, emission(bench, first=5)) == (0, "STALE")


def test_a_closed_call_takes_no_items_and_comes_back_from_nothing(bench: Bench) -> None:
    call = bench.submit()
    (claimed,) = bench.claim()
    items = emission(bench, of=claimed)
    emit(bench, items)
    bench.client.run(bench.client.items.close(call))
    assert bench.ask(b"BLPOP", bench.client.keys.more(call), 1), "nobody was woken"
    assert emit(bench, replace(items, first=3)) == (0, "CLOSED")
    assert bench.settle(claimed) == [0, 1]
    assert not bench.ask(b"KEYS", f"*{call}*")


def test_a_full_stream_takes_what_fits_and_wakes_when_half_of_it_is_read(bench: Bench) -> None:
    call = bench.submit()
    (claimed,) = bench.claim()
    keys = bench.client.keys
    items = emission(bench, ROOM + 10, of=claimed)
    for _ in range(2):
        assert emit(bench, items) == (ROOM, "FULL")
    assert take(bench, call, ROOM // 2 - 1) == ROOM // 2 - 1
    assert bench.ask(b"EXISTS", keys.more(call)) == 0
    assert take(bench, call, 1) == 1
    assert bench.ask(b"LRANGE", keys.more(call), 0, -1) == [b"1"]
    assert bench.left(keys.more(call)) > 0
    bench.client.run(bench.client.items.wait_for_room(call))
    assert emit(bench, replace(items, first=ROOM, signed=items.signed[ROOM:])) == (ROOM + 10, "OK")
    assert take(bench, call, ROOM) == ROOM // 2 + 10
    assert bench.ask(b"EXISTS", keys.more(call)) == 0, "somebody was woken who did not wait"


def test_a_wake_up_from_before_does_not_count(bench: Bench) -> None:
    call = bench.submit()
    keys = bench.client.keys
    bench.ask(b"LPUSH", keys.more(call), 1)
    assert emit(bench, emission(bench, ROOM + 1)) == (ROOM, "FULL")
    assert bench.ask(b"EXISTS", keys.more(call)) == 0


@pytest.mark.parametrize("way", ["release", "retry", "reclaim", "charged reclaim"])
def test_an_input_that_has_produced_never_runs_again(bench: Bench, way: str) -> None:
    call = bench.submit()
    (claimed,) = bench.claim()
    emit(bench, emission(bench, 1, of=claimed))
    pools, pool = bench.client.pools, bench.pool
    match way:
        case "release":
            bench.client.run(pools.release(pool, [(claimed.lane, claimed.entry, call)]))
        case "retry":
            bench.client.run(pools.retry(pool, claimed, delay=0))
        case _:
            charged = ["*"] if way.startswith("charged") else []
            op = pools.reclaim(pool, "ta-a-1", reason="gone", charged=charged)
            assert bench.client.run(op) == (0, 1)
    assert bench.claim("ta-a-2") == []
    assert bench.inflight() == 0
    (item, end) = bench.outputs(call)
    assert item == (0, b"y", b"item 0")
    assert end[:2] == (index_of(claimed), b"x")
    assert bench.record(call).is_finished


@pytest.mark.parametrize(
    ("size", "room"), [(1, ROOM), (100_000, ROOM_BYTES // 100_000), (ROOM_BYTES, 2)]
)
def test_large_items_have_less_room(size: int, room: int) -> None:
    assert room_for([b"", bytes(size)]) == room
