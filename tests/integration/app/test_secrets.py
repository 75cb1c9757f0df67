"""Stored secrets as programs use them: made, changed, listed and deleted, and required by an app that is published."""

from __future__ import annotations

import asyncio
import datetime
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import qmodal as modal
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.exception import AlreadyExistsError, InvalidError, NotFoundError
from qmodal.store.objects.secrets import ForeignSecretError
from qmodal.transport.operation import ask_one
from tests.support.servers import TestServer

Secret = modal.Secret


@pytest.fixture(autouse=True)
def used(client: Client) -> Iterator[Client]:
    """The process's client, whose secrets go with the test."""
    before = clients.use(client)
    yield client
    clients.use(before)
    for each in client.run(client.secrets.all()):
        client.run(client.secrets.delete(each.environment, each.name))


def values(client: Client, name: str, environment: str = "main") -> dict[str, str]:
    stored = client.run(client.secrets.find(environment, name))
    assert stored is not None
    return client.signer.open(stored.sealed, stored.place)


def plain(x: int) -> int:
    return x


def test_a_secret_is_made_once_and_changed_by_its_keys(used: Client) -> None:
    Secret.objects.create("aws", {"A": "1", "B": "2"})
    with pytest.raises(AlreadyExistsError, match="--force"):
        Secret.objects.create("aws", {"A": "9"})
    Secret.objects.create("aws", {"A": "9"}, allow_existing=True)
    handle = Secret.from_name("aws")
    before = handle.hydrate().object_id
    handle.update({"B": "3", "C": "4"})
    assert values(used, "aws") == {"A": "1", "B": "3", "C": "4"}
    assert Secret.from_name("aws").hydrate().object_id == before
    Secret.objects.delete("aws")
    Secret.objects.create("aws", {"A": "9"})
    assert Secret.from_name("aws").hydrate().object_id != before


def test_what_is_not_there_says_how_to_store_it(used: Client) -> None:
    for ask in (
        Secret.from_name("none").hydrate,
        Secret.from_name("none").info,
        lambda: Secret.from_name("none").update({"A": "1"}),
    ):
        with pytest.raises(NotFoundError, match="qmodal secret create none KEY=VALUE"):
            ask()
    with pytest.raises(NotFoundError):
        Secret.objects.delete("none")
    Secret.objects.delete("none", allow_missing=True)
    with pytest.raises(AttributeError, match="hydrated"):
        _ = Secret.from_name("none").object_id
    for bad in ("a b", "", "a/b"):
        with pytest.raises(InvalidError):
            Secret.objects.create(bad, {"A": "1"})
        with pytest.raises(InvalidError):
            Secret.from_name("a", environment_name=bad or "/").hydrate()


def test_environments_have_secrets_of_their_own_and_lists_begin_with_the_newest(
    used: Client,
) -> None:
    Secret.objects.create("first", {"A": "1"})
    Secret.objects.create("second", {"A": "2"})
    Secret.objects.create("first", {"A": "3"}, environment_name="prod")
    assert [each.name for each in Secret.objects.list()] == ["second", "first"]
    assert [each.name for each in Secret.objects.list(max_objects=1)] == ["second"]
    assert Secret.objects.list(created_before="2001-01-01") == []
    assert values(used, "first", "prod") == {"A": "3"}
    (found,) = Secret.objects.list(environment_name="prod")
    info = found.info()
    assert (info.name, info.environment_name, info.last_used) == ("first", "prod", None)
    assert abs(info.created_at - datetime.datetime.now(datetime.UTC)).total_seconds() < 60


def test_verbs_have_asyncio_forms(used: Client) -> None:
    async def program() -> None:
        await Secret.objects.create.aio("aws", {"A": "1"})
        await Secret.from_name("aws").update.aio({"A": "2"})
        assert (await Secret.from_name("aws").info.aio()).name == "aws"
        assert len(await Secret.objects.list.aio()) == 1
        await Secret.objects.delete.aio("aws")
        await used.aclose()

    asyncio.run(program())


def test_no_change_of_several_at_once_is_lost(used: Client) -> None:
    Secret.objects.create("aws", {"A": "1"})
    names = [f"K{number}" for number in range(8)]
    update = Secret.from_name("aws").update
    threads = [threading.Thread(target=update, args=({name: name},)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(used, "aws") == {"A": "1", **{name: name for name in names}}


def test_a_record_of_somebody_else_is_refused_and_can_be_replaced(
    used: Client, server: TestServer
) -> None:
    Secret.objects.create("aws", {"A": "1"})
    Secret.objects.create("other", {"A": "2"})
    copied = used.run(ask_one(b"HGET", used.keys.secrets, b"main/other"))
    for forged in (copied, b"", b"x" * 100, copied[:-1]):
        used.run(ask_one(b"HSET", used.keys.secrets, b"main/aws", forged))
        with pytest.raises(ForeignSecretError, match="--force"):
            Secret.from_name("aws").hydrate()
        assert [each.name for each in Secret.objects.list()] == ["other"]
    assert used.run(used.secrets.create("main", "aws", {"A": "3"}, replace=True))
    assert values(used, "aws") == {"A": "3"}


def test_an_app_is_not_published_without_its_secrets(used: Client) -> None:
    app = modal.App("needy")
    secret = Secret.from_name("aws", required_keys=["A", "B"])
    handle: Any = app.function(secrets=[secret], serialized=True)(plain)
    with pytest.raises(NotFoundError, match=r"create aws A=\.\.\. B=\.\.\. --env main"):
        app.deploy()
    Secret.objects.create("aws", {"A": "1"})
    with pytest.raises(NotFoundError, match="lacks B"):
        app.deploy()
    secret.update({"B": "2"})
    app.deploy()
    assert handle.info().secrets == ["aws"]
    app.stop()


def test_a_publication_with_the_same_secrets_keeps_its_number(used: Client) -> None:
    def version(value: str) -> int:
        app = modal.App("steady")
        app.function(secrets=[Secret.from_dict({"TOKEN": value})], serialized=True)(plain)
        app.deploy()
        assert app._registry.version is not None
        return app._registry.version.number

    assert [version(value) for value in ("hidden one", "hidden one", "another")] == [1, 1, 2]
    key = used.keys.fleet("app:*:version:*")
    for each in used.run(ask_one(b"KEYS", key)):
        assert b"hidden" not in used.run(ask_one(b"GET", each))
    modal.App.lookup("steady").stop()
