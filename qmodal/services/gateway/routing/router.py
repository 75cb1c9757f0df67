"""Finds the web function of a request by its host and its path, and remembers for a moment what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from qmodal.client.client import Client
from qmodal.exception import Error
from qmodal.services.gateway.routing.endpoint import Endpoint
from qmodal.spec.documents import Version
from qmodal.spec.options import FunctionOptions
from qmodal.spec.web import web_methods
from qmodal.telemetry.events import GATEWAY_TROUBLE, emit
from qmodal.transport.operation import Op
from qmodal.wire.route import Route, RouteName

# Seconds: what was found is served for HIT, and for STALE more while it is looked up anew. Together they are how long
# a gateway may call an app that was stopped, also by a program that was started again, or let in whoever a new version
# wants to have a token.
HIT_SECONDS, MISS_SECONDS, STALE_SECONDS = 0.2, 0.2, 0.3
MOST_NAMES = 10_000
MOST_ENDPOINTS = 1000
MOST_LETTERS = 200
FOREVER = float("inf")
_Place = tuple[bytes, bytes | None]
_new = tuple.__new__


class Match(NamedTuple):
    """Where a request leads: `raw_path` is what is left of the path behind `root_path`."""

    endpoint: Endpoint
    root_path: str
    raw_path: bytes


class _Known:
    """What a name led to when it was last looked up; a path leads there from behind its root."""

    __slots__ = ("endpoint", "fresh_until", "is_refreshed", "root_length", "root_path")

    def __init__(self, endpoint: Endpoint | None, fresh_until: float) -> None:
        self.endpoint = endpoint
        self.fresh_until = fresh_until
        self.is_refreshed = False
        self.root_path = ""
        self.root_length = 0


class Router:
    """Finds web functions; `in_background` runs what nobody waits for."""

    def __init__(
        self, client: Client, in_background: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._client = client
        self._in_background = in_background
        self._now = asyncio.get_running_loop().time
        self._hosts: dict[bytes, _Known] = {}
        # By first and second segment; by the first one with None, what an app's name alone leads to.
        self._paths: dict[_Place, _Known] = {}
        self._endpoints: dict[Route, Endpoint] = {}

    async def find(self, host: bytes, raw_path: bytes) -> Match | None:
        """The web function of that host or path; None if there is none. Raises as the server's absence does."""
        now = self._now()
        known = self._hosts.get(host)
        if known is None or (now >= known.fresh_until and not self._is_good(known, host, now)):
            known = await self._look_up_host(host)
        if known.endpoint is not None:
            return Match(known.endpoint, "", raw_path)
        parts = raw_path.split(b"/", 3)
        if len(parts) > 2:
            found = self._paths.get((parts[1], parts[2]))
            if found is not None and found.endpoint is not None and now < found.fresh_until:
                return _new(
                    Match,
                    (found.endpoint, found.root_path, raw_path[found.root_length :] or b"/"),
                )
        return await self._find_path(parts, raw_path, now)

    async def _find_path(self, parts: list[bytes], raw_path: bytes, now: float) -> Match | None:
        first, second = parts[1], parts[2] if len(parts) > 2 else b""
        if not first or len(first) > MOST_LETTERS:
            return None
        places: list[_Place] = [(first, None)]
        if second and len(second) <= MOST_LETTERS:
            places.insert(0, (first, second))
        for place in places:
            known = self._paths.get(place)
            if known is None or (now >= known.fresh_until and not self._is_good(known, place, now)):
                known = await self._look_up_path(place)
            if known.endpoint is not None:
                rest = raw_path[known.root_length :] or b"/"
                return Match(known.endpoint, known.root_path, rest)
        return None

    def _is_good(self, known: _Known, place: bytes | _Place, now: float) -> bool:
        """Whether what is not fresh may be served; what is a little old is, and looked up anew meanwhile."""
        if known.endpoint is None or now - known.fresh_until > STALE_SECONDS:
            return False
        if not known.is_refreshed:
            known.is_refreshed = True
            self._in_background(self._refresh(known, place))
        return True

    async def _refresh(self, known: _Known, place: bytes | _Place) -> None:
        try:
            if isinstance(place, bytes):
                await self._look_up_host(place)
            else:
                await self._look_up_path(place)
        except Error as error:
            emit(GATEWAY_TROUBLE, activity="a route could not be looked up", reason=str(error))
            known.is_refreshed = False

    async def _look_up_host(self, host: bytes) -> _Known:
        names = names_of_host(host)
        if not names:
            known = _Known(None, FOREVER)
        else:
            known = await self._look_up(names)
        _keep(self._hosts, host, known)
        return known

    async def _look_up_path(self, place: _Place) -> _Known:
        parts = [part for part in place if part is not None]
        texts = [unquote_to_bytes(part).decode(errors="replace") for part in parts]
        if any("/" in text for text in texts):  # an encoded slash: no name has one
            return _Known(None, FOREVER)
        known = await self._look_up([("path", "/".join(texts))])
        known.root_path = "".join(f"/{text}" for text in texts)
        known.root_length = sum(len(part) + 1 for part in parts)
        _keep(self._paths, place, known)
        return known

    async def _look_up(self, names: list[RouteName]) -> _Known:
        endpoint = await self._client.aio(self._endpoint(names))
        lifetime = MISS_SECONDS if endpoint is None else HIT_SECONDS
        return _Known(endpoint, self._now() + lifetime)

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


def _keep(places: dict[Any, _Known], place: Any, known: _Known) -> None:
    if len(places) >= MOST_NAMES and place not in places:
        places.clear()
    places[place] = known
