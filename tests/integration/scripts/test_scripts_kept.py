"""What was kept of a pack when the rest of it was split off: to every script it is one input."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qmodal.store.entries import Claimed, charge
from tests.support.store.bench import Bench
from tests.support.store.pack_cases import (
    Ends,
    Pieces,
    again_in_line,
    kept,
    notes,
    outputs,
    packed,
    parts,
    settle_part,
    shapes,
)

REST = (3, 1, 0, 0)  # what `parts` puts back in line at once
WAITING = 1  # and what waits longer


def kept_settle(bench: Bench, held: Claimed) -> None:
    assert settle_part(bench, held, 2, 1, is_kept=True)[1] == 1


def kept_retry(bench: Bench, held: Claimed) -> None:
    assert bench.client.run(bench.client.pools.retry(bench.pool, held, delay=0))


def kept_retry_later(bench: Bench, held: Claimed) -> None:
    assert bench.client.run(bench.client.pools.retry(bench.pool, held, delay=0.001))
    while bench.client.run(bench.client.pools.promote(bench.pool))[0] == 0:
        continue


def kept_release(bench: Bench, held: Claimed) -> None:
    entries = [(held.lane, held.entry, held.call)]
    assert bench.client.run(bench.client.pools.release(bench.pool, entries)) == 1


def kept_reclaim(*charged: str, budget: int = 3) -> Callable[[Bench, Claimed], None]:
    def act(bench: Bench, held: Claimed) -> None:
        told = [f"{held.lane} {held.entry} {part}" if part != "*" else part for part in charged]
        op = bench.client.pools.reclaim(
            bench.pool, "ta-a-1", reason="gone", charged=told, budget=budget
        )
        assert bench.client.run(op) == ((1, 0) if budget > 1 else (0, 1))

    return act


def kept_bury(bench: Bench, held: Claimed) -> None:
    assert bench.client.run(bench.client.pools.bury(bench.pool, held, reason="bad"))
    assert [(dead[b"i"], dead[b"n"]) for dead in bench.dead()] == [(b"2", b"1")]


KEPT: dict[str, tuple[Callable[[Bench, Claimed], None], Ends, Pieces]] = {
    "settle": (kept_settle, [(b"2", b"o", b"end")], [REST]),
    "retry": (kept_retry, [], [REST, (2, 1, 1, 0)]),
    "delayed retry": (kept_retry_later, [], [REST, (2, 1, 1, 0)]),
    "release": (kept_release, [], [REST, (2, 1, 0, 0)]),
    "reclaim": (kept_reclaim(), [], [REST, (2, 1, 0, 0)]),
    "reclaim, charged": (kept_reclaim("2"), [], [REST, (2, 1, 0, 1)]),
    "reclaim, charged as its pack": (kept_reclaim("0"), [], [REST, (2, 1, 0, 1)]),
    "reclaim, all charged": (kept_reclaim("*"), [], [REST, (2, 1, 0, 1)]),
    "reclaim, lost": (kept_reclaim("2", budget=1), [(b"2", b"x", b"gone")], [REST]),
    "bury": (kept_bury, [(b"2", b"x", b"bad")], [REST]),
}


@pytest.mark.parametrize("lane", [1, 2])
@pytest.mark.parametrize("way", KEPT)
def test_what_was_kept_of_a_pack_counts_as_one_input(bench: Bench, way: str, lane: int) -> None:
    act, ends, line = KEPT[way]
    held = kept(bench) if lane == 1 else kept_again(bench)
    act(bench, held)
    assert outputs(bench, held.call) == [(b"0+2", b"o", b"ended"), *ends]
    assert shapes(bench.claim("ta-a-2", count=9)) == line
    assert bench.inflight() == len(line) + WAITING
    assert bench.ask(b"SCARD", bench.client.keys.moved(held.call)) == len(line)
    assert notes(bench) == []


def kept_again(bench: Bench) -> Claimed:
    """As `kept`, in the other lane."""
    claimed = again_in_line(bench, packed(bench))
    assert bench.client.run(parts(bench, claimed))
    return claimed


@pytest.mark.parametrize("lane", [1, 2])
@pytest.mark.parametrize("way", ["cancel", "purge"])
def test_the_end_of_a_call_reaches_all_that_its_pack_was_split_into(
    bench: Bench, way: str, lane: int
) -> None:
    held = kept(bench) if lane == 1 else kept_again(bench)
    expected: Ends
    if way == "cancel":
        assert bench.client.run(bench.client.calls.cancel(held.call)) == [("ta-a-1", held.entry)]
        assert bench.inflight() == WAITING  # it is dropped when it comes up
        expected = [(b"-1", b"x", b"cancelled")]
    else:
        assert bench.client.run(bench.client.pools.purge(bench.pool, reason="over")) == 3
        assert bench.inflight() == 0
        assert bench.record(held.call).is_finished
        expected = [(b"%d" % index, b"x", b"over") for index in (2, 4, 3)]
    told = outputs(bench, held.call)
    assert told[0] == (b"0+2", b"o", b"ended")
    assert sorted(told[1:]) == sorted(expected)
    assert settle_part(bench, held, 2, 1, is_kept=True)[1] == 0
    assert bench.claim("ta-a-2", count=9) == []
    assert bench.ask(b"EXISTS", bench.client.keys.moved(held.call)) == 0
    assert notes(bench) == []


def test_what_was_kept_is_spared_by_a_cancel_that_spares_what_runs(bench: Bench) -> None:
    held = kept(bench)
    assert bench.client.run(bench.client.calls.cancel(held.call, spare=True)) == []
    assert len(notes(bench)) == 1
    assert settle_part(bench, held, 2, 1, is_kept=True) == [WAITING, 1]
    assert notes(bench) == []
    assert outputs(bench, held.call)[1:] == [(b"-1", b"x", b"cancelled")]


def test_a_kept_input_survives_the_death_of_its_call(bench: Bench) -> None:
    """Delivered and deleted, or lost with the server's data: its note goes with its entry."""
    held = kept(bench)
    bench.ask(*bench.client.calls.forget_command(held.call))
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=[charge(held)])
    assert bench.client.run(op) == (1, 0)
    assert notes(bench) == []
    assert bench.inflight() == 1 + WAITING
