"""Routes on a real server: who has a name, for how long, and whom it goes to when its app ends."""

from __future__ import annotations

import pytest

from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.store.apps import LIFETIMES_MS, AppRecord, AppState
from qmodal.wire.route import NamedRoute, Rank, Route, RouteKind, RouteName
from tests.support.store.bench import Bench

MINUTE = 60_000


def record_of(app: str, state: AppState = "deployed", version: int = 1) -> AppRecord:
    return AppRecord(app_id=app, name=app, environment="main", state=state, version=version)


def routed(
    app: str, name: str, *, kind: RouteKind = "label", rank: Rank = "deployed", number: int = 1
) -> NamedRoute:
    return NamedRoute(rank, kind, name, Route(app, app, "main", "f", "", number))


def publish(client: Client, record: AppRecord, *names: str, rank: Rank = "deployed") -> bool:
    """Publish an app, and routes for it; what `Routes.publish` says."""
    client.run(client.apps.publish(record, document=b"document", now=1))
    routes = [routed(record.app_id, name, rank=rank, number=record.version) for name in names]
    lifetime = LIFETIMES_MS.get(record.state, 0)
    op = client.routes.publish(record.app_id, record.version, routes, lifetime=lifetime)
    return client.run(op)


def found(client: Client, *names: str) -> list[str]:
    """The apps that these labels lead to, with the number of their version; "" for none."""
    labels: list[RouteName] = [("label", name) for name in names]
    routes = client.run(client.routes.find(labels))
    return ["" if route is None else f"{route.app_id} {route.number}" for route in routes]


def stop(client: Client, *apps: str) -> None:
    for app in apps:
        client.run(client.apps.stop(record_of(app)))


def test_names_lead_to_an_app_until_it_is_stopped(client: Client) -> None:
    assert publish(client, record_of("ap-1"), "a", "b")
    assert found(client, "a", "b", "c") == ["ap-1 1", "ap-1 1", ""]
    stop(client, "ap-1")
    assert found(client, "a", "b") == ["", ""]
    assert client.run(client.routes.of_app("ap-1")) == []
    assert client.run(client.routes.find([])) == []


def test_a_new_version_keeps_none_of_the_names_that_it_does_not_have(client: Client) -> None:
    publish(client, record_of("ap-1"), "a", "b")
    publish(client, record_of("ap-1", version=2), "b", "c")
    assert found(client, "a", "b", "c") == ["", "ap-1 2", "ap-1 2"]
    assert {each.name for each in client.run(client.routes.of_app("ap-1"))} == {"b", "c"}
    publish(client, record_of("ap-1", version=3))
    assert found(client, "b", "c") == ["", ""]
    stop(client, "ap-1")


def test_an_older_version_that_comes_late_changes_no_route(client: Client) -> None:
    """Two deploys at once: the one that was faster may write its routes last."""
    publish(client, record_of("ap-1"), "a")
    publish(client, record_of("ap-1", version=2), "b")
    late = client.routes.publish("ap-1", 1, [routed("ap-1", "a")], lifetime=0)
    assert not client.run(late)
    assert found(client, "a", "b") == ["", "ap-1 2"]
    stop(client, "ap-1")


@pytest.mark.parametrize("app", ["ap-stopped", "ap-unknown"])
def test_an_app_that_is_gone_gets_no_routes(client: Client, app: str) -> None:
    publish(client, record_of("ap-stopped"), "a")
    stop(client, "ap-stopped")
    assert not client.run(client.routes.publish(app, 1, [routed(app, "a")], lifetime=0))
    assert found(client, "a") == [""]


def test_an_app_takes_a_name_from_another_one_which_does_not_take_it_along_when_it_ends(
    client: Client,
) -> None:
    publish(client, record_of("ap-1"), "a")
    publish(client, record_of("ap-2"), "a")
    assert found(client, "a") == ["ap-2 1"]
    stop(client, "ap-1")
    assert found(client, "a") == ["ap-2 1"]
    stop(client, "ap-2")
    assert found(client, "a") == [""]


def test_a_running_app_has_a_deployed_ones_name_for_as_long_as_it_runs(client: Client) -> None:
    publish(client, record_of("ap-1"), "a")
    publish(client, record_of("ap-2", "ephemeral"), "a", rank="run")
    assert found(client, "a") == ["ap-2 1"]
    publish(client, record_of("ap-1", version=2), "a")
    assert found(client, "a") == ["ap-2 1"]
    stop(client, "ap-2")
    assert found(client, "a") == ["ap-1 2"]
    stop(client, "ap-1")


def test_a_short_name_leads_to_an_app_unless_it_is_the_full_one_of_another(client: Client) -> None:
    publish(client, record_of("ap-1"), "a", rank="short")
    assert found(client, "a") == ["ap-1 1"]
    publish(client, record_of("ap-2"), "a")
    publish(client, record_of("ap-1", version=2), "a", rank="short")
    assert found(client, "a") == ["ap-2 1"]
    stop(client, "ap-2")
    assert found(client, "a") == ["ap-1 2"]
    stop(client, "ap-1")


@pytest.mark.parametrize("state", ["ephemeral", "detached"])
def test_routes_of_an_app_that_runs_live_as_long_as_the_app(bench: Bench, state: AppState) -> None:
    client, keys = bench.client, bench.client.keys
    publish(client, record_of("ap-1", state), "a", rank="run")
    names = [keys.app("ap-1"), keys.routes("ap-1"), keys.route + "run:label:a"]
    assert all(0 < bench.left(name) <= LIFETIMES_MS[state] for name in names)
    for name in names:
        bench.ask(b"PEXPIRE", name, MINUTE // 6)
    client.run(client.apps.beat("ap-1", 1, state))
    assert all(LIFETIMES_MS[state] - MINUTE // 6 < bench.left(name) for name in names)
    stop(client, "ap-1")


def test_a_heartbeat_takes_back_a_name_that_its_taker_has_left(bench: Bench) -> None:
    client, keys = bench.client, bench.client.keys
    publish(client, record_of("ap-1", "ephemeral"), "a", rank="run")
    publish(client, record_of("ap-2", "ephemeral"), "a", rank="run")
    bench.ask(b"PEXPIRE", keys.route + "run:label:a", MINUTE // 6)
    assert client.run(client.apps.beat("ap-1", 1, "ephemeral"))
    assert found(client, "a") == ["ap-2 1"]
    assert bench.left(keys.route + "run:label:a") <= MINUTE // 6  # that is for its owner to prolong
    stop(client, "ap-2")
    assert found(client, "a") == [""]
    assert client.run(client.apps.beat("ap-1", 1, "ephemeral"))
    assert found(client, "a") == ["ap-1 1"]
    stop(client, "ap-1")
    client.run(client.apps.beat("ap-1", 1, "ephemeral"))
    assert found(client, "a") == [""]


def test_kinds_of_names_do_not_meet(client: Client) -> None:
    publish(client, record_of("ap-1"), "a")
    both: list[RouteName] = [("path", "a"), ("domain", "a")]
    assert client.run(client.routes.find(both)) == [None, None]
    stop(client, "ap-1")


def test_a_route_that_was_copied_or_forged_leads_nowhere(bench: Bench, settings: Settings) -> None:
    client, start = bench.client, bench.client.keys.route
    publish(client, record_of("ap-1"), "a", "other", "odd", "foreign")
    real = bench.ask(b"GET", start + "deployed:label:a")
    bench.ask(b"SET", start + "deployed:label:other", real)
    bench.ask(b"SET", start + "deployed:label:odd", b"\xff odd")
    bench.ask(b"DEL", start + "deployed:label:foreign")
    bench.ask(b"LPUSH", start + "deployed:label:foreign", real)
    assert found(client, "other", "odd", "foreign", "a") == ["", "", "", "ap-1 1"]
    stop(client, "ap-1")
    bench.ask(b"DEL", *(start + f"deployed:label:{each}" for each in ("other", "odd", "foreign")))


def test_publishing_and_stopping_get_through_what_others_have_put_there(bench: Bench) -> None:
    client, keys = bench.client, bench.client.keys
    bench.ask(b"LPUSH", keys.routes("ap-1"), b"odd")
    bench.ask(b"LPUSH", keys.route + "deployed:label:a", b"odd")
    assert publish(client, record_of("ap-1"), "a")
    assert found(client, "a") == ["ap-1 1"]
    bench.ask(b"DEL", keys.routes("ap-1"))
    bench.ask(b"LPUSH", keys.routes("ap-1"), b"odd")
    stop(client, "ap-1")
    assert bench.ask(b"EXISTS", keys.routes("ap-1")) == 0
    bench.ask(b"DEL", keys.route + "deployed:label:a")
