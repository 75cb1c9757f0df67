"""Plain values, arguments and results as bytes and back."""

from __future__ import annotations

import collections
import contextlib
import enum
import math
import random
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgpack
import pytest

from qmodal.exception import DeserializationError, ExecutionError, SerializationError
from qmodal.wire import pickled
from qmodal.wire.payload import dump_arguments, dump_value, load_arguments, load_value
from qmodal.wire.plain import MAX_DEPTH, NotPlain, pack, unpack
from qmodal.wire.trees import pack_columns

Point = collections.namedtuple("Point", "x y")


class Colour(enum.IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


def nested(depth: int, kind: type = list) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = kind([value])
    return value


EXACT = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    10**4000,
    -(10**40),
    0.0,
    -0.0,
    1e308,
    float("inf"),
    "",
    "naïve ★ \x00",
    "\ud800 lone",
    "\ud800\udc00",
    b"",
    b"\xff" * 300,
    [],
    [1, "a", None, [2.5, b"x"]],
    {},
    {"b": 1, "a": 2},
    {1: "int", "1": "str", b"1": "bytes", None: 0, 1.5: 1, (1, (2,)): 3},
    {frozenset({1, 2}): {3, 4}},
    (),
    (1, [2, (3,)]),
    set(),
    {1, "a", (2, b"c")},
    frozenset({(), frozenset()}),
    1 + 2j,
    datetime.fromisoformat("2026-01-02T03:04:05.000006"),
    datetime(2026, 1, 2, tzinfo=UTC),
    datetime.fromisoformat("9999-12-31T23:59:59.999999"),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-5, minutes=-30, seconds=-1))),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=9), "KST")),
    date(2026, 2, 28),
    date.min,
    timedelta(days=-3, microseconds=7),
    timedelta.max,
    list(range(10_000)),
    {str(n): n for n in range(2000)},
    [(n, str(n)) for n in range(500)],
    nested(MAX_DEPTH),
    nested(MAX_DEPTH, tuple),
]

REFUSED = [
    Colour.RED,
    [Colour.RED],
    {Colour.RED: 1},
    Text("a"),
    Point(1, 2),
    collections.OrderedDict(a=1),
    collections.defaultdict(int),
    bytearray(b"x"),
    [bytearray(b"x")],
    {"a": (memoryview(b"x"),)},
    [1] * 5000 + [bytearray(b"")],
    msgpack.ExtType(1, b"a"),
    [msgpack.Timestamp(1)],
    {"a": msgpack.ExtType(3, b"")},
    datetime(2026, 1, 1, fold=1, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
    Decimal(1),
    ...,
    object(),
    int,
    len,
    nested(MAX_DEPTH + 1),
    nested(MAX_DEPTH + 1, tuple),
    nested(600),
    nested(5000, tuple),
]


def same(a: Any, b: Any) -> bool:
    """Equal in value and in every type, order of dicts included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a.items(), b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, datetime):
        return (a.replace(tzinfo=None), str(a.tzinfo)) == (b.replace(tzinfo=None), str(b.tzinfo))
    if isinstance(a, float) and repr(a) != repr(b):
        return False
    return bool(a == b)


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_a_plain_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    assert same(unpack(pack(value)), value)


def test_not_a_number_comes_back() -> None:
    assert math.isnan(unpack(pack(float("nan"))))


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_would_not_come_back_exactly_is_refused(value: Any) -> None:
    with pytest.raises(NotPlain):
        pack(value)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_value_that_contains_itself_is_refused(kind: type) -> None:
    inner: list[Any] = []
    inner.append(kind([inner]))
    with pytest.raises(NotPlain):
        pack(inner)


def extension(code: int, body: bytes) -> bytes:
    packed: bytes = msgpack.packb(msgpack.ExtType(code, body))
    return packed


def boxed(depth: int) -> bytes:
    body = b"\x90"
    for _ in range(depth):
        body = extension(2, b"\x91" + body)
    return body


GARBAGE = {
    "empty": b"",
    "reserved byte": b"\xc1",
    "trailing bytes": b"\x01\x02",
    "a huge declared list": b"\xdd\xff\xff\xff\xff",
    "a huge declared map": b"\xdf\xff\xff\xff\xff",
    "a huge declared string": b"\xdb\xff\xff\xff\xff",
    "lists of huge lists": b"\xdd\x00\x10\x00\x00" * 400,
    "a string that is no text": b"\xa1\xff",
    "a list as key": b"\x81\x90\x01",
    "an unknown extension": extension(99, b"x"),
    "a tuple of a number": extension(2, b"\x01"),
    "a truncated tuple": extension(2, b"\x92\x01"),
    "a set of lists": extension(3, b"\x91\x90"),
    "half a complex": extension(5, b"\x00" * 8),
    "a thirteenth month": extension(6, msgpack.packb([2026, 13, 1, 0, 0, 0, 0])),
    "a short datetime": extension(6, msgpack.packb([2026])),
    "a zone beyond a day": extension(6, msgpack.packb([2026, 1, 1, 0, 0, 0, 0, 10**15])),
    "a date of text": extension(7, msgpack.packb(["a", "b", "c"])),
    "too many days": extension(8, msgpack.packb([10**12, 0, 0])),
    "lists too deep": b"\x91" * (MAX_DEPTH + 1) + b"\x01",
    "lists far too deep": b"\x91" * 100_000 + b"\x01",
    "tuples too deep": boxed(400),
}


@pytest.mark.parametrize("packed", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_deserialization_error(packed: bytes) -> None:
    with pytest.raises(DeserializationError):
        unpack(packed)


def test_truncated_and_changed_bytes_never_raise_anything_else() -> None:
    packed = pack([EXACT[i] for i in range(39)])
    chance = random.Random(7)
    for cut in range(0, len(packed), 7):
        with pytest.raises(DeserializationError):
            unpack(packed[:cut])
    for _ in range(1500):
        changed = bytearray(packed[-400:])
        changed[chance.randrange(len(changed))] = chance.randrange(256)
        with contextlib.suppress(DeserializationError):
            unpack(bytes(changed))


def test_a_timestamp_of_another_language_is_a_datetime() -> None:
    assert unpack(msgpack.packb(msgpack.Timestamp(0))) == datetime(1970, 1, 1, tzinfo=UTC)


def test_packing_is_safe_in_threads() -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        value = [number, ("a" * number, {number})]
        wrong.extend(value for _ in range(300) if unpack(pack(value)) != value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def dumped(*args: Any, **kwargs: Any) -> tuple[str, bytes]:
    return dump_arguments(args, kwargs, plain_only=False, main_by_reference=False)


def by_value() -> Any:
    def local(x: int) -> int:
        return x + 1

    return local


@pytest.mark.parametrize(
    ("args", "kwargs", "form"),
    [
        ((3,), {}, "m"),
        ((), {}, "m"),
        (((1, 2), {3}), {"key": {"a": b"b"}}, "m"),
        ((Decimal(1),), {}, "p"),
        ((1,), {"colour": collections.OrderedDict(a=1)}, "p"),
        ((int, len), {}, "p"),
        ((Text("a"),), {}, "p"),
    ],
)
def test_arguments_come_back_and_the_format_says_how(
    args: tuple[Any, ...], kwargs: dict[str, Any], form: str
) -> None:
    chosen, payload = dumped(*args, **kwargs)
    # A class of this very module cannot be imported by name under pytest, so it travels by value.
    assert chosen == form or Text in map(type, args)
    assert load_arguments(chosen, payload, plain_only=False) == (args, kwargs)


def test_code_that_cannot_be_imported_travels_by_value() -> None:
    form, payload = dumped(by_value())
    assert form == "c"
    assert load_arguments(form, payload, plain_only=False)[0][0](1) == 2


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        ((1, threading.Lock()), {}, "argument 2 of type lock"),
        ((1,), {"door": threading.Lock()}, "argument 'door' of type lock"),
        (((n for n in "ab"),), {}, "argument 1 of type generator"),
    ],
)
def test_an_argument_that_cannot_be_pickled_is_named(
    args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> None:
    with pytest.raises(SerializationError, match=f"{name} cannot be pickled: TypeError"):
        dumped(*args, **kwargs)


def test_plain_only_refuses_pickle_in_both_directions() -> None:
    with pytest.raises(SerializationError, match=r"plain allows only .* argument 'price'.*Decimal"):
        dump_arguments((), {"price": Decimal(1)}, plain_only=True, main_by_reference=False)
    with pytest.raises(SerializationError, match="Decimal"):
        dump_value(Decimal(1), plain_only=True)
    form, payload = dumped(Decimal(1))
    with pytest.raises(DeserializationError, match="QMODAL_PAYLOADS=plain"):
        load_arguments(form, payload, plain_only=True)
    with pytest.raises(ExecutionError, match="QMODAL_PAYLOADS=plain"):
        load_value(form, payload, plain_only=True)


MISSING = pickled.dumps(((Decimal(1),), {})).replace(b"decimal", b"decimul")


@pytest.mark.parametrize(
    ("form", "payload", "text"),
    [
        ("p", MISSING, "'decimul' module is not available in the remote environment"),
        ("p", b"garbage", "pickle"),
        ("x", b"", "format 'x' is unknown"),
        ("m", pack(3), "no arguments"),
        ("m", pack([[], {1: 2}]), "no arguments"),
    ],
)
def test_arguments_that_cannot_be_loaded_are_a_deserialization_error(
    form: str, payload: bytes, text: str
) -> None:
    with pytest.raises(DeserializationError, match=text):
        load_arguments(form, payload, plain_only=False)


@pytest.mark.parametrize(("form", "payload"), [("p", MISSING), ("p", b"x"), ("m", b""), ("x", b"")])
def test_a_result_that_cannot_be_rebuilt_is_an_execution_error(form: str, payload: bytes) -> None:
    with pytest.raises(ExecutionError, match=r"^Could not deserialize result due to error: "):
        load_value(form, payload, plain_only=False)


@pytest.mark.parametrize("value", [None, False, 2**70, (1, 2), Decimal("1.10"), "\ud800"])
def test_a_result_comes_back(value: Any) -> None:
    form, payload = dump_value(value, plain_only=False)
    assert same(load_value(form, payload, plain_only=False), value)


@pytest.mark.parametrize("value", [*EXACT, *REFUSED], ids=lambda value: type(value).__name__)
def test_the_arguments_of_a_pack_have_the_bytes_that_lists_of_them_have(value: Any) -> None:
    try:
        expected = pack([{}, [[value, 1], ["a", "b"]]])
    except NotPlain:
        with pytest.raises(NotPlain):
            pack_columns({}, [(value, 1), ("a", "b")])
    else:
        assert pack_columns({}, [(value, 1), ("a", "b")]) == expected


async def coroutine() -> None: ...


def test_a_result_that_is_still_running_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="returned a generator"):
        dump_value((n for n in "ab"), plain_only=False)
    running = coroutine()
    with pytest.raises(TypeError, match="returned a coroutine"):
        dump_value(running, plain_only=False)
    running.close()


SCRIPT = """
import sys
from qmodal.wire.payload import dump_arguments, load_arguments, dump_value
assert dump_arguments((3,), {}, plain_only=False, main_by_reference=True)[0] == "m"
assert not {"pickle", "cloudpickle"} & sys.modules.keys(), "a plain call loaded pickle"

def top(x): return x
class Top: pass

def form(value, main_by_reference):
    form, payload = dump_arguments((value,), {}, plain_only=False, main_by_reference=main_by_reference)
    if main_by_reference and form == "p":
        assert b"__main__" in payload
    return form

local = lambda x: top(x)
print(*(form(v, r) for r in (True, False) for v in (top, Top, Top(), local)))
assert dump_value(top, plain_only=False, main_by_reference=True)[0] == "p"
top = None
"""


def test_main_goes_by_reference_only_when_asked_and_plain_calls_load_no_pickle() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["p", "p", "p", "c", "c", "c", "c", "c"]
