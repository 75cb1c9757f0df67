"""What the decorators of web functions accept: each check returns the value to keep, or raises InvalidError."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterable

from qmodal.client.context import is_local
from qmodal.exception import InvalidError
from qmodal.spec.web import MOST_LABEL

# The methods of HTTP that an endpoint may be for.
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
LONGEST_DOMAIN = 253
HIGHEST_PORT = 65535
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def checked_method(method: object) -> str:
    """The method of HTTP, in upper case."""
    name = method.upper() if isinstance(method, str) else ""
    if name not in HTTP_METHODS:
        raise InvalidError(
            f"`method` is {method!r}, which is no method of HTTP; write one of {', '.join(HTTP_METHODS)}."
        )
    return name


def checked_label(label: object) -> str | None:
    """The label, which can begin a host name."""
    if label is None:
        return None
    if not isinstance(label, str) or not _LABEL.fullmatch(label):
        raise InvalidError(
            f"`label` is {label!r}, but the host name of a URL begins with it: write up to {MOST_LABEL} "
            "lower-case letters, digits and dashes, and no dash at either end."
        )
    return label


def checked_domains(domains: object) -> list[str] | None:
    """The domains, in lower case."""
    if domains is None:
        return None
    if isinstance(domains, str | bytes) or not isinstance(domains, Iterable):
        raise InvalidError(
            f"`custom_domains` is {domains!r}; write a list, such as ['api.example.com']."
        )
    return list(dict.fromkeys(map(_checked_domain, domains)))


def _checked_domain(domain: object) -> str:
    name = domain.lower() if isinstance(domain, str) else ""
    labels = name.split(".")
    is_name = len(name) <= LONGEST_DOMAIN and all(map(_LABEL.fullmatch, labels))
    if (
        not is_name or len(labels) == 1 or labels[-1].isdigit()
    ):  # the last one of an address is a number
        raise InvalidError(
            f"`custom_domains` has {domain!r}, which is no domain: write it as 'api.example.com', without "
            "scheme, port and path; letters other than a to z are written as 'xn--...'."
        )
    return name


def checked_flag(name: str, value: object) -> bool:
    """The switch of that name."""
    if type(value) is not bool:
        raise InvalidError(f"`{name}` must be True or False, not {value!r}.")
    return value


def checked_port(port: object) -> int:
    """The port of a server."""
    if callable(port):  # the function: the decorator was not called
        raise InvalidError(
            "@modal.web_server needs parentheses and a port: write `@modal.web_server(8000)`."
        )
    if type(port) is not int or not 1 <= port <= HIGHEST_PORT:
        raise InvalidError(
            f"The port of `@modal.web_server` must be between 1 and {HIGHEST_PORT}, not {port!r}."
        )
    return port


def checked_seconds(seconds: object) -> float:
    """How long a server may take to listen."""
    if type(seconds) not in (int, float) or not 0 < seconds < math.inf:  # type: ignore[operator]
        raise InvalidError(
            f"The `startup_timeout` of `@modal.web_server` must be seconds above 0, not {seconds!r}."
        )
    return float(seconds)  # type: ignore[arg-type]


def check_fastapi(decorator: str) -> None:
    """Raise InvalidError where programs are started if FastAPI is not installed there.

    A container says so when it is asked for the endpoint: other functions of the module need no FastAPI.
    """
    if is_local() and importlib.util.find_spec("fastapi") is None:
        raise InvalidError(
            f"`@modal.{decorator}` needs FastAPI, here and where containers run: "
            "pip install 'qmodal[web]'"
        )
