"""The packages that web functions need beside qmodal, imported only where one is served."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from qmodal.exception import ExecutionError
from qmodal.spec.web import WebKind

# An app of `asgi_app` is the user's own.
PACKAGES: dict[WebKind, str] = {
    "fastapi_endpoint": "fastapi",
    "wsgi_app": "a2wsgi",
    "web_server": "aiohttp",
}


def imported(name: str) -> Any:
    """The module of that name; raises ExecutionError that says how it is installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ExecutionError(
            f"a web function of this kind needs the package {error.name!r}, which is not installed where "
            "this worker runs: pip install 'qmodal[web]'"
        ) from error


def preload(kinds: Iterable[WebKind]) -> None:
    """Import the packages of these kinds that are installed."""
    for name in {PACKAGES[kind] for kind in kinds if kind in PACKAGES}:
        with suppress(ImportError):
            importlib.import_module(name)
