"""The inputs of a map, argument by argument, and how they are put into packs."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.functions.map.inputs import Arguments, InputReader, MapInputs
from qmodal.functions.submission import PACK_BYTES, call_id_for, submission_of
from qmodal.spec.documents import PoolSpec
from qmodal.wire.envelope import open_envelope
from qmodal.wire.plain import unpack_columns
from tests.support.store.bench import target_of

KWARGS = {"k": 1}


def inputs_of(*iterables: Any, star: bool = False) -> InputReader:
    return InputReader(iterables, KWARGS, is_star=star)


@pytest.mark.parametrize(
    ("iterables", "expected"),
    [
        ((range(7),), [(n,) for n in range(7)]),
        (([1, 2, 3], "ab"), [(1, "a"), (2, "b")]),
        (("ab", [1, 2, 3]), [("a", 1), ("b", 2)]),
        (({"x": 1, "y": 2}, b"pq", (None, True)), [("x", 112, None), ("y", 113, True)]),
        (([], [1]), []),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_inputs_at_hand_are_taken_in_order_until_the_shortest_ends(
    iterables: tuple[Any, ...], expected: list[tuple[Any, ...]], count: int
) -> None:
    take, found = inputs_of(*iterables).taker(0), list[Arguments]()
    while taken := take(count):
        assert len(taken) <= count
        found += taken
    assert found == [(args, KWARGS) for args in expected]


@pytest.mark.parametrize("star", [False, True])
def test_inputs_of_an_earlier_producer_are_left_out(star: bool) -> None:
    given = [(n,) for n in range(9)] if star else range(9)
    take = inputs_of(given, star=star).taker(4)
    assert list(take(3)) == [((n,), KWARGS) for n in (4, 5, 6)]
    assert [args for args, _ in take(100)] == [(7,), (8,)]
    assert not take(100)


def test_columns_are_cut_and_looked_into_like_a_list() -> None:
    columns = MapInputs([[1, 2, 3], ["a", "b", "c"]], KWARGS)
    rows = [((1, "a"), KWARGS), ((2, "b"), KWARGS), ((3, "c"), KWARGS)]
    assert list(columns) == rows
    assert [columns[n] for n in (0, 1, -1)] == rows
    assert list(columns[1:]) == rows[1:]
    assert (len(columns), len(columns[1:]), len(columns[3:])) == (3, 2, 0)


def packed(inputs: InputReader, most: int, *, count: int = 10_000) -> list[tuple[int, list[Any]]]:
    """The first index and the arguments of each envelope, in which up to `most` inputs share one."""
    where = {"QMODAL_REDIS_URL": "redis://127.0.0.1:1", "QMODAL_SIGNING_KEY": "ab" * 32}
    client = Client(Settings.from_environ(where))
    target, found = target_of(PoolSpec(app_id="ap", function="f")), []
    taken = inputs.taker(0)(count)
    made = submission_of(client, target, taken, call=call_id_for(target), first=5, pack=most)
    for sealed, size in zip(made.envelopes, made.sizes, strict=True):
        envelope = open_envelope(sealed, client.signer)
        assert envelope.size == size
        if size > 1:
            assert len(envelope.payload) <= PACK_BYTES
            kwargs, columns = unpack_columns(envelope.payload)
            assert kwargs == KWARGS
            found.append((envelope.first, [*zip(*columns, strict=True)]))
        else:
            found.append((envelope.first, []))
    return found


@pytest.mark.parametrize("star", [False, True])
def test_all_inputs_of_a_submission_are_in_its_packs(star: bool) -> None:
    pairs = [(n, str(n)) for n in range(250)]
    inputs = inputs_of(pairs, star=True) if star else inputs_of(*zip(*pairs, strict=True))
    assert packed(inputs, 100) == [
        (5, pairs[:100]),
        (105, pairs[100:200]),
        (205, pairs[200:]),
    ]


def test_a_pack_is_as_small_as_its_inputs_are_large() -> None:
    found = packed(inputs_of(["x" * 100] * 500), 500)
    assert all(len(rows) > 50 for _, rows in found[:-1])
    assert sum(len(rows) for _, rows in found) == 500
    assert [first for first, _ in found] == sorted(first for first, _ in found)


def test_one_large_input_leaves_the_packs_behind_its_own_as_they_are() -> None:
    found = packed(inputs_of(["x" * 100_000, *"y" * 99]), 10)
    assert found[0] == (5, [])
    assert [len(rows) for _, rows in found[-9:]] == [10] * 9


def test_inputs_that_fill_a_pack_each_go_alone() -> None:
    assert packed(inputs_of(["x" * PACK_BYTES] * 4), 4) == [(n, []) for n in range(5, 9)]


@pytest.mark.parametrize(
    "given",
    [
        [()] * 4,
        [(1,), (1, 2), (1,), (1,)],
        [({1, 2},), (object,), (3,), (4,)],
    ],
    ids=["no arguments", "now more, now fewer", "not plain"],
)
def test_what_has_no_columns_goes_alone(given: list[Any]) -> None:
    assert packed(inputs_of(given, star=True), 4) == [(n, []) for n in range(5, 9)]
