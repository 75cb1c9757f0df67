"""Dead letters by their kind, whoever has written what is in them."""

from __future__ import annotations

import pytest

from qmodal.store.results.dead import DeadLetter
from qmodal.wire.ids import shard_of
from tests.support.store.bench import Bench


def letters(bench: Bench) -> list[DeadLetter]:
    return bench.client.run(bench.client.dead_letters.recent())


@pytest.fixture
def clean(bench: Bench) -> Bench:
    for letter in letters(bench):
        assert bench.client.run(bench.client.dead_letters.drop(letter))
    return bench


def test_what_was_lost_and_what_nobody_could_open_are_apart(clean: Bench) -> None:
    pools, run = clean.client.pools, clean.client.run
    lost, odd = clean.submit(), clean.submit()
    held = clean.claim("ta-a-1")
    for number in range(2, 6):
        run(pools.reclaim(clean.pool, f"ta-a-{number - 1}", reason="oom", charged=["*"]))
        held = clean.claim(f"ta-a-{number}")
    one = next(each for each in held if each.call == odd)
    run(pools.bury(clean.pool, one, reason="unprocessable: bad signature"))
    found = {letter.claimed.call: letter for letter in letters(clean)}
    assert (found[lost].kind, found[lost].reason, found[lost].claimed.lost) == ("failed", "oom", 3)
    assert (found[odd].kind, found[odd].pool) == ("unprocessable", clean.pool)
    for letter in found.values():
        assert run(clean.client.dead_letters.find(letter.name)) == letter
        assert run(clean.client.dead_letters.drop(letter))
        assert not run(clean.client.dead_letters.drop(letter))
        assert run(clean.client.dead_letters.find(letter.name)) is None


def test_foreign_entries_are_shown_and_can_be_dropped(clean: Bench) -> None:
    key = clean.client.keys.dead(shard_of(clean.pool))
    clean.ask(b"XADD", key, b"*", b"what", b"ever")
    clean.ask(b"XADD", key, b"*", b"why", b"\xff", b"pool", b"\xff", b"member", b"\xc1")
    found = letters(clean)
    assert [(each.kind, each.pool, each.is_input) for each in found] == [
        ("unprocessable", "", False)
    ] * 2
    assert all(clean.client.run(clean.client.dead_letters.drop(each)) for each in found)


@pytest.mark.parametrize("name", ["", "dl-", "dl-64-1-0", "dl-00-x-0", "dl-00-1-0"])
def test_a_name_of_none_finds_none(bench: Bench, name: str) -> None:
    assert bench.client.run(bench.client.dead_letters.find(name)) is None
