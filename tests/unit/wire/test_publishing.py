"""The publishing key: what it signs, what others believe, and what each error says to do."""

from __future__ import annotations

import pytest

from qmodal.config import Settings
from qmodal.embedded.credentials import credential_variables, receiving
from qmodal.exception import ConfigurationError
from qmodal.wire.publishing import (
    MOST_VERIFIED,
    Publisher,
    complete,
    public_of,
    with_publisher,
)
from qmodal.wire.signing import BadSignatureError, Signer, UnknownKeyError

SIGNER = Signer(b"k" * 32)
VERSION = SIGNER.sign("code", b"a version")
OURS, THEIRS = b"o" * 32, b"t" * 32


def publisher(private: bytes | None = None, *accepted: bytes) -> Publisher:
    return Publisher(SIGNER.key_id, private, [public_of(each) for each in accepted])


def test_what_a_publisher_has_signed_is_believed_by_who_has_the_public_half() -> None:
    data = publisher(OURS, OURS).sign(VERSION)
    receiver = publisher(None, THEIRS, OURS)
    assert receiver.verify(data) == VERSION
    assert receiver.verify(data) == VERSION  # as it is known by now
    assert publisher(OURS, OURS).sign(VERSION) == data, "the same version is the same bytes"


def test_without_publishing_keys_the_signing_key_is_all_there_is() -> None:
    alone = publisher()
    assert alone.may_publish
    assert alone.verify(alone.sign(VERSION)) == VERSION


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (VERSION, UnknownKeyError, "not published with a publishing key that is accepted"),
        (publisher(THEIRS, THEIRS).sign(VERSION), UnknownKeyError, "add its key"),
        (publisher(OURS, OURS).sign(VERSION)[:68], UnknownKeyError, "not published"),
        (publisher(OURS, OURS).sign(VERSION) + b"x", BadSignatureError, "does not fit"),
        (b"", UnknownKeyError, "not published"),
    ],
    ids=["the signing key only", "another publisher", "no version", "changed", "nothing"],
)
def test_nothing_else_is_believed(data: bytes, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        publisher(None, OURS).verify(data)


def test_a_publisher_that_nobody_has_named_is_named_in_the_error() -> None:
    with pytest.raises(UnknownKeyError, match="set QMODAL_PUBLISHERS"):
        publisher().verify(publisher(OURS, OURS).sign(VERSION))


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (publisher(None, OURS), "cannot publish apps.*QMODAL_PUBLISHING_KEY_FILE"),
        (publisher(THEIRS, OURS), f"add its public half, {public_of(THEIRS).hex()}"),
    ],
    ids=["no private key", "another private key"],
)
def test_who_may_not_publish_is_told_what_to_do(one: Publisher, says: str) -> None:
    for refused in (one.check, lambda: one.sign(VERSION)):
        with pytest.raises(ConfigurationError, match=says):
            refused()


def test_what_is_remembered_as_verified_has_a_bound() -> None:
    maker, receiver = publisher(OURS, OURS), publisher(None, OURS)
    for number in range(MOST_VERIFIED + 2):
        receiver.verify(maker.sign(VERSION + number.to_bytes(4)))
    assert len(receiver._verified) <= MOST_VERIFIED


def test_who_has_a_key_to_publish_with_accepts_it_and_others_get_the_public_half() -> None:
    settings = complete(Settings(publishing_key=OURS))
    assert settings == with_publisher(Settings(), OURS)
    assert Settings.from_environ(settings.to_environ()).publishers == (public_of(OURS),)
    assert OURS.hex() not in str(settings.to_environ())
    assert OURS.hex() not in repr(settings)
    assert repr(OURS) not in repr(settings)
    assert receiving(Settings(publishing_key=OURS)) == Settings(publishers=(public_of(OURS),))
    assert receiving(Settings()) == Settings()


def test_no_process_that_another_one_starts_finds_the_private_key() -> None:
    names = ("QMODAL_PUBLISHING_KEY", "QMODAL_PUBLISHING_KEY_FILE")
    assert credential_variables(dict.fromkeys(names, "x"), Settings()) == list(names)


@pytest.mark.parametrize("name", ["QMODAL_PUBLISHING_KEY", "QMODAL_PUBLISHERS"])
def test_a_key_that_is_none_is_refused_without_being_shown(name: str) -> None:
    with pytest.raises(ConfigurationError, match="64 hex digits") as caught:
        Settings.from_environ({name: "hunter2hunter2hunter2"})
    assert "hunter2" not in str(caught.value)
