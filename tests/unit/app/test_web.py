"""Decorators of web functions: what they record, and what they refuse."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

import qmodal as modal
from qmodal.client import context
from qmodal.exception import InvalidError
from qmodal.wire.signing import Signer

BATCHED = modal.batched(max_batch_size=2, wait_ms=1)

SIGNER = Signer(bytes(32))


def plain(name: str = "") -> str:
    return name


def factory() -> Any: ...


def generates() -> Any:
    yield 1


async def awaits() -> None: ...


def takes(scope: Any) -> None: ...


def marked(outer: Any, inner: Any, target: Any) -> Any:
    return outer(inner(target))


def function(mark: Any, target: Any = plain, **options: Any) -> Any:
    return modal.App("demo").function(**options)(mark(target))


def recorded(mark: Any, target: Any = plain) -> dict[str, Any]:
    """What is published of a function with that mark."""
    app = modal.App("demo")
    app.function(name="f")(mark(target))
    found: dict[str, Any] = app._registry.entries["f"].options.recorded["web"][""]
    return found


@pytest.mark.parametrize(
    ("mark", "target", "expected"),
    [
        (
            modal.fastapi_endpoint(),
            plain,
            {"kind": "fastapi_endpoint", "method": "GET", "docs": False, "label": None},
        ),
        (modal.fastapi_endpoint(method="post", docs=True), plain, {"method": "POST", "docs": True}),
        (modal.asgi_app(label="a" * 63), factory, {"kind": "asgi_app", "label": "a" * 63}),
        (
            modal.wsgi_app(custom_domains=iter(["API.example.com", "api.example.com", "a-1.b"])),
            factory,
            {"kind": "wsgi_app", "custom_domains": ["api.example.com", "a-1.b"]},
        ),
        (
            modal.web_server(8080, startup_timeout=20, requires_proxy_auth=True),
            factory,
            {"port": 8080, "startup_timeout": 20.0, "requires_proxy_auth": True},
        ),
    ],
)
def test_what_a_decorator_says_is_recorded(
    mark: Any, target: Any, expected: dict[str, Any]
) -> None:
    found = recorded(mark, target)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (lambda: modal.fastapi_endpoint(plain), "needs parentheses"),  # type: ignore[arg-type]
        (lambda: modal.fastapi_endpoint(method="FETCH"), "'FETCH', which is no method of HTTP"),
        (lambda: modal.fastapi_endpoint(method=None), "no method of HTTP"),  # type: ignore[arg-type]
        (lambda: modal.fastapi_endpoint(docs="yes"), "`docs` must be True or"),  # type: ignore[arg-type]
        (lambda: modal.fastapi_endpoint(label=""), "host name of a URL begins with it"),
        (lambda: modal.asgi_app(label="Upper"), "lower-case letters"),
        (lambda: modal.asgi_app(label="a_b"), "lower-case letters"),
        (lambda: modal.asgi_app(label="-a"), "no dash at either end"),
        (lambda: modal.asgi_app(label="a" * 64), "up to 63"),
        (lambda: modal.asgi_app(label=3), "lower-case letters"),  # type: ignore[arg-type]
        (lambda: modal.wsgi_app(custom_domains="a.b"), "write a list"),
        (lambda: modal.wsgi_app(custom_domains=3), "write a list"),  # type: ignore[arg-type]
        (lambda: modal.wsgi_app(custom_domains=[3]), "3, which is no domain"),  # type: ignore[list-item]
        (lambda: modal.wsgi_app(custom_domains=["https://a.b"]), "without scheme"),
        (lambda: modal.wsgi_app(custom_domains=["a.b:80"]), "without scheme, port"),
        (lambda: modal.wsgi_app(custom_domains=["localhost"]), "is no domain"),
        (lambda: modal.wsgi_app(custom_domains=["10.0.0.1"]), "is no domain"),
        (lambda: modal.wsgi_app(custom_domains=["*.example.com"]), "is no domain"),
        (lambda: modal.wsgi_app(custom_domains=["münchen.example"]), "'xn--...'"),
        (lambda: modal.wsgi_app(custom_domains=[".".join(["a" * 63] * 4)]), "is no domain"),
        (lambda: modal.asgi_app(requires_proxy_auth=1), "True or False"),  # type: ignore[arg-type]
        (lambda: modal.web_server(0), "between 1 and 65535"),
        (lambda: modal.web_server(70_000), "between 1 and 65535"),
        (lambda: modal.web_server(True), "between 1 and 65535"),
        (lambda: modal.web_server("80"), "between 1 and 65535"),  # type: ignore[arg-type]
        (lambda: modal.web_server(80, startup_timeout=0), "seconds above 0"),
        (lambda: modal.web_server(80, startup_timeout=float("nan")), "seconds above 0"),
        (lambda: modal.web_server(80, startup_timeout="5"), "seconds above 0"),  # type: ignore[arg-type]
        (lambda: modal.fastapi_endpoint()(generates), "return a StreamingResponse"),
        (lambda: modal.asgi_app()(generates), "plain `def`"),
        (lambda: modal.asgi_app()(awaits), "plain `def`"),
        (lambda: modal.wsgi_app()(takes), "no parameters, but this one has scope"),
        (lambda: marked(modal.asgi_app(), modal.method(), factory), "cannot be combined"),
        (lambda: marked(modal.method(), modal.asgi_app(), factory), "cannot be combined"),
        (lambda: marked(modal.enter(), modal.asgi_app(), factory), "cannot be combined"),
        (lambda: marked(modal.asgi_app(), modal.wsgi_app(), factory), "the 'wsgi_app' decorator"),
        (lambda: modal.web_server(factory), "needs parentheses and a port"),  # type: ignore[arg-type]
        (
            lambda: marked(BATCHED, modal.fastapi_endpoint(), takes),
            "cannot be combined",
        ),
        (lambda: modal.asgi_app()(function(modal.asgi_app(), factory)), "swap the order"),
        (lambda: function(modal.fastapi_endpoint(), retries=1), "do not support retries"),
        (lambda: function(modal.fastapi_endpoint(), is_generator=True), "can be no generator"),
        (lambda: function(modal.fastapi_endpoint(), schedule=modal.Period(days=1)), "no schedule"),
        (lambda: function(modal.fastapi_endpoint()).with_options(retries=1), "support retries"),
        (
            lambda: function(modal.fastapi_endpoint()).with_batching(max_batch_size=2, wait_ms=1),
            "cannot be batched",
        ),
    ],
)
def test_web_functions_that_make_no_sense_are_refused(apply: Callable[[], Any], words: str) -> None:
    with pytest.raises(InvalidError, match=words.replace("(", r"\(")):
        apply()


def test_a_class_with_a_constructor_has_no_web_functions() -> None:
    class Old:
        def __init__(self, name: str) -> None:
            self.name = name

        @modal.asgi_app()
        def serve(self) -> Any: ...

    with pytest.raises(InvalidError, match=r"Old has web functions \(serve\).*modal\.parameter"):
        modal.App("demo").cls()(Old)


def test_a_class_with_retries_has_no_web_functions() -> None:
    class Site:
        @modal.fastapi_endpoint()
        def serve(self) -> str:
            return ""

    with pytest.raises(InvalidError, match="do not support retries"):
        modal.App("demo").cls(retries=1)(Site)


def test_two_functions_of_an_app_cannot_have_one_label_or_domain() -> None:
    app = modal.App("demo")
    app.function(name="f")(modal.asgi_app(label="front", custom_domains=["a.example.com"])(factory))
    with pytest.raises(InvalidError, match="'f' and 'g' have the same label, 'front'"):
        app.function(name="g")(modal.asgi_app(label="front")(factory))
    with pytest.raises(InvalidError, match=r"'f' and 'g' have the same domain, 'a\.example\.com'"):
        app.function(name="g")(modal.asgi_app(custom_domains=["A.example.com"])(factory))
    assert "g" not in app._registry.entries
    # The same function again, as in a notebook.
    app.function(name="f")(modal.asgi_app(label="front")(factory))


def test_web_functions_are_listed_by_name() -> None:
    app, other = modal.App("demo"), modal.App("other")
    app.function(name="f")(modal.asgi_app()(factory))
    app.function(name="plain")(plain)

    class Site:
        @modal.asgi_app()
        def serve(self) -> Any: ...

        @modal.method()
        def plain(self) -> None: ...

    other.cls()(Site)
    assert app.include(other).registered_web_endpoints == ["f", "Site.serve"]
    specs = {
        tag: entry.spec(module="demo", signer=SIGNER, app="demo")
        for tag, entry in app._registry.entries.items()
    }
    assert specs["Site.*"].options["recorded"]["web"].keys() == {"serve"}


def test_only_the_web_functions_of_a_class_count_as_such() -> None:
    app = modal.App("demo")

    class Site:
        @modal.fastapi_endpoint()
        def serve(self) -> str:
            return "served"

        @modal.method()
        def plain(self) -> str:
            return "called"

    handle: Any = app.cls()(Site)()
    assert (handle.serve.is_web, handle.plain.is_web) == (True, False)
    assert (handle.serve.local(), handle.plain.local()) == ("served", "called")


@pytest.fixture
def without_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fastapi" else find(name)
    )


@pytest.mark.usefixtures("without_fastapi")
def test_an_endpoint_needs_fastapi_where_the_program_is_started() -> None:
    with pytest.raises(InvalidError, match=r"FastAPI.*pip install 'qmodal\[web\]'"):
        modal.fastapi_endpoint()
    modal.asgi_app()(factory)
    with context.importing(for_container=True):
        modal.fastapi_endpoint()(plain)
