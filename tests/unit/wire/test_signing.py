"""Signatures: what was signed is accepted, and nothing else is."""

from __future__ import annotations

import pytest

from qmodal.wire.signing import (
    FORGED,
    HEAD,
    PURPOSES,
    BadSignatureError,
    Signer,
    UnknownKeyError,
    mac_of,
)

SIGNER = Signer(b"k" * 32)
BODY = b"a body of some bytes"


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 1000], ids=len)
def test_what_was_signed_is_given_back(purpose: str, body: bytes) -> None:
    signed = SIGNER.sign(purpose, body)
    assert len(signed) == HEAD + len(body)
    assert SIGNER.verify(purpose, signed) == body
    assert Signer(b"k" * 32).verify(purpose, signed) == body


def test_any_changed_byte_is_noticed() -> None:
    signed = SIGNER.sign("call", BODY)
    for position in range(len(signed)):
        changed = bytearray(signed)
        changed[position] ^= 1
        with pytest.raises((BadSignatureError, UnknownKeyError)):
            SIGNER.verify("call", bytes(changed))


@pytest.mark.parametrize("size", [0, 3, HEAD - 1])
def test_bytes_that_are_too_short_are_refused(size: int) -> None:
    with pytest.raises(BadSignatureError, match="too short"):
        SIGNER.verify("call", SIGNER.sign("call", b"")[:size])


@pytest.mark.parametrize("change", [lambda signed: signed[:-1], lambda signed: signed + b"x"])
def test_bytes_that_were_cut_or_prolonged_are_refused(change: object) -> None:
    assert callable(change)
    with pytest.raises(BadSignatureError):
        SIGNER.verify("call", change(SIGNER.sign("call", BODY)))


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_signature_counts_for_one_purpose_only(purpose: str) -> None:
    """A result that could be replayed as a call would let a worker submit in others' names."""
    signed = SIGNER.sign(purpose, BODY)
    for other in set(PURPOSES) - {purpose}:
        with pytest.raises(BadSignatureError):
            SIGNER.verify(other, signed)


def test_a_foreign_key_is_told_apart_from_a_forgery() -> None:
    """A container gives an input of an unknown key back, and buries one that was forged."""
    other = Signer(b"j" * 32)
    with pytest.raises(UnknownKeyError, match=SIGNER.key_id.hex()):
        SIGNER.verify("call", other.sign("call", BODY))
    with pytest.raises(BadSignatureError):
        SIGNER.verify("call", SIGNER.key_id + other.sign("call", BODY)[4:])


def test_fingerprint_and_key_id_belong_to_the_key_and_do_not_show_it() -> None:
    assert Signer(b"k" * 32).fingerprint == SIGNER.fingerprint != Signer(b"j" * 32).fingerprint
    assert SIGNER.fingerprint[:8] != SIGNER.key_id.hex()
    assert len(SIGNER.key_id) == 4


def test_a_signer_for_a_place_signs_and_verifies_as_its_signer_does() -> None:
    here, there = SIGNER.at(b"here"), SIGNER.at(b"there")
    signed = here.sign(BODY)
    assert signed == SIGNER.sign_at(b"here", BODY)
    assert here.sign_each([BODY, b""]) == [signed, here.sign(b"")]
    assert here.verify(signed) == SIGNER.verify_at(b"here", signed) == BODY
    forged = [signed[:-1], signed + b"x", there.sign(BODY), SIGNER.sign("object", BODY)]
    for data in (*forged, b"", Signer(b"other").at(b"here").sign(BODY)):
        with pytest.raises(FORGED):
            here.verify(data)


def test_the_mac_tells_requests_apart() -> None:
    first, second = SIGNER.sign("call", b"1"), SIGNER.sign("call", b"2")
    assert len({mac_of(first), mac_of(second)}) == 2
    assert mac_of(first) == mac_of(SIGNER.sign("call", b"1"))


PLACE = ("stored", "main", "aws", "7")


@pytest.mark.parametrize("variables", [{}, {"A": ""}, {"B": "ü\n", "A": "\udcff" * 9}], ids=len)
def test_what_was_sealed_opens_at_its_place_and_is_unreadable(variables: dict[str, str]) -> None:
    sealed = SIGNER.seal(variables, PLACE)
    assert Signer(b"k" * 32).open(sealed, PLACE) == variables
    assert sealed == SIGNER.seal(dict(reversed(variables.items())), PLACE)
    assert all(key.encode() not in sealed for key in variables if len(key) > 2)


def test_what_was_sealed_opens_nowhere_else_and_with_no_other_key() -> None:
    sealed = SIGNER.seal({"TOKEN": "hidden value"}, PLACE)
    assert b"hidden" not in sealed
    assert b"TOKEN" not in sealed
    others = [("stored", "main", "aws", "8"), ("stored", "main", "aws7"), ("inline", "aws"), ()]
    for place in others:
        with pytest.raises(BadSignatureError):
            SIGNER.open(sealed, place)
    with pytest.raises(UnknownKeyError):
        Signer(b"s" * 32).open(sealed, PLACE)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises((BadSignatureError, UnknownKeyError)):
            SIGNER.open(bytes(changed), PLACE)
    for length in range(len(sealed)):
        with pytest.raises((BadSignatureError, UnknownKeyError)):
            SIGNER.open(sealed[:length], PLACE)
