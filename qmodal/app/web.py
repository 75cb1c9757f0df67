"""The decorators of web functions: accepted and recorded; nothing serves them yet."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Never, ParamSpec, Protocol, TypeVar, overload

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
    custom_domains: Sequence[str] | None = None,
    docs: bool = False,
    requires_proxy_auth: bool = False,
) -> WebMark:
    """Answer HTTP requests of one method with the function; query parameters are its arguments."""
    _refuse_bare("fastapi_endpoint", bare)
    config = {"method": method, "docs": docs}
    return _mark("fastapi_endpoint", _checked(config, label, custom_domains, requires_proxy_auth))


def web_endpoint(
    *bare: Never,
    method: str = "GET",
    label: str | None = None,
    docs: bool = False,
    custom_domains: Sequence[str] | None = None,
    requires_proxy_auth: bool = False,
    wait_for_response: bool = True,
) -> WebMark:
    """The old name of `fastapi_endpoint`."""
    _refuse_bare("web_endpoint", bare)
    legacy.warn("modal.web_endpoint", "use modal.fastapi_endpoint")
    config = {"method": method, "docs": docs}
    return _mark("web_endpoint", _checked(config, label, custom_domains, requires_proxy_auth))


def asgi_app(
    *bare: Never,
    label: str | None = None,
    custom_domains: Sequence[str] | None = None,
    requires_proxy_auth: bool = False,
) -> FactoryMark:
    """Serve the ASGI app that the function returns."""
    _refuse_bare("asgi_app", bare)
    return _factory("asgi_app", _checked({}, label, custom_domains, requires_proxy_auth))


def wsgi_app(
    *bare: Never,
    label: str | None = None,
    custom_domains: Sequence[str] | None = None,
    requires_proxy_auth: bool = False,
) -> FactoryMark:
    """Serve the WSGI app that the function returns."""
    _refuse_bare("wsgi_app", bare)
    return _factory("wsgi_app", _checked({}, label, custom_domains, requires_proxy_auth))


def web_server(
    port: int,
    *,
    startup_timeout: float = 5.0,
    label: str | None = None,
    custom_domains: Sequence[str] | None = None,
    requires_proxy_auth: bool = False,
) -> FactoryMark:
    """Pass requests on to the server that the function starts on this port."""
    if type(port) is not int or not 1 <= port <= 65535:
        raise InvalidError("The port of `@modal.web_server` must be between 1 and 65535.")
    if startup_timeout <= 0:
        raise InvalidError("The `startup_timeout` of `@modal.web_server` must be above 0.")
    config = {"port": port, "startup_timeout": startup_timeout}
    return _factory("web_server", _checked(config, label, custom_domains, requires_proxy_auth))


def _checked(
    config: dict[str, Any],
    label: str | None,
    custom_domains: Sequence[str] | None,
    requires_proxy_auth: bool,
) -> dict[str, Any]:
    if label == "":
        raise InvalidError("The label of a web function cannot be empty.")
    domains = None if custom_domains is None else list(custom_domains)
    given = {"label": label, "custom_domains": domains, "requires_proxy_auth": requires_proxy_auth}
    return {**config, **given}


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
