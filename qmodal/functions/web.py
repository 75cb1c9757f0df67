"""Where web functions answer: the URLs that lead to them, of the gateways or of QMODAL_WEB_URL."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from qmodal.client.client import Client, current
from qmodal.exception import InvalidError
from qmodal.functions.target import Target
from qmodal.spec.documents import FunctionSpec
from qmodal.spec.options import FunctionOptions
from qmodal.spec.registry import Definition
from qmodal.spec.web import WebSpec, full_name, web_methods
from qmodal.transport.operation import Op
from qmodal.types import WebInfo
from qmodal.wire.route import NamedRoute


class WebAddress(NamedTuple):
    """A web function of a published app, its URL if anybody serves it, and those of its domains."""

    tag: str
    method: str
    url: str | None
    domains: tuple[str, ...]

    @property
    def name(self) -> str:
        """What lists call it."""
        return full_name(self.tag, self.method)

    @property
    def urls(self) -> list[str]:
        """All that leads to it."""
        return [*filter(None, [self.url]), *self.domains]


@dataclass(slots=True)
class _Names:
    label: str = ""
    path: str = ""
    domains: list[str] = field(default_factory=list)

    def add(self, route: NamedRoute) -> None:
        """Take in a name; short ones, which another app may have, are left out."""
        if route.kind == "domain":
            self.domains.append(route.name)
        elif route.rank == "short":
            return
        elif route.kind == "label":
            self.label = route.name
        elif "/" in route.name:
            self.path = route.name


def web_addresses(client: Client, app_id: str) -> Op[list[WebAddress]]:
    """The web functions of a published app, in the order of their names."""
    routes = yield from client.routes.of_app(app_id)
    if not routes:
        return []
    named: dict[tuple[str, str], _Names] = {}
    for each in routes:
        named.setdefault((each.route.tag, each.route.method), _Names()).add(each)
    base = client.settings.web_url
    served_at = base or (yield from client.gateways.newest())
    scheme = urlsplit(base).scheme if base else "https"
    return [
        WebAddress(
            tag,
            method,
            _url(names, served_at, has_labels=base is not None),
            tuple(f"{scheme}://{domain}" for domain in sorted(names.domains)),
        )
        for (tag, method), names in sorted(named.items())
    ]


def _url(names: _Names, base: str | None, *, has_labels: bool) -> str | None:
    if base is None or not (names.label and names.path):
        return None
    parts = urlsplit(base)
    if has_labels and _has_subdomains(parts.hostname or ""):
        return f"{parts.scheme}://{names.label}.{parts.netloc}"
    return f"{base}/{quote(names.path, safe='/~')}"


def _has_subdomains(host: str) -> bool:
    """Whether hosts in that domain lead to the same place: not for an address, nor for this machine."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return False


def web_url(app_id: str, tag: str, method: str) -> Op[str | None]:
    """Where that web function answers (a function is the method ""); None for another one, or if nobody serves it."""
    found = yield from web_addresses(current(), app_id)
    return next((each.url for each in found if (each.tag, each.method) == (tag, method)), None)


def web_infos(definition: Definition) -> Op[dict[str, WebInfo]]:
    """What there is to know of the web functions among the methods of a published function or class."""
    spec = definition.spec
    specs = web_specs(spec)
    found = (yield from web_addresses(current(), definition.app_id)) if specs else []
    urls = {each.method: each.url for each in found if each.tag == spec.tag}
    return {
        name: WebInfo(
            web_url=urls.get(name),
            method=web.method if web.kind == "fastapi_endpoint" else None,
            unauthenticated=not web.requires_proxy_auth,
        )
        for name, web in specs.items()
    }


def web_specs(spec: FunctionSpec) -> dict[str, WebSpec]:
    """The web functions among the methods of a published function or class."""
    return web_methods(FunctionOptions.from_plain(spec.options))


def check_called(target: Target, verb: str) -> Op[None]:
    """Raise InvalidError for a web function, which no verb calls; says where it answers instead."""
    if not target.is_web:
        return
    url = yield from web_url(target.spec.app_id, target.spec.function, target.method)
    where = f"at {url}" if url else f"as soon as `qmodal web` runs ({target.name}.get_web_url())"
    raise InvalidError(
        f"The web function {target.name!r} cannot be called with `.{verb}(...)`: it answers HTTP requests, {where}. "
        "Call it with `.local(...)`, or leave the decorator out."
    )
