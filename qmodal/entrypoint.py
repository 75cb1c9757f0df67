"""LocalEntrypoint: what `@app.local_entrypoint()` makes of a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmodal.app import App


class LocalEntrypoint:
    """A function that runs on the caller's machine, as the start of a program."""

    def __init__(self, raw_f: Callable[..., Any], app: App, name: str) -> None:
        self.raw_f = raw_f
        self.app = app
        self.name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run it here."""
        return self.raw_f(*args, **kwargs)
