"""What somebody without the signing key writes into Redis: noticed, left out, and never unpickled."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import qmodal
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.exception import DeserializationError, InternalFailure, VersionError
from qmodal.store.objects.sealed import Pickled, entry_place, pack_key
from qmodal.transport.operation import ask_one
from qmodal.wire.signing import BadSignatureError, UnknownKeyError


class Bomb:
    """Its pickle makes a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._file),)


@pytest.fixture
def forged(client: Client, tmp_path: Path) -> list[bytes]:
    """Bytes that a person without the key can make."""
    pickled = pickle.dumps(Bomb(tmp_path / "run"))
    body = Pickled("p", "3.11", "int", pickled).pack()
    key_id = client.signer.key_id
    return [b"", b"x", pickled, body, key_id + bytes(16) + body, bytes(20) + b"m\x01"]


def test_a_dict_opens_no_value_that_was_not_put(
    client: Client, d: qmodal.Dict, forged: list[bytes], tmp_path: Path
) -> None:
    d["a"] = 1
    for bad in forged[1:]:
        client.run(ask_one(b"HSET", client.keys.entries(d.object_id), pack_key("a"), bad))
        for act in (lambda: d["a"], lambda: d.pop("a"), lambda: list(d.items())):
            with pytest.raises((BadSignatureError, UnknownKeyError)):
                act()
        d["a"] = 1
    assert not (tmp_path / "run").exists()


def test_a_value_cannot_be_moved_to_another_key_or_dict(client: Client, d: qmodal.Dict) -> None:
    entries = client.keys.entries(d.object_id)
    d.update(a="admin", b="guest")
    raw = client.run(ask_one(b"HGET", entries, pack_key("a")))
    client.run(ask_one(b"HSET", entries, pack_key("b"), raw))
    with pytest.raises(BadSignatureError, match="at this place"):
        d.get("b")
    with qmodal.Dict.ephemeral() as other:
        other["a"] = 1
        client.run(ask_one(b"HSET", client.keys.entries(other.object_id), pack_key("a"), raw))
        with pytest.raises(BadSignatureError):
            other.get("a")


def test_the_bytes_of_a_call_are_no_value(client: Client, d: qmodal.Dict) -> None:
    d["a"] = 1
    for purpose in ("call", "result", "code"):
        body = entry_place(d.object_id, pack_key("a")) + b"m\x01"
        signed = client.signer.sign(purpose, body)
        client.run(ask_one(b"HSET", client.keys.entries(d.object_id), pack_key("a"), signed))
        with pytest.raises(BadSignatureError):
            d.get("a")


def test_a_queue_leaves_out_items_that_were_not_put(
    client: Client,
    q: qmodal.Queue,
    forged: list[bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    q.put(1, partition="other")
    other = client.keys.items(q.object_id, "other")
    (moved,) = client.run(ask_one(b"LRANGE", other, 0, -1))
    q.put("first")
    client.run(ask_one(b"RPUSH", client.keys.items(q.object_id, ""), *forged, moved))
    q.put("last")
    assert list(q.iterate())[-1] == "last"
    assert q.get_many(20) == ["first", "last"]
    client.run(ask_one(b"RPUSH", client.keys.items(q.object_id, ""), *forged))
    client.run(ask_one(b"PEXPIRE", client.keys.items(q.object_id, ""), 60_000))
    assert q.get(block=False) is None
    assert "left out" in caplog.text
    assert not (tmp_path / "run").exists()


def test_a_name_cannot_be_led_to_another_object(client: Client) -> None:
    good = qmodal.Dict.from_name("good", create_if_missing=True).hydrate()
    bad = qmodal.Dict.from_name("bad", create_if_missing=True).hydrate()
    names = client.keys.names("dict")
    raw = client.run(ask_one(b"HGET", names, b"main/bad"))
    for forged in (raw, b"x"):
        client.run(ask_one(b"HSET", names, b"main/good", forged))
        with pytest.raises(InternalFailure, match="cannot be read"):
            qmodal.Dict.from_name("good").hydrate()
        assert [each.name for each in qmodal.Dict.objects.list()] == ["bad"]
    record = client.run(ask_one(b"HGET", client.keys.object(bad.object_id), b"record"))
    client.run(ask_one(b"HSET", client.keys.object(good.object_id), b"record", record))
    with pytest.raises(InternalFailure, match="another object's"):
        good.info()
    client.run(client.dicts.delete(good.object_id))
    client.run(client.dicts.delete(bad.object_id))
    client.run(ask_one(b"UNLINK", names))


def test_where_pickles_are_forbidden_none_is_made_or_opened(client: Client, d: qmodal.Dict) -> None:
    d["a"] = Bomb
    strict = Client(replace(client.settings, payloads="plain"))
    clients.use(strict)
    with pytest.raises(DeserializationError, match="plain"):
        d.get("a")
    with pytest.raises(qmodal.exception.SerializationError, match=r"the value: .*not a plain type"):
        d["b"] = Bomb
    d["b"] = [1]
    strict.close()


def test_code_from_another_python_is_refused(client: Client, d: qmodal.Dict) -> None:
    key = pack_key("a")
    body = Pickled("c", "2.7", "Thing", b"whatever").pack()
    signed = client.signer.sign_at(entry_place(d.object_id, key), body)
    client.run(client.dicts.put(d.object_id, (key, signed)))
    with pytest.raises(VersionError, match=r"a Thing.*Python 2\.7"):
        d.get("a")
