"""Web functions as values: what serves the requests of a method, and the labels and paths that lead to it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from qmodal.spec.options import FunctionOptions

WebKind = Literal["fastapi_endpoint", "asgi_app", "wsgi_app", "web_server"]
# A label of a host name has at most 63 characters; a longer one ends with six digits of its digest.
MOST_LABEL, KEPT_LABEL = 63, 56
_OTHER = re.compile(r"[^a-z0-9-]+")


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


def host_label(*parts: str) -> str:
    """The parts with dashes between them, as one label of a host name.

    >>> host_label("My_App", "MyClass.baz")
    'my-app-myclass-baz'
    """
    label = _OTHER.sub("-", "-".join(parts).lower()).strip("-")
    if len(label) <= MOST_LABEL:
        return label
    return f"{label[:KEPT_LABEL]}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
