"""Publishing apps with web functions: who finds them, for how long, and which URLs they have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import qmodal as modal
from qmodal.client import client as clients
from qmodal.client.client import Client
from qmodal.config import Settings
from qmodal.exception import InvalidError
from qmodal.runner.history import rollback
from qmodal.store.apps import AppRecord
from qmodal.store.web.gateways import Gateway
from qmodal.types import WebInfo
from qmodal.wire.route import RouteKind, RouteName
from tests.support.web.gateways import announce


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """The process's client."""
    made = Client(settings)
    clients.use(made)
    yield made
    made.close()


def answer(name: str = "") -> str:
    return name


def pages() -> Any: ...


class Site:
    name: str = modal.parameter()

    @modal.asgi_app()
    def serve(self) -> Any: ...

    @modal.method()
    def length(self) -> int:
        return len(self.name)


def app_of(*names: str, **given: Any) -> modal.App:
    """An app with endpoints of these names; `given` to the decorator of each."""
    app = modal.App("shop")
    for name in names:
        mark = modal.fastapi_endpoint(**given)
        app.function(name=name, serialized=True)(mark(answer))
    return app


def site_of() -> tuple[modal.App, Any]:
    app = modal.App("shop")
    return app, app.cls(serialized=True)(Site)


def found(client: Client, kind: RouteKind, *names: str) -> list[str]:
    """What they lead to, as the app's name, the function and the number of the version; "" for nothing."""
    asked: list[RouteName] = [(kind, name) for name in names]
    routes = client.run(client.routes.find(asked))
    return [f"{to.app} {to.tag} {to.number}" if to else "" for to in routes]


def record_of(client: Client, app: modal.App) -> AppRecord:
    found = client.run(client.apps.record(app.app_id or ""))
    assert found is not None
    return found


def test_a_deployed_app_is_found_until_it_is_stopped(client: Client) -> None:
    app = app_of("f")
    app.deploy()
    assert found(client, "label", "shop-f", "shop") == ["shop f 1"] * 2
    assert found(client, "path", "shop/f", "shop", "shop/g") == ["shop f 1"] * 2 + [""]
    app.stop()
    assert found(client, "label", "shop-f", "shop") == [""] * 2


def test_a_version_takes_over_the_names_and_drops_those_it_has_not(client: Client) -> None:
    app_of("f", "g").deploy()
    second = app_of("g", label="front", custom_domains=["shop.example.com"])
    second.deploy()
    assert found(client, "label", "shop-f", "shop-g", "front") == ["", "", "shop g 2"]
    assert found(client, "path", "shop/f", "shop/g", "shop") == ["", "shop g 2", "shop g 2"]
    assert found(client, "domain", "shop.example.com") == ["shop g 2"]
    client.run(rollback(client, record_of(client, second), 1))
    assert found(client, "label", "shop-f", "shop-g", "front") == ["shop f 3", "shop g 3", ""]
    assert found(client, "domain", "shop.example.com") == [""]
    second.stop()
    assert found(client, "label", "shop-f", "shop-g") == [""] * 2


def test_a_deploy_that_changes_nothing_restores_what_was_lost(client: Client) -> None:
    app = app_of("f")
    app.deploy()
    late = client.routes.publish(app.app_id or "", 1, [], lifetime=0)
    assert client.run(late)
    assert found(client, "label", "shop-f") == [""]
    app.deploy()
    assert found(client, "label", "shop-f") == ["shop f 1"]
    app.stop()


@pytest.mark.parametrize("detach", [False, True])
def test_an_app_that_runs_takes_nothing_from_the_deployed_one(client: Client, detach: bool) -> None:
    deployed, running = app_of("f"), app_of("f", "g")
    deployed.deploy()
    with running.run(detach=detach):
        assert found(client, "label", "shop-f", "shop-f-dev", "shop-g-dev") == [
            *("shop f 1", "shop f 1", "shop g 1")
        ]
        (of_run,) = client.run(client.routes.find([("path", "shop/f")]))
        assert of_run is not None
        assert of_run.app_id == deployed.app_id
        assert found(client, "path", "shop-dev/f", "shop/g") == ["shop f 1", "shop g 1"]
    if detach:
        running_id = client.run(client.routes.find([("label", "shop-g-dev")]))[0]
        assert running_id is not None
        record = client.run(client.apps.record(running_id.app_id))
        assert record is not None
        client.run(client.apps.stop(record))
    assert found(client, "label", "shop-f", "shop-f-dev", "shop-g-dev") == ["shop f 1", "", ""]
    deployed.stop()


def test_a_given_label_is_that_of_the_app_that_runs_for_as_long_as_it_does(client: Client) -> None:
    deployed, running = app_of("f", label="front"), app_of("g", label="front")
    deployed.deploy()
    with running.run():
        assert found(client, "label", "front") == ["shop g 1"]
    assert found(client, "label", "front") == ["shop f 1"]
    deployed.stop()


def test_apps_of_two_environments_do_not_meet(client: Client) -> None:
    one, other = app_of("f"), app_of("g")
    one.deploy()
    other.deploy(environment_name="test")
    assert found(client, "label", "shop-f", "test-shop-g") == ["shop f 1", "shop g 1"]
    assert found(client, "path", "shop/f", "test-shop/g") == ["shop f 1", "shop g 1"]
    assert found(client, "path", "shop") == ["shop f 1"]
    one.stop()
    assert found(client, "path", "shop") == ["shop g 1"]
    other.stop()


def test_labels_that_are_given_twice_are_refused_before_anything_is_published(
    client: Client,
) -> None:
    app, other = app_of("f", label="front"), app_of("g", label="front")
    with pytest.raises(InvalidError, match="'f' and 'g' have the same label"):
        app.include(other).deploy()
    assert client.run(client.apps.find("main", "shop")) is None


def test_without_a_gateway_there_is_no_url(client: Client) -> None:
    app = app_of("f")
    app.deploy()
    handle = app.registered_functions["f"]
    assert handle.get_web_url() is None
    announce(client)
    assert handle.get_web_url() == "http://127.0.0.1:8000/shop/f"
    assert modal.Function.from_name("shop", "f").get_web_url() == "http://127.0.0.1:8000/shop/f"
    announce(client, Gateway("gw-2", "https://box.example.com", 2))
    assert handle.get_web_url() == "https://box.example.com/shop/f"
    with pytest.warns(modal.exception.DeprecationError):
        assert handle.get_web_uri() == "https://box.example.com/shop/f"
    app.stop()


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://example.com", "https://shop-f.example.com"),
        ("https://example.com:8443", "https://shop-f.example.com:8443"),
        ("http://apps.internal", "http://shop-f.apps.internal"),
        ("http://localhost:8000", "http://localhost:8000/shop/f"),
        ("http://192.0.2.1:8000", "http://192.0.2.1:8000/shop/f"),
        ("http://[2001:db8::1]:8000", "http://[2001:db8::1]:8000/shop/f"),
    ],
)
def test_the_setting_says_where_web_functions_are_reached(
    settings: Settings, client: Client, base: str, url: str
) -> None:
    app = app_of("f")
    app.deploy()
    outside = Client(replace(settings, web_url=base))
    clients.use(outside)
    assert app.registered_functions["f"].get_web_url() == url
    outside.close()
    clients.use(client)
    app.stop()


async def awaited(client: Client, handle: Any) -> object:
    url = await handle.get_web_url.aio()
    await client.aclose()
    return url


def test_methods_have_urls_also_without_their_parameters(client: Client) -> None:
    app, cls = site_of()
    app.deploy()
    announce(client)
    assert cls(name="a").serve.get_web_url() == "http://127.0.0.1:8000/shop/Site.serve"
    assert modal.Cls.from_name("shop", "Site")().serve.get_web_url() == (
        "http://127.0.0.1:8000/shop/Site.serve"
    )
    assert cls(name="a").length.get_web_url() is None
    assert asyncio.run(awaited(client, cls(name="a").serve)) == cls().serve.get_web_url()
    app.stop()


def test_a_running_apps_url_says_dev(client: Client) -> None:
    app = app_of("f")
    announce(client)
    with app.run():
        assert app.registered_functions["f"].get_web_url() == "http://127.0.0.1:8000/shop-dev/f"


def test_no_verb_calls_a_web_function(client: Client) -> None:
    app, cls = site_of()
    app.deploy()
    serve: Any = cls(name="a").serve
    with pytest.raises(InvalidError, match=r"\.remote\(.*as soon as `qmodal web` runs"):
        serve.remote()
    announce(client)
    where = "'Site.serve' cannot be called.*, at http://127.0.0.1:8000/shop/Site.serve"
    for call in (serve.remote, serve.spawn, lambda: list(serve.map([1]))):
        with pytest.raises(InvalidError, match=where):
            call()
    with pytest.raises(InvalidError, match=where):
        list(serve.remote_gen())
    assert serve.local() is None
    app.stop()


def test_a_variant_of_a_web_function_gets_no_requests(client: Client) -> None:
    app = app_of("f")
    app.deploy()
    with pytest.raises(InvalidError, match="give them to its decorator"):
        app.registered_functions["f"].with_options(timeout=10).get_web_url()
    app.stop()


def test_the_configuration_says_where_a_web_function_answers(client: Client) -> None:
    app, other = app_of("f", method="POST", requires_proxy_auth=True), site_of()[0]
    app.include(other).deploy()
    announce(client)
    info = app.registered_functions["f"].info()
    assert info.web_info == WebInfo("http://127.0.0.1:8000/shop/f", "POST", unauthenticated=False)
    site: Any = modal.Cls.from_name("shop", "Site")(name="a")
    assert site.serve.info().method_details == {
        "serve": WebInfo("http://127.0.0.1:8000/shop/Site.serve", None, unauthenticated=True)
    }
    app.stop()
