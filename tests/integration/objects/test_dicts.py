"""Dict: entries, keys, locks, lifetimes and limits, as Modal has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

import qmodal
from qmodal import dict as dict_module
from qmodal.client.client import Client
from qmodal.exception import InvalidError, NotFoundError, RequestSizeError, SerializationError
from qmodal.store.objects import dicts
from qmodal.store.objects.sealed import pack_key
from qmodal.transport.operation import ask, ask_one


def iter_nothing() -> Iterator[int]:
    yield from ()


@dataclass
class Point:
    x: int


VALUES: list[Any] = [
    None,
    0,
    "",
    b"x",
    [1, [2]],
    {"a": (1, 2)},
    {1, 2},
    Point(3),
    datetime(2026, 1, 2, tzinfo=UTC),
]
KEYS: list[Any] = [1, 1.0, True, "1", b"1", None, (1,), (1.0,), ("a", (b"b", None)), -0.0, 0.0]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_equal_and_of_its_type(d: qmodal.Dict, value: Any) -> None:
    d["key"] = value
    found = d["key"]
    assert found == value
    assert type(found) is type(value)


def test_values_are_copies(d: qmodal.Dict) -> None:
    d["list"] = [1]
    d["list"].append(2)
    assert d["list"] == [1]


def test_keys_are_compared_by_their_bytes(d: qmodal.Dict) -> None:
    for number, key in enumerate(KEYS):
        d[key] = number
    assert [d[key] for key in KEYS] == list(range(len(KEYS)))
    assert sorted(map(repr, d.keys())) == sorted(map(repr, KEYS))
    assert sorted(d.values()) == list(range(len(KEYS)))
    assert {repr(key): value for key, value in d.items()} == {
        repr(key): n for n, key in enumerate(KEYS)
    }


@pytest.mark.parametrize("key", [[1], {1: 2}, {1}, frozenset({1}), Point(1), ("a", [1]), object])
def test_what_cannot_be_a_key_is_refused(d: qmodal.Dict, key: Any) -> None:
    for act in (lambda: d.put(key, 1), lambda: d.get(key), lambda: key in d, lambda: d.pop(key)):
        with pytest.raises(InvalidError, match="cannot be a key of a Dict: keys are text"):
            act()
    assert d.len() == 0


def test_reading_what_is_not_there(d: qmodal.Dict) -> None:
    assert d.get("a") is None
    assert d.get("a", 7) == 7
    assert d.pop("a", 7) == 7
    assert d.pop("a", None) is None
    assert not d.contains("a")
    assert "a" not in d
    actions: list[Callable[[], Any]] = [
        lambda: d["a"],
        lambda: d.pop("a"),
        lambda: d.__delitem__("a"),
    ]
    for act in actions:
        with pytest.raises(KeyError, match=r"'a' not in dict di-"):
            act()


def test_entries_are_put_and_removed(d: qmodal.Dict) -> None:
    assert d.put("a", 1) is True
    d.update({"b": 2, 3: "c"}, d=4)
    d.update()
    assert d.len() == 4
    assert d.contains("a")
    assert "b" in d
    assert d.pop("a") == 1
    del d["b"]
    assert dict(d.items()) == {3: "c", "d": 4}
    d.clear()
    assert (d.len(), list(d.items())) == (0, [])
    assert not hasattr(d, "__len__")


def test_of_many_that_put_at_once_if_there_is_none_one_succeeds(d: qmodal.Dict) -> None:
    async def race() -> list[bool]:
        puts = (d.put.aio("lock", n, skip_if_exists=True) for n in range(20))
        return await asyncio.gather(*puts)

    won = asyncio.run(race())
    assert won.count(True) == 1
    assert d.pop("lock") == won.index(True)
    assert d.put("lock", "again", skip_if_exists=True)


def test_of_many_that_pop_at_once_one_gets_the_value(d: qmodal.Dict) -> None:
    d["a"] = 1

    async def race() -> list[Any]:
        return await asyncio.gather(*(d.pop.aio("a", 0) for _ in range(20)))

    assert sorted(asyncio.run(race())) == [0] * 19 + [1]


def test_each_method_has_an_async_form(d: qmodal.Dict) -> None:
    async def use() -> None:
        await d.put.aio("a", 1)
        await d.update.aio({"b": 2})
        assert await d.get.aio("a") == 1
        assert await d.__getitem__.aio("b") == 2
        assert await d.contains.aio("a")
        assert await d.len.aio() == 2
        assert {key async for key in d.keys.aio()} == {"a", "b"}
        assert {value async for value in d.values.aio()} == {1, 2}
        assert {item async for item in d.items.aio()} == {("a", 1), ("b", 2)}
        assert await d.pop.aio("a") == 1
        await d.clear.aio()
        assert (await d.info.aio()).name is None

    asyncio.run(use())


def test_thousands_of_entries_are_one_update_and_listed_once_each(d: qmodal.Dict) -> None:
    d.update({n: str(n) for n in range(10_000)})
    assert d.len() == 10_000
    assert sorted(d.items()) == [(n, str(n)) for n in range(10_000)]


def test_large_values_are_listed_in_several_pages(
    d: qmodal.Dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicts, "VALUE_BYTES_AT_ONCE", 3000)
    d.update({n: bytes([n]) * 1000 for n in range(20)})
    assert sorted(d.items()) == [(n, bytes([n]) * 1000) for n in range(20)]


def test_what_is_too_large_is_refused(d: qmodal.Dict, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestSizeError, match=r"Dict\.update request is too large: it has 10001"):
        d.update(dict.fromkeys(range(10_001)))
    monkeypatch.setattr(dict_module, "MOST_REQUEST_BYTES", 5000)
    with pytest.raises(RequestSizeError, match=r"Dict\.put request is too large"):
        d["a"] = bytes(5001)
    with pytest.raises(RequestSizeError, match=r"Dict\.update request is too large"):
        d.update(a=bytes(3000), b=bytes(3000))
    assert d.len() == 0


def test_what_cannot_be_pickled_says_so(d: qmodal.Dict) -> None:
    with pytest.raises(SerializationError, match="a value of type generator cannot be pickled"):
        d["a"] = iter_nothing()


def shift(client: Client, d: qmodal.Dict, key: bytes, hours: int) -> None:
    """Have an entry used so many hours earlier."""
    client.run(ask_one(b"ZINCRBY", client.keys.used(d.object_id), -hours, key))


def test_an_entry_lasts_for_seven_days_after_its_last_use(client: Client, d: qmodal.Dict) -> None:
    d.update(a=1, b=2, c=3)
    a, b, c = b"\xa1a", b"\xa1b", b"\xa1c"
    for key, hours in ((a, 160), (b, 160), (c, 170)):
        shift(client, d, key, hours)
    assert d["a"] == 1  # used again
    assert d.get("c") is None
    assert "c" not in d
    for key in (a, b):
        shift(client, d, key, 10)
    assert d.put("b", 4, skip_if_exists=True)
    assert (d.len(), dict(d.items())) == (2, {"a": 1, "b": 4})


def test_a_key_that_is_put_again_and_again_is_listed_whatever_happened_meanwhile(
    client: Client, d: qmodal.Dict
) -> None:
    """The first put of a key notes its use; the next ones look whether that is still noted."""
    key = b"\xa1a"
    d["a"] = 0

    def stay() -> None:
        pass

    meanwhile: list[Callable[[], object]] = [stay, d.clear, lambda: d.pop("a")]
    meanwhile.append(lambda: shift(client, d, key, 200))
    meanwhile.append(lambda: client.run(ask_one(b"ZREM", client.keys.used(d.object_id), key)))
    for number, act in enumerate(meanwhile):
        act()
        d["a"] = number
        assert list(d.items()) == [("a", number)]
        left = client.run(ask_one(b"PTTL", client.keys.entries(d.object_id)))
        assert 0 < left <= 120_000


def put_new(d: qmodal.Dict, *, first: int, number: int) -> dict[Any, Any]:
    """Put so many keys that were not put before."""
    put = {key: str(key) for key in range(first, first + number)}
    for key, value in put.items():
        d[key] = value
    return put


def pop_all(client: Client, d: qmodal.Dict) -> None:
    for key in list(d.keys()):
        d.pop(key)


def add_old(client: Client, d: qmodal.Dict) -> None:
    client.run(ask_one(b"ZADD", client.keys.used(d.object_id), 1, pack_key("old")))
    client.run(ask_one(b"HSET", client.keys.entries(d.object_id), pack_key("old"), b"x"))


MEANWHILE: list[tuple[Callable[[Client, qmodal.Dict], object], bool]] = [
    (lambda client, d: None, True),
    (lambda client, d: d.clear(), False),
    (pop_all, False),
    (add_old, True),
]


@pytest.mark.parametrize(("act", "stays"), MEANWHILE)
def test_new_keys_are_listed_and_have_a_lifetime_whatever_happened_meanwhile(
    client: Client, act: Callable[[Client, qmodal.Dict], object], stays: bool
) -> None:
    """Most new keys of a dictionary that was looked after are put by plain commands."""
    d = qmodal.Dict.from_name("steady", create_if_missing=True)
    expected = put_new(d, first=0, number=3)
    assert d.object_id in client.dicts.steady
    act(client, d)
    if not stays:
        expected.clear()
    expected |= put_new(d, first=10, number=1)
    for name in (client.keys.entries(d.object_id), client.keys.used(d.object_id)):
        assert client.run(ask_one(b"PTTL", name)) > 7 * 24 * 3_600_000
    expected |= put_new(d, first=20, number=32)  # after so many they are looked after again
    assert client.run(ask_one(b"HLEN", client.keys.entries(d.object_id))) == len(expected)
    assert dict(d.items()) == expected
    scores = client.run(ask_one(b"ZRANGE", client.keys.used(d.object_id), 0, -1, b"WITHSCORES"))
    now = int(client.run(ask_one(b"TIME"))[0]) / 3600
    assert all(now - 1 < int(score) < now + 2 for score in scores[1::2])
    qmodal.Dict.objects.delete("steady")


def test_an_ephemeral_dictionary_is_put_into_by_the_script(client: Client, d: qmodal.Dict) -> None:
    for number in range(5):
        d[number] = number
    assert d.object_id not in client.dicts.steady
    assert d.len() == 5


def test_a_dictionary_that_is_deleted_takes_nothing_and_leaves_nothing(client: Client) -> None:
    """Neither a key that was put here of late nor a new one."""
    d = qmodal.Dict.from_name("gone", create_if_missing=True)
    d["a"] = 1
    d["a"] = 2
    qmodal.Dict.objects.delete("gone")
    acts: list[Callable[[], object]] = [lambda: d.put("a", 3), lambda: d.put("b", 1)]
    acts += [lambda: d.get("a"), lambda: d["a"]]
    for act in acts:
        with pytest.raises(NotFoundError):
            act()
    keys, object_id = client.keys, d.object_id
    left = (keys.object(object_id), keys.entries(object_id), keys.used(object_id))
    assert client.run(ask_one(b"EXISTS", *left)) == 0


def test_a_put_and_a_get_survive_that_the_connection_is_lost(
    client: Client, d: qmodal.Dict
) -> None:
    for n in range(3):
        client.run(ask_one(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"no"))
        d["a"] = n
        client.run(ask_one(b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"no"))
        assert d["a"] == n


def test_new_entries_drop_those_that_nobody_uses(client: Client, d: qmodal.Dict) -> None:
    d.update(dict.fromkeys("abc"))
    for key in (b"\xa1a", b"\xa1b", b"\xa1c"):
        shift(client, d, key, 200)
    for n in range(2):
        d[n] = n
    assert client.run(ask_one(b"HLEN", client.keys.entries(d.object_id))) == 2


def test_new_entries_of_a_named_dictionary_drop_old_ones_now_and_then(client: Client) -> None:
    d = qmodal.Dict.from_name("busy", create_if_missing=True)
    d.update(dict.fromkeys(map(str, range(100))))
    for n in range(100):
        shift(client, d, pack_key(str(n)), 200)
    for n in range(400):
        d[n] = n
    assert client.run(ask_one(b"HLEN", client.keys.entries(d.object_id))) < 500
    qmodal.Dict.objects.delete("busy")


def test_entries_of_a_named_dictionary_have_a_lifetime(client: Client) -> None:
    d = qmodal.Dict.from_name("kept", create_if_missing=True)
    d["a"] = 1
    names = (client.keys.entries(d.object_id), client.keys.used(d.object_id))
    lives = client.run(ask(*((b"PTTL", name) for name in names)))
    assert all(7 * 24 * 3_600_000 < left <= 169 * 3_600_000 for left in lives)
    assert client.run(ask_one(b"PTTL", client.keys.object(d.object_id))) == -1
    qmodal.Dict.objects.delete("kept")
