"""Lists that are in a value more than once: they stay one, or are few enough to be copied."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.exception import SerializationError
from qmodal.wire.payload import dump_arguments, dump_value, load_arguments, load_value
from qmodal.wire.plain import MAX_DEPTH, NotPlain, unpack
from qmodal.wire.trees import pack_columns


def doubled(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made, made]
    return made


def shared() -> Any:
    one = [1]
    return {"a": one, "b": (2, one)}


def itself() -> list[Any]:
    made: list[Any] = [1]
    made.append(made)
    return made


SHARED = [
    doubled(1),
    doubled(26),
    shared(),
    itself(),
    [(big := tuple(range(100))), big],
    {(1, (2, 3)): (inner := {1: 2}), "x": [inner]},
]


@pytest.mark.parametrize("value", SHARED)
def test_what_is_there_twice_is_pickled(value: Any) -> None:
    assert dump_value(value, plain_only=False)[0] == "p"
    form, payload = dump_arguments((value,), {}, plain_only=False, main_by_reference=False)
    assert form == "p"
    assert len(payload) < 2000
    dump_arguments((), {"x": value}, plain_only=False, main_by_reference=False)


def test_what_is_one_comes_back_as_one() -> None:
    form, payload = dump_value(shared(), plain_only=False)
    back = load_value(form, payload, plain_only=False)
    assert back["a"] is back["b"][1]
    one = [1]
    form, payload = dump_arguments((one,), {"k": one}, plain_only=False, main_by_reference=False)
    args, kwargs = load_arguments(form, payload, plain_only=False)
    assert args[0] is kwargs["k"]


@pytest.mark.parametrize(
    "value",
    [
        [[1], [1]],
        [(), ()],
        [(pair := (1, 2)), pair, [pair]],
        [frozenset(), frozenset()],
        ["text" * 100] * 2,
        {"a": {"b": [(1,)]}, "c": [[], [], {}]},
    ],
)
def test_what_is_equal_only_stays_plain(value: Any) -> None:
    assert dump_value(value, plain_only=False)[0] == "m"
    assert load_value(*dump_value(value, plain_only=False), plain_only=True) == value


def test_where_only_plain_values_are_allowed_lists_are_copied_while_they_are_few() -> None:
    form, payload = dump_value(doubled(10), plain_only=True)
    assert (form, load_value(form, payload, plain_only=True)) == ("m", doubled(10))
    for refused in (doubled(26), itself()):
        with pytest.raises(SerializationError, match=r"again and again|nested more than 64"):
            dump_value(refused, plain_only=True)


def test_inputs_of_a_pack_may_have_something_in_common() -> None:
    common = {"path": ["a", "b"]}
    columns: list[list[Any]] = [[common, common, [common]], [1, 2, 3]]
    assert unpack(pack_columns({}, columns)) == [{}, columns]
    assert unpack(pack_columns({"k": common}, [[1, 2]])) == [{"k": common}, [[1, 2]]]
    cases: list[tuple[dict[str, Any], list[list[Any]]]] = [
        ({}, [[1], [common], [[common]]]),
        ({"k": common}, [[common]]),
    ]
    for kwargs, twice in cases:
        with pytest.raises(NotPlain, match="more than once"):
            pack_columns(kwargs, twice)


class Unhashable(type):
    def __eq__(cls, other: object) -> bool:
        return cls is other

    __hash__ = None  # type: ignore[assignment]


class Odd(metaclass=Unhashable):
    pass


@pytest.mark.parametrize("value", [Odd(), [1, [Odd()]]])
def test_a_type_that_cannot_be_hashed_is_left_to_pickle(value: Any) -> None:
    """Which cannot do it either, and says so."""
    with pytest.raises(SerializationError, match=r"argument 2 of type .*: unhashable type"):
        dump_arguments((1, value), {}, plain_only=False, main_by_reference=False)


def test_what_is_too_deep_is_pickled() -> None:
    deep: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]
    form, payload = dump_value(deep, plain_only=False)
    assert (form, load_value(form, payload, plain_only=False)) == ("p", deep)
