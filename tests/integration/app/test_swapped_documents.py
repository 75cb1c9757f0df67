"""Whoever can write to the server exchanges documents that are signed: nobody takes one for another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from qmodal.app.lookup import find_version
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.functions.definition import NamedSource
from qmodal.functions.graph import graph_of
from qmodal.runner.history import history, rollback
from qmodal.spec.options import validated_options
from qmodal.spec.reader import MismatchError
from qmodal.transport.operation import Op, ask_one
from qmodal_autoscaler.cluster.catalog import Catalog, UnknownTermsError
from qmodal_workers.spawn.start_plan import Planner
from tests.support.stage import Stage


@pytest.fixture
def stage(client: Client) -> Iterator[Stage]:
    """An app of three versions, whose functions are `f` and `g`, and which ends."""
    made = Stage(client)
    for _ in range(3):
        made.publish(f=validated_options(), g=validated_options())
    before = clients.use(client)
    yield made
    clients.use(before)
    client.run(client.apps.stop(made.record()))


def exchange_versions(stage: Stage) -> None:
    """What stands as the current version, and as the first one, is the second one."""
    keys, app_id = stage.client.keys, stage.app_id
    for number in (1, 3):
        source, target = keys.version(app_id, 2), keys.version(app_id, number)
        stage.client.run(ask_one(b"COPY", source, target, b"REPLACE"))


def exchange_specs(stage: Stage) -> None:
    """The pool of `f` is described as that of `g`."""
    keys, client = stage.client.keys, stage.client
    spec = client.run(client.pools.spec(stage.pools["g"]))
    assert spec is not None
    client.run(ask_one(b"HSET", keys.pool(stage.pools["f"]), b"spec", spec))


def plan(stage: Stage, pool: str) -> object:
    """The plan of a container's start."""

    async def planned() -> object:
        try:
            return await Planner(stage.client).plan(pool)
        finally:
            await stage.client.aclose()

    return asyncio.run(planned())


def read_all(stage: Stage) -> Catalog:
    """What the autoscaler knows of the pool of `f` after its reads, each of which may be refused."""
    catalog, pool = Catalog(stage.client), stage.pools["f"]
    reads: list[Callable[[], list[Op[None]]]] = [
        lambda: catalog.read_specs([pool]),
        lambda: catalog.read_apps([stage.app_id]),
        lambda: catalog.read_versions([stage.app_id]),
    ]
    for read in reads:
        for op in read():
            with suppress(MismatchError):
                stage.client.run(op)
    return catalog


READS: dict[str, Callable[[Stage], object]] = {
    "a handle": lambda stage: stage.client.run(
        NamedSource(app_name=stage.app_id, name="f", environment=None, is_class=False).definition()
    ),
    "App.lookup": lambda stage: stage.client.run(find_version(stage.client, stage.app_id, "main")),
    "the history": lambda stage: stage.client.run(history(stage.client, stage.record())),
    "a rollback": lambda stage: stage.client.run(rollback(stage.client, stage.record(), 1)),
    "the start of a container": lambda stage: plan(stage, stage.pools["f"]),
}


@pytest.mark.parametrize("name", READS)
def test_a_version_is_not_read_as_another_one(stage: Stage, name: str) -> None:
    READS[name](stage)
    if name == "a rollback":
        stage.number += 1
    exchange_versions(stage)
    with pytest.raises(MismatchError, match=f"of app {stage.app_id} is given as version 2"):
        READS[name](stage)


def test_no_container_starts_with_the_spec_of_another_pool(stage: Stage) -> None:
    exchange_specs(stage)
    with pytest.raises(MismatchError, match="is described as another one, g"):
        plan(stage, stage.pools["f"])


@pytest.mark.parametrize("exchange", [exchange_versions, exchange_specs])
def test_the_autoscaler_changes_nothing_about_a_pool_that_is_not_itself(
    stage: Stage, exchange: Callable[[Stage], None]
) -> None:
    assert not read_all(stage).terms(stage.pools["f"]).ended
    exchange(stage)
    with pytest.raises(UnknownTermsError, match="cannot be read"):
        read_all(stage).terms(stage.pools["f"])


@pytest.mark.parametrize("exchange", [exchange_versions, exchange_specs])
def test_a_call_graph_names_no_function_of_another_pool(
    stage: Stage, exchange: Callable[[Stage], None]
) -> None:
    call = stage.submit("f")
    (found,) = stage.client.run(graph_of(stage.client, call))
    assert (found.function_name, found.module_name) == ("f", "m")
    exchange(stage)
    (found,) = stage.client.run(graph_of(stage.client, call))
    assert (found.function_name, found.module_name) == ("", "")
    pools, pool = stage.client.pools, stage.pools["f"]
    stage.client.run(pools.purge(pool, reason="over"))
    assert stage.client.run(pools.leave(pool))
