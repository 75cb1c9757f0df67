"""Two who do something to one thing at once: whatever comes between two steps of the one, both are right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.functions.autoscaler import current_settings, reset_autoscaler
from qmodal.functions.submission import call_id_for, submission_of, submit
from qmodal.functions.target import Target
from qmodal.spec.documents import PoolSpec
from qmodal.spec.options import FunctionOptions
from qmodal.store.apps import AppRecord
from qmodal.transport.operation import Op, ask_one
from tests.support.store.driving import before_step

FIRST = AppRecord(app_id="ap-1", name="shop", environment="main", state="deployed", version=1)
SECOND = replace(FIRST, version=2)
STEPS = range(6)
SETTINGS = FunctionOptions()


@pytest.fixture
def target(client: Client) -> Iterator[Target]:
    """A pool of the deployed app, by this process's client."""
    client.run(client.apps.publish(FIRST, document=b"one", now=1))
    before = clients.use(client)
    spec = PoolSpec(app_id=FIRST.app_id, function="f", label="f")
    yield Target(
        spec=spec,
        pool=spec.pool,
        method="",
        name="f",
        is_generator=False,
        options=SETTINGS,
        main_by_reference=False,
    )
    clients.use(before)
    client.run(client.apps.stop(SECOND))
    client.run(ask_one(b"DEL", client.keys.app(FIRST.app_id), client.keys.pool(spec.pool)))


def together(client: Client, slow: Op[Any], step: int, quick: Op[Any]) -> tuple[Any, Any]:
    """What two operations come to, of which the second happens before a step of the first, or after all."""
    done: list[Any] = []
    result = client.run(before_step(slow, step, lambda: done.append(client.run(quick))))
    return result, done[0] if done else client.run(quick)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("is_stop_slow", [True, False], ids=["stop", "deploy"])
def test_an_app_that_is_deployed_while_it_is_stopped_is_one_or_the_other(
    client: Client, target: Target, step: int, is_stop_slow: bool
) -> None:
    apps = client.apps
    stop, deploy = apps.stop(FIRST), apps.publish(SECOND, document=b"two", now=2)
    together(client, *((stop, step, deploy) if is_stop_slow else (deploy, step, stop)))
    record = client.run(apps.record("ap-1"))
    assert record is not None
    assert client.run(apps.find("main", "shop")) == ("ap-1" if record.state == "deployed" else None)
    assert (client.run(apps.version("ap-1", 2)) is not None) == (record.state == "deployed")


def test_an_app_that_was_stopped_is_not_deployed_again(client: Client, target: Target) -> None:
    """Whoever deploys looks again, and takes a new id: this one's older versions and inputs are gone."""
    client.run(client.apps.stop(FIRST))
    assert not client.run(client.apps.publish(SECOND, document=b"two", now=2))
    fresh = replace(FIRST, app_id="ap-2")
    assert client.run(client.apps.publish(fresh, document=b"one", now=3))
    assert client.run(client.apps.find("main", "shop")) == "ap-2"
    client.run(client.apps.stop(fresh))


def test_a_name_that_points_at_a_stopped_app_is_free(client: Client, target: Target) -> None:
    """An earlier release could leave one."""
    client.run(client.apps.stop(FIRST))
    client.run(ask_one(b"HSET", client.keys.apps, "main/shop", "ap-1"))
    fresh = replace(FIRST, app_id="ap-2")
    assert client.run(client.apps.publish(fresh, document=b"one", now=3))
    client.run(client.apps.stop(fresh))
    assert client.run(client.apps.find("main", "shop")) is None


@pytest.mark.parametrize("step", STEPS)
def test_two_updates_of_a_pools_limits_are_both_in_force(
    client: Client, target: Target, step: int
) -> None:
    one = reset_autoscaler(target, {"max_containers": 7})
    together(client, one, step, reset_autoscaler(target, {"buffer_containers": 2}))
    found = client.run(current_settings(target))
    assert (found.max_containers, found.buffer_containers) == (7, 2)


@pytest.mark.parametrize("step", range(2))
def test_a_leader_that_resigns_late_takes_the_lead_from_nobody(client: Client, step: int) -> None:
    fleet = client.fleet

    def succeed() -> Op[int]:
        yield from ask_one(b"DEL", client.keys.leader)  # the first one's time is over
        return (yield from fleet.lead("as-2"))

    client.run(fleet.lead("as-1"))
    together(client, fleet.resign("as-1"), step, succeed())
    assert client.run(ask_one(b"GET", client.keys.leader)) == b"as-2"


@pytest.mark.parametrize("step", STEPS)
def test_a_publisher_that_stores_what_is_deployed_already_takes_no_source_away(
    client: Client, target: Target, step: int
) -> None:
    apps = client.apps

    def deploy() -> Op[bool]:
        yield from apps.store_code("aa", b"source")
        return (yield from apps.publish(SECOND, document=b"two", now=2, bundle="aa"))

    together(client, apps.store_code("aa", b"source"), step, deploy())
    assert client.run(ask_one(b"PTTL", client.keys.code("aa"))) == -1


@pytest.mark.parametrize("step", STEPS)
def test_a_pool_that_is_lost_again_behind_its_opening_is_opened_again(
    client: Client, target: Target, step: int
) -> None:
    call = call_id_for(target)
    submission = submission_of(client, target, [((), {})], call=call, total=1)
    submitting = submit(client, target, submission)
    forgetting = ask_one(b"DEL", client.keys.pool(target.pool))
    if step < 3:
        together(client, submitting, step, forgetting)
    else:
        client.run(submitting)
    client.run(client.calls.cancel(call))
    client.run(client.pools.leave(target.pool))


def test_tags_do_not_bring_an_app_back_that_is_gone(client: Client) -> None:
    client.run(client.apps.set_tags("ap-gone", {"team": "a"}))
    assert not client.run(ask_one(b"EXISTS", client.keys.app("ap-gone")))
