"""Finds the web function of a request by its host and its path, and remembers for a moment what it found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.services.gateway.routing.endpoint import Endpoint
from qmodal.spec.documents import Version
from qmodal.spec.options import FunctionOptions
from qmodal.spec.web import web_methods
from qmodal.transport.operation import Op
from qmodal.wire.route import Route, RouteName

log = logging.getLogger("qmodal")
# Seconds: what was found is served for HIT, and for STALE more while it is looked up anew.
HIT_SECONDS, MISS_SECONDS, STALE_SECONDS = 2.0, 0.2, 10.0
MOST_NAMES = 10_000
MOST_ENDPOINTS = 1000
MOST_LETTERS = 200
FOREVER = float("inf")


class Match(NamedTuple):
    """Where a request leads: `raw_path` is what is left of the path behind `root_path`."""

    endpoint: Endpoint
    root_path: str
    raw_path: bytes


class _Known:
    """What a name led to when it was last looked up."""

    __slots__ = ("endpoint", "fresh_until", "is_refreshed")

    def __init__(self, endpoint: Endpoint | None, fresh_until: float) -> None:
        self.endpoint = endpoint
        self.fresh_until = fresh_until
        self.is_refreshed = False


class Router:
    """Finds web functions; `in_background` runs what nobody waits for."""

    def __init__(
        self, client: Client, in_background: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._client = client
        self._in_background = in_background
        self._loop = asyncio.get_running_loop()
        self._hosts: dict[bytes, _Known] = {}
        # By first and second segment; by the first one with None, what an app's name alone leads to.
        self._paths: dict[tuple[bytes, bytes | None], _Known] = {}
        self._endpoints: dict[Route, Endpoint] = {}

    async def find(self, host: bytes, raw_path: bytes) -> Match | None:
        """The web function of that host or path; None if there is none. Raises as the server's absence does."""
        known = self._hosts.get(host)
        if known is None or not self._is_good(known, host):
            known = await self._look_up_host(host)
        if known.endpoint is not None:
            return Match(known.endpoint, "", raw_path)
        parts = raw_path.split(b"/", 3)
        first, second = parts[1], parts[2] if len(parts) > 2 else b""
        if not first or len(first) > MOST_LETTERS:
            return None
        if second and len(second) <= MOST_LETTERS:
            known = await self._path(first, second)
            if known.endpoint is not None:
                return _behind(known.endpoint, raw_path, first, second)
        known = await self._path(first, None)
        return None if known.endpoint is None else _behind(known.endpoint, raw_path, first)

    async def _path(self, first: bytes, second: bytes | None) -> _Known:
        place = (first, second)
        known = self._paths.get(place)
        if known is None or not self._is_good(known, place):
            known = await self._look_up_path(place)
        return known

    def _is_good(self, known: _Known, place: Any) -> bool:
        """Whether it may be served; what is a little old is, and looked up anew meanwhile."""
        late = self._loop.time() - known.fresh_until
        if late < 0:
            return True
        if known.endpoint is None or late > STALE_SECONDS:
            return False
        if not known.is_refreshed:
            known.is_refreshed = True
            self._in_background(self._refresh(known, place))
        return True

    async def _refresh(self, known: _Known, place: Any) -> None:
        try:
            if isinstance(place, bytes):
                await self._look_up_host(place)
            else:
                await self._look_up_path(place)
        except Error as error:
            log.warning("a route could not be looked up: %s", error)
            known.is_refreshed = False

    async def _look_up_host(self, host: bytes) -> _Known:
        names = names_of_host(host)
        if not names:
            known = _Known(None, FOREVER)
        else:
            known = await self._look_up(names)
        _keep(self._hosts, host, known)
        return known

    async def _look_up_path(self, place: tuple[bytes, bytes | None]) -> _Known:
        texts = _texts(place)
        # An encoded slash is a part of a name, and no name has one.
        is_name = not any("/" in text for text in texts)
        known = (
            await self._look_up([("path", "/".join(texts))]) if is_name else _Known(None, FOREVER)
        )
        _keep(self._paths, place, known)
        return known

    async def _look_up(self, names: list[RouteName]) -> _Known:
        endpoint = await self._client.aio(self._endpoint(names))
        lifetime = MISS_SECONDS if endpoint is None else HIT_SECONDS
        return _Known(endpoint, self._loop.time() + lifetime)

    def _endpoint(self, names: list[RouteName]) -> Op[Endpoint | None]:
        for route in (yield from self._client.routes.find(names)):
            if route is not None:
                endpoint = self._endpoints.get(route)
                if endpoint is None:
                    endpoint = yield from self._made(route)
                if endpoint is not None:
                    return endpoint
        return None

    def _made(self, route: Route) -> Op[Endpoint | None]:
        verified = yield from self._client.specs.version(route.app_id, route.number)
        endpoint = None if verified is None else endpoint_of(route, verified.value)
        if endpoint is not None:
            if len(self._endpoints) >= MOST_ENDPOINTS:
                self._endpoints.clear()
            self._endpoints[route] = endpoint
        return endpoint


def endpoint_of(route: Route, version: Version) -> Endpoint | None:
    """The web function in that version of its app; None if the version has none of the name."""
    function = version.functions.get(route.tag)
    if function is None:
        return None
    web = web_methods(FunctionOptions.from_plain(function.options)).get(route.method)
    return None if web is None else Endpoint(route, function, web)


def names_of_host(host: bytes) -> list[RouteName]:
    """The names that a host may lead by; none for an address, and for a name without a dot."""
    text = host.decode("latin-1").lower()
    name = text.rpartition(":")[0] if text.rpartition(":")[2].isdigit() else text.removesuffix(":")
    name = name.removesuffix(".")
    label, dot, rest = name.partition(".")
    if not dot or not label or not rest or name.startswith("[") or _is_address(name):
        return []
    return [("domain", name), ("label", label)]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _texts(parts: Sequence[bytes | None]) -> list[str]:
    return [unquote_to_bytes(part).decode(errors="replace") for part in parts if part is not None]


def _behind(endpoint: Endpoint, raw_path: bytes, *parts: bytes) -> Match:
    root = sum(len(part) + 1 for part in parts)
    root_path = "".join(f"/{text}" for text in _texts(parts))
    return Match(endpoint, root_path, raw_path[root:] or b"/")


def _keep(places: dict[Any, _Known], place: Any, known: _Known) -> None:
    if len(places) >= MOST_NAMES and place not in places:
        places.clear()
    places[place] = known
