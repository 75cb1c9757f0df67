"""Class parameters: declaring, binding, and the bytes that tell pools apart."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import pickle
import subprocess
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest

from qmodal.exception import DeserializationError, InvalidError, SerializationError
from qmodal.spec.parameters import (
    Parameter,
    ParameterSpec,
    bind,
    decode,
    decode_legacy,
    encode,
    encode_legacy,
    parameter,
    parameters_of,
)

if TYPE_CHECKING:
    from only_for_checkers import Missing  # type: ignore[import-not-found]


class Model:
    name: str = parameter()
    size: int = parameter(default=10)
    cache: Missing = parameter(init=False)
    plain: float = 1.5
    later: Missing


class Bigger(Model):
    size: str = parameter(default="big")  # type: ignore[assignment]
    key: bytes = parameter(default=b"")
    deep: bool = parameter(default=False)


class Fixed(Bigger):
    name = "fixed"
    deep: bool = parameter(init=False, default=True)


class Colour(enum.StrEnum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


def names(user_class: type) -> list[tuple[str, str, bool]]:
    return [(spec.name, spec.kind, spec.required) for spec in parameters_of(user_class)]


def test_parameters_are_collected_over_the_bases_and_string_annotations_resolved() -> None:
    assert names(Model) == [("name", "str", True), ("size", "int", False)]
    assert names(Bigger) == [
        ("name", "str", True),
        ("size", "str", False),
        ("key", "bytes", False),
        ("deep", "bool", False),
    ]
    assert names(Fixed) == [("size", "str", False), ("key", "bytes", False)]
    assert names(int) == []


def test_an_attribute_reads_as_its_default_until_an_instance_sets_it() -> None:
    model = Bigger()
    assert (model.size, model.key) == ("big", b"")
    with pytest.raises(AttributeError, match="field has no default value and no specified value"):
        _ = model.name
    model.name = "mine"
    assert model.name == "mine"
    assert type(vars(Model)["name"]) is Parameter
    assert not hasattr(model, "cache")


def test_a_declaration_that_was_pickled_still_has_no_default() -> None:
    members = {name: pickle.loads(pickle.dumps(vars(Model)[name])) for name in ("name", "cache")}
    received: Any = type("C", (), {"__annotations__": {"name": str}, **members})
    assert names(received) == [("name", "str", True)]
    assert not hasattr(received(), "cache")


def declared(annotation: Any, **kwargs: Any) -> type:
    return type("C", (), {"__annotations__": {"a": annotation}, "a": parameter(**kwargs)})


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (float, "float"),
        ("float", "float"),
        (list, "list"),
        (list[int], r"list\[int\]"),
        (int | None, r"int \| None"),
        ("int | None", r"int \| None"),
        (Literal["a"], r"typing.Literal\['a'\]"),
        ("Unknown", "Unknown"),
        ("not python", "not python"),
    ],
)
def test_other_types_are_refused(annotation: Any, shown: str) -> None:
    text = (
        rf"^Class parameter 'a': {shown} is not a supported modal.parameter\(\) type. "
        r"Use one of: int, str, bytes, bool$"
    )
    with pytest.raises(InvalidError, match=text):
        parameters_of(declared(annotation))


def test_an_annotation_is_needed() -> None:
    bare = type("Bare", (), {"a": parameter()})
    with pytest.raises(InvalidError, match=r"^All modal.parameter\(\) specifications need to be"):
        parameters_of(bare)


@pytest.mark.parametrize(("annotation", "default"), [(int, "1"), (str, None), (int, 2**63)])
def test_a_default_must_be_of_the_type(annotation: type, default: Any) -> None:
    with pytest.raises(InvalidError, match="Class parameter 'a': its default"):
        parameters_of(declared(annotation, default=default))


SPECS = parameters_of(Bigger)


def test_binding_fills_in_the_defaults() -> None:
    bound = bind(SPECS, (), {"name": "x", "deep": True})
    assert bound == {"name": "x", "size": "big", "key": b"", "deep": True}


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "text"),
    [
        (
            ("x",),
            {},
            InvalidError,
            "Can't use positional arguments with modal.parameter-based synthetic constructors.",
        ),
        ((), {}, InvalidError, "^Missing required parameter: name$"),
        (
            (),
            {"name": "x", "b": 1, "a": 2},
            InvalidError,
            "^The following parameter names were provided but are not defined .*: a, b$",
        ),
        ((), {"name": 3}, TypeError, "^Expected str, got int$"),
        ((), {"name": b"x"}, TypeError, "^Expected str, got bytes$"),
        ((), {"name": None}, TypeError, "^Expected str, got NoneType$"),
        ((), {"name": Colour.RED}, TypeError, "^Expected str, got Colour$"),
        ((), {"name": "x", "deep": 1}, TypeError, "^Expected bool, got int$"),
        ((), {"name": "x", "key": bytearray()}, TypeError, "^Expected bytes, got bytearray$"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        bind(SPECS, args, kwargs)


NUMBER = (ParameterSpec(name="n", kind="int", required=True),)


@pytest.mark.parametrize("value", [0, True, -(2**63), 2**63 - 1])
def test_an_integer_is_anything_python_calls_one_within_64_bits(value: int) -> None:
    assert bind(NUMBER, (), {"n": value})["n"] is value


@pytest.mark.parametrize(
    ("value", "error"),
    [(2**63, ValueError), (-(2**63) - 1, ValueError), (1.0, TypeError), (Number.ONE, TypeError)],
)
def test_other_numbers_are_no_integers(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        bind(NUMBER, (), {"n": value})


def test_the_encoding_tells_types_apart_and_forgets_the_order_of_keywords() -> None:
    values: list[Any] = [1, True, "1", b"1", 0, False, "", b"", "é", "e\u0301", "\ud800"]
    encoded = [encode({"a": value}) for value in values]
    assert len(set(encoded)) == len(values)
    decoded = [decode(each)["a"] for each in encoded]
    assert list(map(repr, decoded)) == list(map(repr, values))
    assert encode({"a": 1, "b": 2}) == encode({"b": 2, "a": 1}) != encode({"a": 2, "b": 1})
    assert decode(encode({})) == {}


def test_another_process_encodes_the_same_bytes() -> None:
    code = "from qmodal.spec.parameters import *; print(encode({'b': 'x', 'a': 10}).hex())"
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.strip() == encode({"a": 10, "b": "x"}).hex()


def test_all_parameters_together_take_at_most_16_kib() -> None:
    assert encode({"a": "x" * 16_000})
    with pytest.raises(InvalidError, match=r"16\d\d\d bytes.*16384"):
        encode({"a": "x" * 16_384})
    with pytest.raises(InvalidError, match="16384"):
        encode_legacy((b"x" * 16_384,), {})


def test_a_spec_survives_as_plain_values() -> None:
    assert tuple(ParameterSpec.from_plain(spec.to_plain()) for spec in SPECS) == SPECS


class Old:
    def __init__(self, foo: Any, bar: Any = 10.3, *, baz: Any = None, **more: Any) -> None: ...


def legacy(*args: Any, **kwargs: Any) -> bytes:
    return encode_legacy(args, kwargs, init=Old.__init__)


def test_legacy_arguments_meet_in_one_pool_however_they_are_spelled() -> None:
    same = [legacy(1, 10.5), legacy(foo=1, bar=10.5), legacy(bar=10.5, foo=1), legacy(1, bar=10.5)]
    assert len(set(same)) == 1
    assert legacy(1, z=1, y=2) == legacy(1, y=2, z=1) != legacy(1, y=1, z=2)
    assert len({legacy(1), legacy(1.0), legacy(True), legacy("1")}) == 4


LOCK, NOT_GIVEN = threading.Lock(), object()


class Careful:
    def __init__(
        self, name: str, lock: Any = LOCK, key: Any = lambda x: x, *, limit: Any = NOT_GIVEN
    ) -> None: ...


@dataclasses.dataclass
class Record:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)
    size: int = 3


@pytest.mark.parametrize("user_class", [Old, Careful, Record])
def test_defaults_of_a_constructor_are_not_sent(user_class: type) -> None:
    def sent(*args: Any, **kwargs: Any) -> Any:
        init = inspect.getattr_static(user_class, "__init__")
        return decode_legacy(encode_legacy(args, kwargs, init=init, plain_only=True))

    first = next(iter(inspect.signature(user_class).parameters))
    assert sent("a") == sent(**{first: "a"}) == (("a",), {})


def test_what_was_passed_behind_an_omitted_argument_keeps_its_name() -> None:
    assert decode_legacy(encode_legacy(("a",), {"size": 4}, init=Record.__init__)) == (
        ("a",),
        {"size": 4},
    )
    assert decode_legacy(legacy(1, baz=2, more=3)) == ((1,), {"baz": 2, "more": 3})


def test_legacy_arguments_that_are_not_plain_are_pickled_whatever_is_interned() -> None:
    text = "".join(["con", "fig"])
    one = legacy(Decimal(1), ["config", "config"])
    two = legacy(Decimal(1), [text, "".join(["con", "fig"])])
    assert one == two
    assert decode_legacy(one) == ((Decimal(1), ["config", "config"]), {})
    cycle: list[Any] = [Decimal(2)]
    cycle.append(cycle)
    assert decode_legacy(legacy(cycle))[0][0][1][0] == Decimal(2)


def test_legacy_arguments_that_cannot_be_encoded_are_refused() -> None:
    with pytest.raises(TypeError):
        legacy()
    with pytest.raises(SerializationError, match="cannot be pickled"):
        legacy(x for x in "ab")
    with pytest.raises(SerializationError, match="QMODAL_PAYLOADS=plain"):
        encode_legacy((Decimal(1),), {}, plain_only=True)
    with pytest.raises(DeserializationError, match="QMODAL_PAYLOADS=plain"):
        decode_legacy(legacy(Decimal(1)), plain_only=True)


@pytest.mark.parametrize("encoded", [b"", b"\x01", b"\xc1", encode({"a": 1})])
def test_foreign_bytes_are_refused(encoded: bytes) -> None:
    with pytest.raises(DeserializationError):
        decode_legacy(encoded)
    if encoded != encode({"a": 1}):
        with pytest.raises(DeserializationError):
            decode(encoded)
