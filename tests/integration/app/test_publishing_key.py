"""Who has the signing key and no publishing key: its versions run nowhere, and it is told that it may not publish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qmodal import App
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import ConfigurationError
from qmodal.functions.definition import NamedSource
from qmodal.runner.history import history, rollback
from qmodal.runner.publish import document_of
from qmodal.runner.run import ensure_server
from qmodal.spec.options import validated_options
from qmodal.transport.operation import Op, ask_one
from qmodal.wire.publishing import with_publisher
from qmodal.wire.signing import UnknownKeyError
from qmodal_autoscaler.cluster.catalog import Catalog, UnknownTermsError
from qmodal_workers.spawn.start_plan import Planner
from tests.support.stacks import own_home
from tests.support.stage import Stage

KEY = b"p" * 32


@pytest.fixture
def deployer(settings: Settings) -> Iterator[Client]:
    """A client that may publish, and is the one of this process."""
    made = Client(with_publisher(settings, KEY))
    before = clients.use(made)
    yield made
    clients.use(before)
    made.close()


@pytest.fixture
def caller(deployer: Client) -> Iterator[Client]:
    """One that has the public half only."""
    made = Client(replace(deployer.settings, publishing_key=None))
    yield made
    made.close()


@pytest.fixture
def stage(deployer: Client) -> Iterator[Stage]:
    """An app with a function `f` that was published twice."""
    made = Stage(deployer)
    for _ in range(2):
        made.publish(f=validated_options())
    yield made
    deployer.run(deployer.apps.stop(made.record()))


def forge(stage: Stage) -> None:
    """Write the current version as somebody can who has the signing key only."""
    keys, apps = stage.client.keys, stage.client.apps
    published = stage.client.run(apps.version(stage.app_id, 2))
    assert published is not None
    signed = stage.client.publisher.verify(published)
    stage.client.run(ask_one(b"SET", keys.version(stage.app_id, 2), signed))


def plan(client: Client, pool: str) -> object:
    async def planned() -> object:
        try:
            return await Planner(client).plan(pool)
        finally:
            await client.aclose()

    return asyncio.run(planned())


def terms(client: Client, stage: Stage) -> object:
    """What the autoscaler makes of it; what it cannot read is said, and it goes on."""
    catalog, pool = Catalog(client), stage.pools["f"]
    reads: list[Op[None]] = [*catalog.read_specs([pool]), *catalog.read_apps([stage.app_id])]
    for read in reads:
        client.run(read)
    for read in catalog.read_versions([stage.app_id]):
        client.run(read)
    return catalog.terms(pool)


def handle(client: Client, stage: Stage) -> object:
    clients.use(client)
    source = NamedSource(stage.app_id, "f", None, is_class=False)
    try:
        return client.run(source.definition())
    finally:
        clients.use(stage.client)


READS: dict[str, Callable[[Client, Stage], object]] = {
    "a handle": handle,
    "the start of a container": lambda client, stage: plan(client, stage.pools["f"]),
    "the autoscaler": terms,
    "the history": lambda client, stage: client.run(history(client, stage.record())),
}


@pytest.mark.parametrize("reader", READS)
def test_a_version_without_a_publisher_is_read_by_nobody(
    caller: Client, stage: Stage, reader: str
) -> None:
    assert READS[reader](caller, stage)
    forge(stage)
    with pytest.raises((UnknownKeyError, UnknownTermsError), match="publishing key"):
        READS[reader](Client(caller.settings), stage)


def test_who_may_not_publish_is_told_so_before_anything_is_written(
    caller: Client, stage: Stage
) -> None:
    app = App("shop")
    app.function(serialized=True, name="f")(lambda: 1)
    clients.use(caller)
    with pytest.raises(ConfigurationError, match="cannot publish apps"):
        app.deploy()
    with pytest.raises(ConfigurationError, match="cannot publish apps"):
        caller.run(rollback(caller, stage.record(), 1))
    clients.use(stage.client)
    assert caller.run(caller.apps.find("main", "shop")) is None
    assert caller.run(caller.apps.record(stage.app_id)) == stage.record()


def test_a_deployer_goes_back_and_others_believe_it(
    deployer: Client, caller: Client, stage: Stage
) -> None:
    version = deployer.run(rollback(deployer, stage.record(), 1))
    stage.number = version.number
    found = caller.run(caller.specs.of_record(stage.record()))
    assert found is not None
    assert found.value == version
    assert caller.run(caller.apps.version(stage.app_id, 3)) == document_of(deployer, version)


def private_halves() -> tuple[bool, bool, str]:
    """Whether this process has a private publishing key, may publish, and what its variables say."""
    settings = clients.current().settings
    said = " ".join(name for name in os.environ if "PUBLISHING" in name)
    return settings.publishing_key is not None, clients.current().publisher.may_publish, said


def test_a_function_of_a_private_stack_has_no_private_key(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    file = tmp_path / "halves.py"
    app = App("halves")
    look = app.function(serialized=True, name="look")(private_halves)
    with ensure_server(own_home(tmp_path_factory)) as client, app.run():
        assert client.publisher.may_publish
        assert client.settings.publishing_key is not None
        assert look.remote() == (False, False, "")
        folder = client.stack.place.folder if client.stack else file
        secret = client.settings.publishing_key.hex().encode()
        files = [each for each in folder.rglob("*") if each.is_file()]
        assert files
        assert not any(secret in each.read_bytes() for each in files), "it is on the disk"
