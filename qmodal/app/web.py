"""The decorators of web functions, which gateways serve over HTTP (`qmodal web`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any, Never, ParamSpec, Protocol, TypeVar, overload

from qmodal.app.web_checks import (
    check_fastapi,
    checked_domains,
    checked_flag,
    checked_label,
    checked_method,
    checked_port,
    checked_seconds,
)
from qmodal.client import deprecation as legacy
from qmodal.cls.partial_function import PartialFunction, as_kind
from qmodal.exception import InvalidError

P = ParamSpec("P")
R = TypeVar("R")


class WebMark(Protocol):
    """What the decorators return; the function keeps its types, for `.local()`."""

    @overload
    def __call__(
        self, target: Callable[P, Coroutine[Any, Any, R]], /
    ) -> PartialFunction[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> PartialFunction[P, R, R]: ...


class FactoryMark(Protocol):
    """The same for functions and methods without parameters."""

    def __call__(self, target: Callable[..., R], /) -> PartialFunction[[], R, R]:
        """Mark a function."""


def fastapi_endpoint(
    *bare: Never,
    method: str = "GET",
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    docs: bool = False,
    requires_proxy_auth: bool = False,
) -> WebMark:
    """Answer HTTP requests of one method with the function; query parameters are its arguments.

    `docs`: FastAPI's pages are there, too. `label`, `custom_domains`: which host names lead to it, see
    `get_web_url`. `requires_proxy_auth`: only for requests with the headers Modal-Key and Modal-Secret. Raises
    InvalidError for what cannot be, or without FastAPI.

    >>> @app.function()
    ... @qmodal.fastapi_endpoint()
    ... def greet(name: str) -> str:
    ...     return f"hello {name}"
    """
    _refuse_bare("fastapi_endpoint", bare)
    config = _endpoint("fastapi_endpoint", method, docs)
    return _mark("fastapi_endpoint", _checked(config, label, custom_domains, requires_proxy_auth))


def web_endpoint(
    *bare: Never,
    method: str = "GET",
    label: str | None = None,
    docs: bool = False,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
    wait_for_response: bool = True,
) -> WebMark:
    """The old name of `fastapi_endpoint`; the response is waited for also with `wait_for_response=False`."""
    _refuse_bare("web_endpoint", bare)
    legacy.warn("modal.web_endpoint", "use modal.fastapi_endpoint")
    config = _endpoint("web_endpoint", method, docs)
    return _mark("web_endpoint", _checked(config, label, custom_domains, requires_proxy_auth))


def asgi_app(
    *bare: Never,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> FactoryMark:
    """Serve the ASGI app that the function returns, which is called once in each container.

    >>> @app.function()
    ... @qmodal.concurrent(max_inputs=100)
    ... @qmodal.asgi_app()
    ... def site():
    ...     return FastAPI()
    """
    _refuse_bare("asgi_app", bare)
    return _factory("asgi_app", _checked({}, label, custom_domains, requires_proxy_auth))


def wsgi_app(
    *bare: Never,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> FactoryMark:
    """Serve the WSGI app that the function returns, which is called once in each container."""
    _refuse_bare("wsgi_app", bare)
    return _factory("wsgi_app", _checked({}, label, custom_domains, requires_proxy_auth))


def web_server(
    port: int,
    *,
    startup_timeout: float = 5.0,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> FactoryMark:
    """Pass requests on to the server that the function starts on this port, within `startup_timeout` seconds."""
    config = {"port": checked_port(port), "startup_timeout": checked_seconds(startup_timeout)}
    return _factory("web_server", _checked(config, label, custom_domains, requires_proxy_auth))


def _endpoint(decorator: str, method: str, docs: bool) -> dict[str, Any]:
    check_fastapi(decorator)
    return {"method": checked_method(method), "docs": checked_flag("docs", docs)}


def _checked(
    config: dict[str, Any],
    label: str | None,
    custom_domains: Iterable[str] | None,
    requires_proxy_auth: bool,
) -> dict[str, Any]:
    return {
        **config,
        "label": checked_label(label),
        "custom_domains": checked_domains(custom_domains),
        "requires_proxy_auth": checked_flag("requires_proxy_auth", requires_proxy_auth),
    }


def _mark(decorator: str, config: Mapping[str, Any]) -> WebMark:
    def mark(target: Any) -> Any:
        partial = as_kind(decorator, target, "web")
        if partial.is_generator:
            raise InvalidError(
                f"`@modal.{decorator}` cannot be used on a generator; return a StreamingResponse."
            )
        return replace(partial, web={"kind": decorator, **config})

    return mark


def _factory(decorator: str, config: Mapping[str, Any]) -> FactoryMark:
    def mark(target: Any) -> Any:
        partial = as_kind(decorator, target, "web")
        if partial.is_async or partial.is_generator:
            raise InvalidError(f"`@modal.{decorator}` belongs on a plain `def` that returns once.")
        needed = [name for name in inspect.signature(partial.raw_f).parameters if name != "self"]
        if needed:
            raise InvalidError(
                f"The function of `@modal.{decorator}` takes no parameters, but this one has "
                f"{', '.join(needed)}."
            )
        return replace(partial, web={"kind": decorator, **config})

    return mark


def _refuse_bare(decorator: str, bare: tuple[Any, ...]) -> None:
    if bare:
        raise InvalidError(
            f"@modal.{decorator} needs parentheses and takes keywords only: "
            f"write `@modal.{decorator}(...)`."
        )
