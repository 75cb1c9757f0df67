"""Whoever can write to the server exchanges names and records, which nobody signs: no app is taken for another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from qmodal.app.lookup import find_version
from qmodal.cli.commands.app import find
from qmodal.cli.commands.finding.pools import find_pool
from qmodal.cli.commands.finding.scope import Scope
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.exception import NotFoundError
from qmodal.functions.definition import NamedSource
from qmodal.functions.graph import graph_of
from qmodal.runner.history import history, rollback
from qmodal.runner.publish import Code, publish_draft
from qmodal.spec.documents import Version
from qmodal.spec.options import validated_options
from qmodal.spec.reader import MismatchError
from qmodal.spec.registry import Registry
from qmodal.store.apps import AppRecord, AppState
from qmodal.transport.operation import Op, ask_one
from qmodal_autoscaler.cluster.catalog import Catalog, UnknownTermsError
from qmodal_workers.spawn.start_plan import Planner
from tests.support.stage import Stage

OURS = "ours"


@dataclass(slots=True)
class Apps:
    """The deployed app `ours` in the environment main, and others that it may be taken for."""

    client: Client
    ours: Stage
    others: dict[str, Stage] = field(default_factory=dict)

    def add(self, name: str, environment: str, state: AppState) -> Stage:
        """Another app, which is published."""
        made = Stage(self.client, state, name=name, environment=environment)
        publish_twice(made)
        self.others[made.app_id] = made
        return made

    def write(self, stage: Stage, **fields: str) -> None:
        """Change the record of an app."""
        key = self.client.keys.app(stage.app_id)
        for name, value in fields.items():
            self.client.run(ask_one(b"HSET", key, name, value))

    def lead(self, name: str, stage: Stage) -> None:
        """Have the name lead to that app."""
        self.client.run(ask_one(b"HSET", self.client.keys.apps, f"main/{name}", stage.app_id))


def publish_twice(stage: Stage) -> None:
    """Two versions of an app with the functions `f` and `g`."""
    for _ in range(2):
        stage.publish(f=validated_options(), g=validated_options())


@pytest.fixture
def apps(client: Client) -> Iterator[Apps]:
    """With `ours` published twice; all of them end."""
    before = clients.use(client)
    made = Apps(client, Stage(client, name=OURS))
    publish_twice(made.ours)
    yield made
    clients.use(before)
    for each in (made.ours, *made.others.values()):
        client.run(client.apps.stop(each.record()))
    client.run(ask_one(b"UNLINK", client.keys.apps))


def another_app(apps: Apps) -> Stage:
    """The name leads to another deployed app."""
    theirs = apps.add("theirs", "main", "deployed")
    apps.lead(OURS, theirs)
    return theirs


def another_app_by_our_name(apps: Apps) -> Stage:
    """And that app's record says that it has our name."""
    theirs = another_app(apps)
    apps.write(theirs, name=OURS)
    return theirs


def another_environment(apps: Apps) -> Stage:
    """The name leads to the app of that name in another environment."""
    theirs = apps.add(OURS, "test", "deployed")
    apps.lead(OURS, theirs)
    return theirs


def another_environment_as_ours(apps: Apps) -> Stage:
    """And its record says that it is in ours."""
    theirs = another_environment(apps)
    apps.write(theirs, environment="main")
    return theirs


def an_ephemeral_app(apps: Apps) -> Stage:
    """The name leads to an app of that name which only runs."""
    theirs = apps.add(OURS, "main", "ephemeral")
    apps.lead(OURS, theirs)
    return theirs


def an_ephemeral_app_as_deployed(apps: Apps) -> Stage:
    """And its record says that it was deployed."""
    theirs = an_ephemeral_app(apps)
    apps.write(theirs, state="deployed")
    return theirs


def a_version_of_another_app(apps: Apps) -> Stage:
    """The version of another app stands as our current one."""
    theirs = apps.add("theirs", "main", "deployed")
    keys = apps.client.keys
    target = keys.version(apps.ours.app_id, 2)
    apps.client.run(ask_one(b"COPY", keys.version(theirs.app_id, 2), target, b"REPLACE"))
    return apps.ours


EXCHANGES = [
    another_app,
    another_app_by_our_name,
    another_environment,
    another_environment_as_ours,
    an_ephemeral_app,
    an_ephemeral_app_as_deployed,
    a_version_of_another_app,
]
RENAMED = [another_app_by_our_name, another_environment_as_ours, an_ephemeral_app_as_deployed]


def deploy(client: Client) -> None:
    """Publish one more version of `ours`."""
    draft = Version(
        app_id="",
        name=OURS,
        environment="main",
        number=0,
        is_ephemeral=False,
        python="",
        bundle=None,
        main=None,
    )
    code = Code(bundle=None, module="", main=None)
    client.run(publish_draft(client, Registry(None, OURS, {}), code, draft, "deployed"))


def named(client: Client) -> AppRecord:
    """What the command line takes for the app: what it stops, rolls back, or shows the logs of."""
    return client.run(find(client, OURS, "main"))


BY_NAME: dict[str, Callable[[Client], object]] = {
    "a handle": lambda client: client.run(
        NamedSource(app_name=OURS, name="f", environment="main", is_class=False).definition()
    ),
    "a pinned handle": lambda client: client.run(
        NamedSource(OURS, "f", "main", is_class=False, number=2).definition()
    ),
    "App.lookup": lambda client: client.run(find_version(client, OURS, "main")),
    "a deploy": deploy,
    "a command": named,
}


@pytest.mark.parametrize("reader", BY_NAME)
@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda each: each.__name__)
def test_no_name_leads_to_another_app(
    apps: Apps, exchange: Callable[[Apps], Stage], reader: str
) -> None:
    if reader != "a deploy":
        BY_NAME[reader](apps.client)
    before = {each.app_id: each.number for each in (apps.ours, *apps.others.values())}
    exchange(apps)
    # The same words however it was found out: something else than qmodal wrote there, and what to do.
    with pytest.raises(MismatchError, match=r"changed by something else than qmodal.*[Dd]eploy"):
        BY_NAME[reader](apps.client)
    for app_id, number in before.items():
        record = apps.client.run(apps.client.apps.record(app_id))
        assert record is not None
        assert record.version == number, "something was published"


BY_RECORD: dict[str, Callable[[Client, Stage, AppRecord], object]] = {
    "the history": lambda client, _stage, record: client.run(history(client, record)),
    "a rollback": lambda client, _stage, record: client.run(rollback(client, record, 1)),
    "the start of a container": lambda client, stage, _record: plan(client, stage.pools["f"]),
    "the autoscaler": lambda client, stage, _record: terms(client, stage),
}


def plan(client: Client, pool: str) -> object:
    """The plan of a container's start."""

    async def planned() -> object:
        try:
            return await Planner(client).plan(pool)
        finally:
            await client.aclose()

    return asyncio.run(planned())


def terms(client: Client, stage: Stage) -> object:
    """The terms of the pool of `f`, as the autoscaler reads them."""
    catalog, pool = Catalog(client), stage.pools["f"]
    reads: list[Callable[[], list[Op[None]]]] = [
        lambda: catalog.read_specs([pool]),
        lambda: catalog.read_apps([stage.app_id]),
        lambda: catalog.read_versions([stage.app_id]),
    ]
    for read in reads:
        for op in read():
            client.run(op)
    return catalog.terms(pool)


@pytest.mark.parametrize("reader", BY_RECORD)
@pytest.mark.parametrize("exchange", RENAMED, ids=lambda each: each.__name__)
def test_nothing_runs_or_is_published_by_a_record_that_is_not_that_of_its_version(
    apps: Apps, exchange: Callable[[Apps], Stage], reader: str
) -> None:
    theirs = exchange(apps)
    record = apps.client.run(apps.client.apps.record(theirs.app_id))
    assert record is not None
    with pytest.raises((MismatchError, UnknownTermsError), match="has a version of"):
        BY_RECORD[reader](apps.client, theirs, record)


def test_a_deploy_signs_nothing_for_an_app_whose_version_is_missing(apps: Apps) -> None:
    theirs = another_app_by_our_name(apps)
    apps.client.run(ask_one(b"UNLINK", apps.client.keys.version(theirs.app_id, 2)))
    with pytest.raises(NotFoundError, match=f"qmodal app stop {theirs.app_id}"):
        deploy(apps.client)


def test_a_deploy_takes_no_id_that_has_no_record(apps: Apps) -> None:
    theirs = another_app(apps)
    keys = apps.client.keys
    left = (keys.version(theirs.app_id, number) for number in (1, 2))
    apps.client.run(ask_one(b"UNLINK", keys.app(theirs.app_id), *left))
    deploy(apps.client)
    record = named(apps.client)
    assert record.app_id not in (theirs.app_id, apps.ours.app_id)
    apps.others["new"] = replace(apps.ours, app_id=record.app_id, number=1)


def test_a_call_graph_takes_no_names_from_an_app_that_was_exchanged(apps: Apps) -> None:
    call = apps.ours.submit("f")
    a_version_of_another_app(apps)
    (found,) = apps.client.run(graph_of(apps.client, call))
    assert (found.function_name, found.module_name) == ("", "")
    finish(apps)


def test_no_pool_is_dropped_or_paused_by_the_name_of_another(apps: Apps) -> None:
    apps.ours.submit("f")
    apps.client.run(apps.client.pools.join(apps.ours.pools["f"]))
    scope = Scope(app=apps.ours.app_id)
    assert apps.client.run(find_pool(apps.client, "f", scope)).function == "f"
    key = apps.client.keys.pool(apps.ours.pools["f"])
    apps.client.run(ask_one(b"HSET", key, b"function", b"g", b"label", b"g"))
    with pytest.raises(MismatchError, match=r"is listed as 'g' of app .* and serves 'f'"):
        apps.client.run(find_pool(apps.client, "g", scope))
    finish(apps)


def finish(apps: Apps) -> None:
    """Drop what was submitted to the pool of `f`."""
    pools, pool = apps.client.pools, apps.ours.pools["f"]
    apps.client.run(pools.purge(pool, reason="over"))
    assert apps.client.run(pools.leave(pool))
