"""Which indexes have arrived: a set, but small."""

from __future__ import annotations

import random

import pytest

from qmodal.seen import Indexes


@pytest.mark.parametrize("seed", range(20))
def test_it_holds_exactly_what_was_added(seed: int) -> None:
    order = random.Random(seed).choices(range(60), k=50)
    seen, expected = Indexes(), set[int]()
    for index in order:
        assert seen.add(index) == (index not in expected)
        expected.add(index)
        assert len(seen) == len(expected)
        assert [n for n in range(-1, 62) if n in seen] == sorted(expected)
        for end in (0, 30, 60):
            assert list(seen.missing(end)) == sorted(set(range(end)) - expected)


def test_a_full_run_takes_two_numbers_however_long_it_is() -> None:
    seen = Indexes()
    for index in reversed(range(1000)):
        seen.add(index)
    assert seen._bounds == [0, 1000]
