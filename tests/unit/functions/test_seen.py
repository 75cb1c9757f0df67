"""Indexes that have arrived, against plain sets."""

from __future__ import annotations

import random

import pytest

from qmodal.functions.results import IndexSet


@pytest.mark.parametrize("seed", range(200))
def test_it_holds_what_was_added_and_says_what_of_it_is_new(seed: int) -> None:
    chance, indexes, known = random.Random(seed), IndexSet(), set[int]()
    for _ in range(40):
        index, count = chance.randrange(40), chance.choice((1, 1, 2, 5, 9))
        added = range(index, index + count)
        fresh = [each for part in indexes.add(index, count) for each in part]
        assert fresh == [each for each in added if each not in known]
        known.update(added)
        assert len(indexes) == len(known)
        assert [each for each in range(60) if each in indexes] == sorted(known)
        assert list(indexes.missing(60)) == [each for each in range(60) if each not in known]


def test_what_comes_in_order_takes_no_room() -> None:
    indexes = IndexSet()
    for index in range(0, 10_000, 2):
        indexes.add(index, 2)
    assert len(indexes) == 10_000
    assert len(indexes._bounds) == 2
