"""Whoever can write to the server names an earlier version as the current one: boxes that know a later one refuse it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.runner.history import rollback
from qmodal.spec.documents import Version
from qmodal.spec.options import validated_options
from qmodal.transport.operation import ask_one
from qmodal.wire.ids import new_app_id
from qmodal_autoscaler.cluster.catalog import Catalog, UnknownTermsError
from qmodal_workers.spawn import seen_versions
from qmodal_workers.spawn.seen_versions import SeenVersions, SupersededError
from qmodal_workers.spawn.start_plan import Planner, StartPlan
from tests.support.stage import Stage

VERSION = Version(
    app_id=new_app_id(),
    name="shop",
    environment="main",
    number=2,
    is_ephemeral=False,
    python="3.12",
    bundle=None,
    main=None,
)


@pytest.fixture
def stage(client: Client) -> Iterator[Stage]:
    """An app with a function `f` that was published twice."""
    before = clients.use(client)
    made = Stage(client)
    for _ in range(2):
        made.publish(f=validated_options())
    yield made
    clients.use(before)
    client.run(ask_one(b"HSET", client.keys.app(made.app_id), b"version", 3))
    client.run(client.apps.stop(made.record()))


def turn_back(stage: Stage, number: int) -> None:
    """What an attacker writes."""
    key = stage.client.keys.app(stage.app_id)
    stage.client.run(ask_one(b"HSET", key, b"version", number))


def plan(planner: Planner, client: Client, pool: str) -> StartPlan:
    async def planned() -> StartPlan:
        try:
            return await planner.plan(pool)
        finally:
            await client.aclose()

    return asyncio.run(planned())


def test_a_box_starts_no_earlier_version_than_one_it_has_started(stage: Stage) -> None:
    client, pool = stage.client, stage.pools["f"]
    planner = Planner(client)
    assert plan(planner, client, pool).version.number == 2
    turn_back(stage, 1)
    for each in (planner, Planner(client)):  # the second one is that of a worker that was restarted
        with pytest.raises(SupersededError, match=r"version 2 has run here.*Deploy the app again"):
            plan(each, client, pool)
    turn_back(stage, 2)
    client.run(rollback(client, stage.record(), 1))  # a deployer may go back, which is version 3
    assert plan(planner, client, pool).version.number == 3


def test_the_autoscaler_changes_nothing_for_an_earlier_version(stage: Stage) -> None:
    catalog, client, pool = Catalog(stage.client), stage.client, stage.pools["f"]

    def look() -> int:
        for read in (*catalog.read_specs([pool]), *catalog.read_apps([stage.app_id])):
            client.run(read)
        for read in catalog.read_versions([stage.app_id]):
            client.run(read)
        return catalog.terms(pool).number

    assert look() == 2
    turn_back(stage, 1)
    with pytest.raises(UnknownTermsError, match="version 2 was already; deploy the app again"):
        look()
    turn_back(stage, 2)
    assert look() == 2


def test_what_was_seen_is_kept_for_deployed_apps_and_has_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_versions, "MOST_APPS", 3)
    seen = SeenVersions(tmp_path / "versions")
    seen.admit(replace(VERSION, app_id=new_app_id(), is_ephemeral=True))
    assert not list(tmp_path.iterdir())
    for _ in range(5):
        seen.admit(replace(VERSION, app_id=new_app_id()))
    seen.admit(VERSION)
    seen.admit(VERSION)
    assert len([each for each in (tmp_path / "versions").iterdir() if each.name != ".lock"]) == 3
    with pytest.raises(SupersededError):
        SeenVersions(tmp_path / "versions").admit(replace(VERSION, number=1))


def test_a_box_that_cannot_note_anything_starts_containers_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "versions").write_text("no folder")
    seen = SeenVersions(tmp_path / "versions")
    seen.admit(VERSION)
    with pytest.raises(SupersededError):
        seen.admit(replace(VERSION, number=1))
