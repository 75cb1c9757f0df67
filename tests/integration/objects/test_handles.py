"""Handles: names that are looked up on first use, objects that are made, listed and deleted, and travel."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import qmodal
from qmodal.client.client import Client
from qmodal.exception import AlreadyExistsError, InvalidError, NotFoundError
from qmodal.store.objects.names import ObjectRecord
from qmodal.transport.operation import ask_one
from qmodal.types import DictInfo, QueueInfo

KINDS: list[Any] = [qmodal.Dict, qmodal.Queue]


@pytest.fixture(params=KINDS, ids=["dict", "queue"])
def kind(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A class; what a test names is deleted."""
    yield request.param
    for environment in ("", "other"):
        for each in request.param.objects.list(environment_name=environment):
            request.param.objects.delete(each.name, environment_name=environment)


def use(handle: Any) -> Any:
    """Ask something of the server."""
    return handle.len()


def test_a_name_is_looked_up_on_first_use(kind: Any) -> None:
    handle = kind.from_name("x")
    with pytest.raises(AttributeError, match="not hydrated"):
        _ = handle.object_id
    with pytest.raises(NotFoundError, match=f"{kind.__name__} 'x' not found in environment 'main'"):
        use(handle)
    made = kind.from_name("x", create_if_missing=True)
    assert use(made) == use(handle) == 0
    assert made.object_id == handle.object_id
    assert made.object_id[:3] in ("di-", "qu-")
    assert made.hydrate() is made
    assert handle.name == "x"


def test_environments_have_names_of_their_own(kind: Any) -> None:
    here = kind.from_name("x", create_if_missing=True).hydrate()
    there = kind.from_name("x", create_if_missing=True, environment_name="other").hydrate()
    assert here.object_id != there.object_id
    assert [each.object_id for each in kind.objects.list()] == [here.object_id]


def test_an_id_is_a_handle_as_well(kind: Any) -> None:
    made = kind.from_name("x", create_if_missing=True).hydrate()
    same = kind.from_id(made.object_id)
    assert use(same) == 0
    info = same.info()
    assert type(info) is (DictInfo if kind is qmodal.Dict else QueueInfo)
    assert (info.name, info.created_by) == ("x", None)
    assert abs(datetime.now(UTC) - info.created_at) < timedelta(minutes=5)
    for wrong in ("x", "fu-00" + "a" * 20, made.object_id[:-1], "di-99" + "a" * 20):
        with pytest.raises(InvalidError, match="is not the id of a"):
            kind.from_id(wrong)


def test_objects_are_created_listed_and_deleted(kind: Any) -> None:
    for name in "abc":
        kind.objects.create(name)
    with pytest.raises(AlreadyExistsError, match=f"{kind.__name__} 'a' already exists"):
        kind.objects.create("a")
    kind.objects.create("a", allow_existing=True)
    assert {each.name for each in kind.objects.list()} == {"a", "b", "c"}
    assert len(kind.objects.list(max_objects=2)) == 2
    assert kind.objects.list(created_before="2020-01-01") == []
    assert len(kind.objects.list(created_before=datetime.now(UTC) + timedelta(hours=1))) == 3
    for bad in ({"max_objects": -1}, {"created_before": "soon"}):
        with pytest.raises(InvalidError):
            kind.objects.list(**bad)
    kind.objects.delete("b")
    with pytest.raises(NotFoundError, match="'b' not found"):
        kind.objects.delete("b")
    kind.objects.delete("b", allow_missing=True)
    assert {each.name for each in kind.objects.list()} == {"a", "c"}


def test_the_newest_are_listed_first(kind: Any, client: Client) -> None:
    for name in ("old", "middle", "new"):
        kind.objects.create(name)
    assert [each.name for each in kind.objects.list()] == ["new", "middle", "old"]
    (handle,) = [each for each in kind.objects.list() if each.name == "new"]
    key = client.keys.names(handle._kind)
    record = ObjectRecord(handle._kind, handle.object_id, "main", "new", 1)
    client.run(ask_one(b"HSET", key, b"main/new", record.seal(client.signer)))
    assert [each.name for each in kind.objects.list()] == ["middle", "old", "new"]


def test_what_was_deleted_is_gone_for_old_handles_also_if_there_is_a_new_one(kind: Any) -> None:
    old = kind.from_name("x", create_if_missing=True).hydrate()
    kind.objects.delete("x")
    new = kind.from_name("x", create_if_missing=True).hydrate()
    assert use(new) == 0
    assert new.object_id != old.object_id
    acts: list[Callable[[], object]] = [lambda: use(old), old.clear, old.info, old.hydrate]
    for act in acts:
        with pytest.raises(NotFoundError, match="not found"):
            act()


def test_no_use_of_a_deleted_object_brings_anything_back(client: Client) -> None:
    d = qmodal.Dict.from_name("x", create_if_missing=True).hydrate()
    q = qmodal.Queue.from_name("x", create_if_missing=True).hydrate()
    d["a"], _ = 1, q.put(1)
    qmodal.Dict.objects.delete("x")
    qmodal.Queue.objects.delete("x")
    uses: list[Callable[[], object]] = [
        lambda: d.put("a", 1),
        lambda: d.put("a", 1, skip_if_exists=True),
        lambda: d.get("a"),
        lambda: d.pop("a", 1),
        lambda: list(d.items()),
        lambda: q.put(1),
        lambda: q.get(timeout=1),
        lambda: q.get(block=False),
        lambda: list(q.iterate()),
        lambda: q.clear(all=True),
        lambda: q.len(total=True),
    ]
    for act in uses:
        with pytest.raises(NotFoundError, match="not found"):
            act()
    left = client.run(ask_one(b"KEYS", f"{client.settings.prefix}:*:object:*"))
    assert [name for name in left if not name.endswith(b":gone")] == []


def test_a_name_whose_object_is_lost_is_taken_over(kind: Any, client: Client) -> None:
    """As if a process had died between two steps of a deletion."""
    lost = kind.from_name("x", create_if_missing=True).hydrate()
    client.run(ask_one(b"UNLINK", client.keys.object(lost.object_id)))
    assert kind.objects.list() == []
    with pytest.raises(NotFoundError):
        kind.from_name("x").hydrate()
    assert kind.from_name("x", create_if_missing=True).hydrate().object_id != lost.object_id


def test_an_object_that_was_named_and_not_kept_is_kept_by_the_next_look(
    kind: Any, client: Client
) -> None:
    """As if its maker had died between the two."""
    made = kind.from_name("x", create_if_missing=True).hydrate()
    key = client.keys.object(made.object_id)
    client.run(ask_one(b"PEXPIRE", key, 60_000))
    kind.from_name("x").hydrate()
    assert client.run(ask_one(b"PTTL", key)) == -1


def test_many_that_make_the_same_name_at_once_get_one_object(kind: Any, client: Client) -> None:
    async def race() -> set[str]:
        handles = [kind.from_name("x", create_if_missing=True) for _ in range(10)]
        await asyncio.gather(*(each.hydrate.aio() for each in handles))
        return {each.object_id for each in handles}

    assert len(asyncio.run(race())) == 1
    left = client.run(ask_one(b"KEYS", f"{client.settings.prefix}:*:object:*"))
    assert len(left) == 1


def test_handles_travel(kind: Any) -> None:
    by_name = kind.from_name("x", create_if_missing=True)
    lazy = pickle.loads(pickle.dumps(by_name))
    use(by_name)
    assert use(lazy) == 0
    known = pickle.loads(pickle.dumps({"handle": [by_name]}))["handle"][0]
    assert known.object_id == lazy.object_id == by_name.object_id
    with qmodal.Dict.ephemeral() as d:
        d["handle"] = by_name
        assert d["handle"].object_id == by_name.object_id


def test_ephemeral_objects_end_with_their_block(kind: Any) -> None:
    with kind.ephemeral() as made:
        assert use(made) == 0
        assert made.name is None
    with pytest.raises(NotFoundError, match="ephemeral"):
        use(made)

    async def other() -> None:
        async with kind.ephemeral.aio() as again:
            assert await again.len.aio() == 0
        with pytest.raises(NotFoundError):
            await again.len.aio()

    asyncio.run(other())


def test_modals_modules_have_the_classes() -> None:
    from qmodal.dict import Dict
    from qmodal.queue import Queue

    assert (Dict, Queue) == (qmodal.Dict, qmodal.Queue)
    for old in ("lookup", "delete", "create_deployed"):
        with pytest.raises(AttributeError, match="does not exist any more"):
            getattr(Dict, old)("x")
