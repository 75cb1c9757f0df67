"""Inputs that share an entry: accepted, settled and given back together, and taken apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qmodal.store.entries import Claimed, Ended, Requeued
from tests.support.store.bench import Bench, state_of
from tests.support.store.pack_cases import (
    Pieces,
    again_in_line,
    notes,
    outputs,
    packed,
    parts,
    settle_part,
    shapes,
)


def test_packs_and_single_inputs_are_submitted_together(bench: Bench) -> None:
    call = bench.submit(4, sizes=[1, 3, 1, 2], total=7)
    claimed = bench.claim(count=9)
    assert [(one.first, one.size) for one in claimed] == [(0, 1), (1, 3), (4, 1), (5, 2)]
    assert [len(one.fields) for one in claimed] == [6, 12, 6, 12]
    assert bench.inflight() == 7
    assert (bench.record(call).submitted, bench.record(call).is_finished) == (7, False)
    assert bench.ask(b"HGET", bench.client.keys.pool(bench.pool), b"submitted") == b"7"


def test_a_chunk_behind_packs_begins_at_the_next_input(bench: Bench) -> None:
    call = bench.submit(2, sizes=[3, 2], total=None)
    bench.submit(1, call=call, first=5, total=6)
    assert [(one.first, one.size) for one in bench.claim(count=9)] == [(0, 3), (3, 2), (5, 1)]


def test_a_pack_is_settled_as_one_output(bench: Bench) -> None:
    claimed = packed(bench)
    assert settle_part(bench, claimed, 0, 5, is_kept=False) == [0, 1]
    assert outputs(bench, claimed.call) == [(b"0+5", b"o", b"end")]
    assert (bench.record(claimed.call).settled, bench.record(claimed.call).is_finished) == (5, True)
    assert bench.left(bench.client.keys.call(claimed.call)) > 0
    assert settle_part(bench, claimed, 0, 5, is_kept=False) == [0, 0]


@pytest.mark.parametrize("lane", [1, 2])
@pytest.mark.parametrize(
    ("part", "back"),
    [
        (None, [(0, 5, 1, 0)]),
        ("0", [(0, 1, 1, 1), (1, 4, 1, 0)]),
        ("2", [(2, 1, 1, 1), (0, 2, 1, 0), (3, 2, 1, 0)]),
        ("4", [(4, 1, 1, 1), (0, 4, 1, 0)]),
        ("5", [(0, 5, 1, 0)]),
        ("*", [(index, 1, 1, 1) for index in range(5)]),
    ],
    ids=["uncharged", "the first", "in the middle", "the last", "none of it", "any"],
)
def test_of_a_dead_container_the_input_that_ran_comes_back_alone(
    bench: Bench, part: str | None, back: Pieces, lane: int
) -> None:
    claimed = packed(bench)
    assert bench.client.run(bench.client.pools.retry(bench.pool, claimed, delay=0))
    (claimed,) = bench.claim()
    if lane == 2:
        claimed = again_in_line(bench, claimed)
    charged = {None: [], "*": ["*"]}.get(part, [f"{claimed.lane} {claimed.entry} {part}"])
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=charged)
    assert bench.client.run(op) == (5, 0)
    found = bench.claim("ta-a-2", count=9)
    assert shapes(found) == back
    assert {one.envelope for one in found} == {b"pack"}
    assert bench.inflight() == 5
    assert outputs(bench, claimed.call) == []


@pytest.mark.parametrize(
    ("part", "lost", "back"),
    [
        ("0", [0], [(1, 4, 0, 0)]),
        ("2", [2], [(0, 2, 0, 0), (3, 2, 0, 0)]),
        ("4", [4], [(0, 4, 0, 0)]),
        ("*", [0, 1, 2, 3, 4], []),
    ],
)
def test_at_its_budget_only_the_input_that_ran_is_lost(
    bench: Bench, part: str, lost: list[int], back: Pieces
) -> None:
    claimed = packed(bench)
    charged = ["*"] if part == "*" else [f"{claimed.lane} {claimed.entry} {part}"]
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="oom", charged=charged, budget=1)
    assert bench.client.run(op) == (5 - len(lost), len(lost))
    assert outputs(bench, claimed.call) == [(b"%d" % index, b"x", b"oom") for index in lost]
    assert [(dead[b"i"], dead[b"n"]) for dead in bench.dead()] == [
        (b"%d" % index, b"1") for index in lost
    ]
    assert shapes(bench.claim("ta-a-2", count=9)) == back
    assert bench.inflight() == 5 - len(lost)


def test_an_input_that_kills_its_containers_takes_no_other_one_of_its_pack_along(
    bench: Bench,
) -> None:
    ran = packed(bench)
    found = [ran]
    for _ in range(3):
        charged = [f"{ran.lane} {ran.entry} 2"]
        op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="oom", charged=charged)
        bench.client.run(op)
        found = bench.claim(count=9)
        ran = next((one for one in found if one.first == 2), ran)
    assert outputs(bench, ran.call) == [(b"2", b"x", b"oom")]
    assert shapes(found) == [(0, 2, 0, 0), (3, 2, 0, 0)]


@pytest.mark.parametrize("way", ["cancel", "cancel what waits", "bury", "purge"])
def test_a_pack_that_is_ended_from_outside_ends_as_a_whole(bench: Bench, way: str) -> None:
    claimed, pools = packed(bench), bench.client.pools
    told = [(b"0+5", b"x", b"over")]
    if way == "bury":
        assert bench.client.run(pools.bury(bench.pool, claimed, reason="over"))
    elif way == "purge":
        assert bench.client.run(pools.purge(bench.pool, reason="over")) == 5
    else:
        if way == "cancel what waits":
            unclaimed(bench, claimed)
        assert len(bench.client.run(bench.client.calls.cancel(claimed.call))) == (way == "cancel")
        told = [(b"-1", b"x", b"cancelled")]
    assert outputs(bench, claimed.call) == told
    assert bench.record(claimed.call).is_finished
    assert bench.inflight() == 0
    assert bench.claim("ta-a-2", count=9) == []


@pytest.mark.parametrize("lane", [1, 2])
def test_a_pack_is_taken_apart(bench: Bench, lane: int) -> None:
    claimed = packed(bench) if lane == 1 else again_in_line(bench, packed(bench))
    moved = bench.client.keys.moved(claimed.call)
    assert bench.client.run(parts(bench, claimed))
    assert outputs(bench, claimed.call) == [(b"0+2", b"o", b"ended")]
    assert bench.record(claimed.call).settled == 2
    assert bench.inflight() == 3
    assert bench.ask(b"SCARD", moved) == lane
    assert notes(bench) == [b"kept:%d:%b" % (lane, claimed.entry.encode())]
    assert shapes(bench.claim("ta-a-2", count=9)) == [(3, 1, 0, 0)]
    assert bench.ask(b"ZCARD", bench.client.keys.delayed(bench.pool)) == 1
    assert settle_part(bench, claimed, 2, 1, is_kept=True) == [2, 1]
    assert outputs(bench, claimed.call)[1:] == [(b"2", b"o", b"end")]
    assert bench.ask(b"SCARD", moved) == 1
    assert notes(bench) == []


@pytest.mark.parametrize("lane", [1, 2])
def test_of_a_pack_that_is_taken_apart_nothing_needs_to_be_kept(bench: Bench, lane: int) -> None:
    claimed = packed(bench) if lane == 1 else again_in_line(bench, packed(bench))
    assert bench.client.run(parts(bench, claimed, keep=None))
    assert outputs(bench, claimed.call) == [(b"0+3", b"o", b"ended")]
    assert bench.inflight() == 2
    assert shapes(bench.claim(count=9)) == [(3, 1, 0, 0)]
    assert bench.ask(b"SCARD", bench.client.keys.moved(claimed.call)) == 1
    assert notes(bench) == []


def test_a_single_input_can_be_ended_kept_and_requeued_as_a_pack_is(bench: Bench) -> None:
    """What is left of a pack is one, and its container does not treat it in another way."""
    call, pools = bench.submit(2), bench.client.pools
    first, second = bench.claim(count=2)
    for _ in range(2):
        keep = pools.split(bench.pool, "ta-a-1", first, keep=0, ended=[], again=[])
        assert bench.client.run(keep)
    assert notes(bench) == []  # nobody would delete it
    assert settle_part(bench, first, 0, 1, is_kept=False) == [1, 1]
    requeue = [Requeued(1, 1, 1)]
    op = pools.split(bench.pool, "ta-a-1", second, keep=None, ended=[], again=requeue)
    assert bench.client.run(op)
    (third,) = bench.claim()
    assert shapes([third]) == [(1, 1, 1, 0)]
    end = [Ended(1, 1, b"late")]
    op = pools.split(bench.pool, "ta-a-1", third, keep=None, ended=end, again=[])
    assert bench.client.run(op)
    assert outputs(bench, call) == [(b"0", b"o", b"end"), (b"1", b"o", b"late")]
    assert bench.inflight() == 0


@pytest.mark.parametrize("keep", [2, None])
def test_a_pack_is_taken_apart_once(bench: Bench, keep: int | None) -> None:
    claimed = packed(bench)
    prefix = bench.client.settings.prefix
    assert bench.client.run(parts(bench, claimed, keep=keep))
    before = state_of(bench.line, prefix)
    assert bench.client.run(parts(bench, claimed, keep=keep)) == (keep is not None)
    other = bench.client.pools.split(
        bench.pool, "ta-a-1", claimed, keep=1, ended=[], again=[Requeued(0, 1), Requeued(2, 3)]
    )
    assert bench.client.run(other) == (keep is not None)
    assert state_of(bench.line, prefix) == before


def unclaimed(bench: Bench, claimed: Claimed) -> None:
    held = [(claimed.lane, claimed.entry, claimed.call)]
    bench.client.run(bench.client.pools.release(bench.pool, held))


def reclaimed(bench: Bench, _: Claimed) -> None:
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=["*"])
    assert bench.client.run(op) == (5, 0)
    assert len(bench.claim(count=9)) == 5


def settled(bench: Bench, claimed: Claimed) -> None:
    assert settle_part(bench, claimed, 0, 5, is_kept=False) == [0, 1]


def cancelled(bench: Bench, claimed: Claimed) -> None:
    running = bench.client.run(bench.client.calls.cancel(claimed.call))
    assert running == [("ta-a-1", claimed.entry)]


def purged(bench: Bench, _: Claimed) -> None:
    assert bench.client.run(bench.client.pools.purge(bench.pool, reason="over")) == 5


@pytest.mark.parametrize("keep", [2, None])
@pytest.mark.parametrize("change", [unclaimed, reclaimed, settled, cancelled, purged])
def test_whoever_does_not_hold_a_pack_any_more_cannot_take_it_apart(
    bench: Bench, change: Callable[[Bench, Claimed], None], keep: int | None
) -> None:
    claimed = packed(bench)
    change(bench, claimed)
    before = state_of(bench.line, bench.client.settings.prefix)
    assert not bench.client.run(parts(bench, claimed, keep=keep))
    assert state_of(bench.line, bench.client.settings.prefix) == before


@pytest.mark.parametrize("keep", [2, None])
def test_a_container_cannot_take_apart_what_another_one_holds(
    bench: Bench, keep: int | None
) -> None:
    bench.submit(1, envelopes=[b"pack"], sizes=[5], total=5)
    (claimed,) = bench.claim("ta-a-2")
    before = state_of(bench.line, bench.client.settings.prefix)
    assert not bench.client.run(parts(bench, claimed, keep=keep))  # as ta-a-1
    assert state_of(bench.line, bench.client.settings.prefix) == before


@pytest.mark.parametrize("size", [1, 3])
def test_a_part_that_is_retried_later_comes_back_when_it_is_due(bench: Bench, size: int) -> None:
    claimed, pools = packed(bench), bench.client.pools
    again = [Requeued(5 - size, size, 1, 0.001)]
    op = pools.split(
        bench.pool, "ta-a-1", claimed, keep=None, ended=[Ended(0, 5 - size, b"e")], again=again
    )
    assert bench.client.run(op)
    assert bench.claim(count=9) == []
    assert bench.inflight() == size
    while bench.client.run(pools.promote(bench.pool))[0] == 0:
        continue
    (back,) = bench.claim(count=9)
    assert shapes([back]) == [(5 - size, size, 1, 0)]
    assert (back.envelope, back.lane) == (b"pack", 2)
    assert settle_part(bench, back, 5 - size, size, is_kept=False) == [0, 1]
    assert bench.record(claimed.call).is_finished


def test_purge_counts_the_inputs_of_packs(bench: Bench) -> None:
    bench.submit(130, sizes=[3] * 130, total=390)
    waiting = packed(bench)
    op = bench.client.pools.retry(bench.pool, waiting, delay=600)
    assert bench.client.run(op)
    assert bench.client.run(bench.client.pools.purge(bench.pool, reason="over")) == 395
    assert bench.inflight() == 0


@pytest.mark.parametrize("keep", [2, None])
def test_a_pack_of_a_cancelled_call_comes_apart_and_nothing_of_it_comes_back(
    bench: Bench, keep: int | None
) -> None:
    claimed, pools = packed(bench), bench.client.pools
    assert bench.client.run(bench.client.calls.cancel(claimed.call, spare=True)) == []
    again = [Requeued(3, 1), Requeued(4, 1, 1, 0.001)]
    ended = [Ended(0, 2 if keep is not None else 3, b"ended")]
    op = pools.split(bench.pool, "ta-a-1", claimed, keep=keep, ended=ended, again=again)
    assert bench.client.run(op)
    assert bench.inflight() == (1 if keep is None else 2)
    while bench.client.run(pools.promote(bench.pool))[0] == 0:
        continue
    assert bench.inflight() == (0 if keep is None else 1)
    if keep is not None:
        assert settle_part(bench, claimed, keep, 1, is_kept=True) == [0, 1]
    assert outputs(bench, claimed.call) == [(b"-1", b"x", b"cancelled")]
    assert bench.claim("ta-a-2", count=9) == []
    assert notes(bench) == []
    assert bench.ask(b"EXISTS", bench.client.keys.moved(claimed.call)) == 0


def test_a_kept_input_cannot_be_ended_without_its_note(bench: Bench) -> None:
    """A server that lost the split has the whole pack again, which must not end with one input."""
    claimed = packed(bench)
    assert settle_part(bench, claimed, 2, 1, is_kept=True) == [5, 0]
    assert settle_part(bench, claimed, 0, 5, is_kept=False) == [0, 1]


def test_a_pack_that_was_taken_apart_cannot_be_ended_as_a_whole(bench: Bench) -> None:
    """A container that reads again what it holds sees the entry as it was written."""
    claimed = packed(bench)
    assert bench.client.run(parts(bench, claimed, keep=2))
    left = bench.inflight()
    assert settle_part(bench, claimed, 0, 5, is_kept=False) == [left, 0]
    assert settle_part(bench, claimed, 2, 1, is_kept=True) == [left - 1, 1]
