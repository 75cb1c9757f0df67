"""Envelopes, outcomes and specs: they come back as they were, and malformed ones do not come in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from qmodal.spec.documents import (
    FunctionSpec,
    MethodSpec,
    PoolSpec,
    Version,
    open_pool_spec,
    open_version,
)
from qmodal.wire.envelope import ENVELOPE_SHAPE, SHAPE, MalformedError, open_envelope
from qmodal.wire.outcome import KINDS, Outcome, open_outcome, text_outcome
from qmodal.wire.signing import BadSignatureError, Signer, UnknownKeyError
from tests.support.store.envelopes import changed, envelope_of

SIGNER = Signer(b"k" * 32)
ENVELOPE = envelope_of(first=3, method="run", created=1_700_000_000_000, payload=b"\x00\xff")
OUTCOME = Outcome(kind="value", format="m", payload=b"42", container="ta-a-1", started=5, took=7)
VERSION = Version(
    app_id="ap-1",
    name="shop",
    environment="main",
    number=2,
    is_ephemeral=False,
    python="3.11",
    bundle="ab" * 32,
    main="shop",
    functions={
        "f": FunctionSpec(
            tag="f",
            module="shop",
            qualname="f",
            is_class=False,
            methods={"": MethodSpec(is_generator=True)},
            options={"timeout": 5, "gpu": ["a", "b"]},
        ),
        "C.*": FunctionSpec(
            tag="C.*",
            module="shop",
            qualname="C",
            is_class=True,
            methods={"run": MethodSpec(), "arun": MethodSpec(is_async=True)},
            options={},
            parameters=(("name", "str", True, "x"), ("size", "int", False, None)),
            serialized=b"pickle",
        ),
    },
)
POOL = PoolSpec(app_id="ap-1", function="f", parameters=b"p", variant=b"v", label="f(x='é')")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"deadline": 5, "blob": b"d" * 32, "payload": b"", "trace": "00-ab-cd-01"},
        {"method": "", "first": 2**40, "payload": bytes(100_000)},
        {"call": "é\N{SNOWMAN}"},
    ],
)
def test_an_envelope_comes_back_as_it_was(changes: dict[str, Any]) -> None:
    envelope = changed(ENVELOPE, **changes)
    assert open_envelope(envelope.seal(SIGNER), SIGNER) == envelope


def test_an_envelope_of_another_key_or_direction_stays_closed() -> None:
    with pytest.raises(UnknownKeyError):
        open_envelope(ENVELOPE.seal(Signer(b"j" * 32)), SIGNER)
    result = OUTCOME.seal(SIGNER, call="fc-00x", index=3, request=b"")
    with pytest.raises(BadSignatureError):
        open_envelope(result, SIGNER)


HEAD = [SHAPE, "pool", "fc", "run", 1, None, "3.11", None]
GOOD = [ENVELOPE_SHAPE, msgpack.packb(HEAD), 0, 1, "m", b"", None]
ANSWER = [SHAPE, "fc", 1, 1, b"mac", "value", "m", b"42", None, "ta", 5, 7]


def _with(position: int, value: object) -> list[object]:
    return [*GOOD[:position], value, *GOOD[position + 1 :]]


def _with_head(position: int, value: object) -> list[object]:
    return _with(1, msgpack.packb([*HEAD[:position], value, *HEAD[position + 1 :]]))


def test_what_the_others_are_changed_from_is_well_formed() -> None:
    assert open_envelope(SIGNER.sign("call", msgpack.packb(GOOD)), SIGNER).call == "fc"
    assert open_outcome(SIGNER.sign("result", msgpack.packb(ANSWER)), SIGNER, call="fc", index=1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgpack.packb(GOOD)[:-1],
        msgpack.packb(GOOD) + b"\x00",
        msgpack.packb(GOOD[:-1]),
        msgpack.packb([*GOOD, None]),
        msgpack.packb({"a": 1}),
        msgpack.packb(None),
        msgpack.packb(_with(0, 1)),
        msgpack.packb(_with_head(0, 2)),
        msgpack.packb(_with(1, msgpack.packb(HEAD)[:-1])),
        msgpack.packb(_with(1, msgpack.packb(HEAD[:-1]))),
        b"\x91" * 2000 + b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xffabc",
        b"\xd9\x02\xff\xfe",
        *(msgpack.packb(_with(position, [1])) for position in range(1, 7)),
        *(msgpack.packb(_with(position, "text")) for position in (1, 2, 3, 5, 6)),
        *(msgpack.packb(_with_head(position, [1])) for position in range(1, 8)),
        *(msgpack.packb(_with_head(position, "text")) for position in (4, 5)),
        msgpack.packb(_with_head(1, b"bytes")),
    ],
)
def test_signed_bytes_of_another_shape_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        open_envelope(SIGNER.sign("call", body), SIGNER)


@pytest.mark.parametrize("kind", KINDS)
def test_an_outcome_comes_back_as_it_was(kind: Any) -> None:
    outcome = OUTCOME._replace(kind=kind, blob=b"d" * 32)
    data = outcome.seal(SIGNER, call="fc", index=1, request=b"mac")
    assert open_outcome(data, SIGNER, call="fc", index=1) == outcome._replace(first=1)
    assert open_outcome(data, SIGNER, call="fc", index=1, request=b"mac") == outcome._replace(
        first=1
    )


@pytest.mark.parametrize(("index", "count"), [(4, 4), (4, 1), (7, 1), (5, 2)])
def test_an_outcome_of_several_inputs_answers_each_of_them(index: int, count: int) -> None:
    data = OUTCOME.seal(SIGNER, call="fc", index=4, count=4, request=b"mac")
    outcome = open_outcome(data, SIGNER, call="fc", index=index, count=count)
    assert (outcome.first, outcome.size) == (4, 4)


@pytest.mark.parametrize(("index", "count"), [(3, 1), (3, 2), (7, 2), (8, 1), (3, 6), (4, 0)])
def test_an_outcome_of_several_inputs_answers_no_other(index: int, count: int) -> None:
    data = OUTCOME.seal(SIGNER, call="fc", index=4, count=4, request=b"mac")
    with pytest.raises(MalformedError):
        open_outcome(data, SIGNER, call="fc", index=index, count=count)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"call": "fd"}, "another input"),
        ({"index": 2}, "another input"),
        ({"request": b"other"}, "another request"),
    ],
)
def test_an_outcome_answers_only_its_own_input(asked: dict[str, Any], sentence: str) -> None:
    """Whoever can write to Redis could otherwise answer one call with another's result."""
    data = OUTCOME.seal(SIGNER, call="fc", index=1, request=b"mac")
    question: dict[str, Any] = {"call": "fc", "index": 1} | asked
    with pytest.raises(MalformedError, match=sentence):
        open_outcome(data, SIGNER, **question)


@pytest.mark.parametrize(
    ("position", "value"),
    [(5, "other"), (5, ["value"]), (6, 1), (7, "text"), (10, "x"), (8, "x"), (3, True)],
)
def test_an_outcome_of_another_shape_is_malformed(position: int, value: object) -> None:
    fields = [*ANSWER[:position], value, *ANSWER[position + 1 :]]
    with pytest.raises(MalformedError):
        open_outcome(SIGNER.sign("result", msgpack.packb(fields)), SIGNER, call="fc", index=1)


def test_a_text_outcome_carries_any_text() -> None:
    outcome = text_outcome("lost", "gone \udc80 away", container="ta-a-1")
    assert (outcome.kind, outcome.payload) == ("lost", b"gone ? away")


def test_a_version_comes_back_as_it_was() -> None:
    assert open_version(VERSION.seal(SIGNER), SIGNER) == VERSION


@pytest.mark.parametrize(
    "fields", [None, [], {}, {"functions": {}}, {"functions": {"f": {}}}, {"functions": 3}]
)
def test_a_version_of_another_release_is_malformed(fields: object) -> None:
    with pytest.raises(MalformedError):
        open_version(SIGNER.sign("code", msgpack.packb((SHAPE, fields))), SIGNER)


def test_a_version_with_a_field_of_the_future_is_malformed() -> None:
    _, fields = msgpack.unpackb(VERSION.seal(SIGNER)[20:])
    with pytest.raises(MalformedError, match="another release"):
        open_version(SIGNER.sign("code", msgpack.packb((SHAPE, fields | {"new": 1}))), SIGNER)


def test_a_pool_spec_comes_back_as_it_was_and_names_its_pool() -> None:
    opened = open_pool_spec(POOL.seal(SIGNER), SIGNER)
    assert opened == POOL
    assert opened.pool == POOL.pool
    assert replace(POOL, label="other").pool == POOL.pool, "a label is for people"
    for other in ({"parameters": b"q"}, {"variant": b""}, {"function": "g"}, {"app_id": "ap-2"}):
        assert replace(POOL, **other).pool != POOL.pool
    with pytest.raises(MalformedError):
        open_envelope(POOL.seal(SIGNER), SIGNER)
