"""How many inputs share an entry."""

from __future__ import annotations

import pytest

from qmodal.spec.options import FunctionOptions
from qmodal.spec.pack_size import (
    LEAST_PACKS,
    LONG_MICROSECONDS,
    LONG_TIMES,
    MOST_IN_PACK,
    MOST_LEARNED_POOLS,
    RECENT_OUTCOMES,
    REMEMBERED_INPUTS,
    WORTH_MICROSECONDS,
    PackSizer,
    PackTimes,
    Variation,
)
from qmodal.store.results.outputs import MOST_PER_OUTPUT

MANY = 10**6


def packing(recent: list[int], *, inputs: int = MANY, is_allowed: bool = True) -> PackSizer:
    learned = PackTimes().of("pool")
    learned.recent.extend(recent)
    made = PackSizer(FunctionOptions(), learned, is_allowed=is_allowed)
    made.count(inputs)
    return made


@pytest.mark.parametrize(
    ("recent", "inputs", "size"),
    [
        ([], MANY, 1),
        ([1] * (RECENT_OUTCOMES - 1), MANY, 1),
        ([1] * RECENT_OUTCOMES, MANY, MOST_IN_PACK),
        ([0] * RECENT_OUTCOMES, MANY, MOST_IN_PACK),
        ([1000] * RECENT_OUTCOMES, MANY, WORTH_MICROSECONDS // 1000),
        ([MANY] * RECENT_OUTCOMES, MANY, 1),
        # One in four that had to wait for a processor says nothing of the rest; five in sixteen do.
        ([1] * 13 + [MANY] * 3, MANY, MOST_IN_PACK),
        ([1] * 11 + [MANY] * 5, MANY, 1),
        ([1] * RECENT_OUTCOMES, 100, 100 // LEAST_PACKS),
        ([1] * RECENT_OUTCOMES, 10, 1),
    ],
)
def test_packs_are_as_large_as_inputs_are_short_and_a_short_map_is_shared(
    recent: list[int], inputs: int, size: int
) -> None:
    assert packing(recent, inputs=inputs).size == size


def test_no_pack_is_longer_than_readers_believe_an_output_to_be() -> None:
    assert MOST_IN_PACK <= MOST_PER_OUTPUT


def test_a_map_that_turns_out_longer_may_have_larger_packs() -> None:
    made = packing([1] * RECENT_OUTCOMES, inputs=100)
    before = made.size
    made.count(1000)
    assert made.size > before
    made.count(10)
    assert made.size == 1000 // LEAST_PACKS


def test_what_one_map_has_learned_the_next_one_knows() -> None:
    learned = PackTimes()
    first = PackSizer(FunctionOptions(), learned.of("pool"), is_allowed=True)
    assert first.is_ignorant
    for _ in range(RECENT_OUTCOMES):
        first.ran(5)
    second = PackSizer(FunctionOptions(), learned.of("pool"), is_allowed=True)
    assert not second.is_ignorant
    assert PackSizer(FunctionOptions(), learned.of("other"), is_allowed=True).is_ignorant


def test_what_is_learned_of_many_pools_takes_no_more_than_so_much_memory() -> None:
    learned = PackTimes()
    for number in range(MOST_LEARNED_POOLS):
        learned.of(f"pool {number}").recent.append(1)
    assert learned.of("pool 0").recent
    assert not learned.of("one more").recent
    assert not learned.of("pool 0").recent


@pytest.mark.parametrize(
    "options",
    [FunctionOptions(delivery="at_most_once"), FunctionOptions(single_use_containers=True)],
)
def test_inputs_that_need_a_container_for_themselves_are_never_packed(
    options: FunctionOptions,
) -> None:
    made = PackSizer(options, PackTimes().of("pool"), is_allowed=True)
    made.expect(0.00001)
    made.count(MANY)
    assert made.size == 1
    assert not made.is_ignorant


def test_while_little_is_known_each_input_of_a_shared_outcome_counts() -> None:
    made = packing([])
    made.ran(1, RECENT_OUTCOMES - 1)
    assert made.is_ignorant
    made.ran(1, 1)
    assert made.size == MOST_IN_PACK
    made.ran(LONG_MICROSECONDS - 1, 400)  # now a pack is one that is known, however many it holds
    assert made.size == MOST_IN_PACK


def test_where_nothing_may_be_packed_outcomes_are_taken_in_all_the_same() -> None:
    made = packing([], is_allowed=False)
    made.ran(5)
    made.ran(2_000_000)
    assert made.size == 1


def test_inputs_are_not_packed_for_a_while_after_a_long_one_among_short_ones() -> None:
    made = packing([1000] * RECENT_OUTCOMES)
    made.ran(2_000_000)
    assert made.size == 1
    for _ in range(REMEMBERED_INPUTS // 10):
        assert made.size == 1
        made.ran(1000, inputs=10)
    assert made.size == WORTH_MICROSECONDS // 1000


@pytest.mark.parametrize(
    ("usual", "took", "is_wide"),
    [
        (1000, LONG_MICROSECONDS - 1, False),  # as if it had to wait for a processor
        (1000, LONG_MICROSECONDS, True),
        (LONG_MICROSECONDS, 2 * LONG_MICROSECONDS, False),  # all of them are long
        (LONG_MICROSECONDS, LONG_TIMES * LONG_MICROSECONDS, True),
    ],
)
def test_a_pool_varies_widely_if_one_input_takes_far_longer_than_is_usual(
    usual: int, took: int, is_wide: bool
) -> None:
    variation = Variation()
    variation.ran(took, usual)
    assert variation.is_wide is is_wide
