"""Web functions as values: what serves the requests of a method, and the labels and paths that lead to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

from qmodal.exception import InvalidError
from qmodal.spec.documents import FunctionSpec, Version
from qmodal.spec.options import FunctionOptions
from qmodal.wire.route import NamedRoute, Rank, Route, RouteKind

WebKind = Literal["fastapi_endpoint", "asgi_app", "wsgi_app", "web_server"]
# A label of a host name has at most 63 characters; a longer one ends with six digits of its digest.
MOST_LABEL, KEPT_LABEL = 63, 56
# Of this environment nothing is said in URLs.
MAIN = "main"
# What names of an app that is not deployed end with: they take nothing from the deployed one.
DEV = "dev"
_OTHER = re.compile(r"[^a-z0-9-]+")
_NOT_IN_PATHS = re.compile(r"[^\w.~-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSpec:
    """How requests for one web function are answered; `startup_timeout` in seconds."""

    kind: WebKind
    method: str = "GET"
    docs: bool = False
    port: int = 0
    startup_timeout: float = 5.0
    label: str | None = None
    custom_domains: tuple[str, ...] = ()
    requires_proxy_auth: bool = False

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> WebSpec:
        """As the decorators record it."""
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        if values["kind"] == "web_endpoint":
            values["kind"] = "fastapi_endpoint"
        values["custom_domains"] = tuple(values.get("custom_domains") or ())
        return cls(**values)


def web_methods(options: FunctionOptions) -> dict[str, WebSpec]:
    """The web functions among the methods of a function or class; a function is the method ""."""
    recorded = options.recorded.get("web") or {}
    return {name: WebSpec.from_plain(plain) for name, plain in recorded.items()}


def full_name(tag: str, method: str) -> str:
    """What a web function is called in paths and lists: `f`, or `Cls.method`."""
    return f"{tag.removesuffix('.*')}.{method}" if method else tag


def host_label(*parts: str) -> str:
    """The parts with dashes between them, as one label of a host name.

    >>> host_label("My_App", "MyClass.baz")
    'my-app-myclass-baz'
    """
    text = "-".join(parts).lower()
    label = _OTHER.sub("-", text).strip("-")
    if text.isascii() and 0 < len(label) <= MOST_LABEL:
        return label
    return _told_apart(label, text)


def path_part(text: str) -> str:
    """The text as a segment of a path that needs no escapes but for letters of other alphabets."""
    return _NOT_IN_PATHS.sub("-", text)


def _told_apart(name: str, by: str) -> str:
    return f"{name[:KEPT_LABEL]}-{_digits(by)}".lstrip("-")


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


class WebFunction(NamedTuple):
    """One web function of a version, with the label and the path that are its own."""

    tag: str
    method: str
    spec: WebSpec
    label: str
    path: str

    @property
    def name(self) -> str:
        """What lists call it."""
        return full_name(self.tag, self.method)


def web_functions(version: Version) -> list[WebFunction]:
    """The web functions of a version; raises InvalidError if two have the same label or domain."""
    found = list(_specs(version.functions.values()))
    check_distinct((full_name(tag, method), spec) for tag, method, spec in found)
    begin, end = _place(version)
    environment = begin[:-1]
    labels = {spec.label: host_label(*environment, spec.label) for *_, spec in found if spec.label}
    taken = set(labels.values())
    functions = []
    for tag, method, spec in found:
        name = full_name(tag, method)
        label = labels[spec.label] if spec.label else host_label(*begin, name, *end)
        if not spec.label and label in taken:  # as those of `my_f` and `my-f` are the same
            label = _told_apart(label, name)
        path = "/".join(map(path_part, ("-".join((*begin, *end)), name)))
        if path in taken:
            path = f"{path}-{_digits(name)}"
        taken |= {label, path}
        functions.append(WebFunction(tag, method, spec, label, path))
    return functions


def has_web(spec: FunctionSpec) -> bool:
    """Whether a published function is a web function, or a class has some."""
    return bool(spec.options.get("recorded", {}).get("web"))


def _specs(functions: Iterable[FunctionSpec]) -> Iterator[tuple[str, str, WebSpec]]:
    for spec in functions:
        if not has_web(spec):
            continue  # nearly all of them
        for method, web in web_methods(FunctionOptions.from_plain(spec.options)).items():
            yield spec.tag, method, web


def _place(version: Version) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the names of its web functions begin and end with."""
    begin = () if version.environment == MAIN else (version.environment,)
    return (*begin, version.name), ((DEV,) if version.is_ephemeral else ())


def check_distinct(functions: Iterable[tuple[str, WebSpec]]) -> None:
    """Raise InvalidError if two web functions of an app, given with their names, have one label or domain."""
    owners: dict[tuple[str, str], str] = {}
    for name, spec in functions:
        given = [("domain", domain) for domain in spec.custom_domains]
        if spec.label:
            given.append(("label", spec.label))
        for kind, value in given:
            owner = owners.setdefault((kind, value), name)
            if owner != name:
                raise InvalidError(
                    f"The web functions {owner!r} and {name!r} have the same {kind}, {value!r}; "
                    "a URL can lead to one of them only."
                )


def routes_of(version: Version) -> list[NamedRoute]:
    """All that leads to the version's web functions; raises InvalidError as `web_functions` does.

    Each function has a label, a path and its domains. Where it is not another app's name, it is also found without
    the environment and without `dev`; and an app's only web function without its own name.
    """
    functions = web_functions(version)
    names: dict[tuple[RouteKind, str], tuple[Rank, WebFunction]] = {}
    own: Rank = "run" if version.is_ephemeral else "deployed"
    begin, end = _place(version)
    for each in functions:
        names["label", each.label] = own, each
        names["path", each.path] = own, each
        # Whoever tries an app out does not take the domain of the deployed one.
        for domain in each.spec.custom_domains:
            names["domain", domain] = ("short" if version.is_ephemeral else own), each
        names.setdefault(
            ("path", "/".join(map(path_part, (version.name, each.name)))), ("short", each)
        )
    if len(functions) == 1:
        only = functions[0]
        names.setdefault(("path", path_part("-".join((*begin, *end)))), (own, only))
        names.setdefault(("path", path_part(version.name)), ("short", only))
        names.setdefault(("label", host_label(*begin, *end)), ("short", only))
    return [
        NamedRoute(rank, kind, name, _route(version, each))
        for (kind, name), (rank, each) in names.items()
    ]


def _route(version: Version, function: WebFunction) -> Route:
    return Route(
        version.app_id,
        version.name,
        version.environment,
        function.tag,
        function.method,
        version.number,
    )
