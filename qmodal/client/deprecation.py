"""Names of earlier versions of Modal: those that still work warn, the others say what replaced them."""

from __future__ import annotations

import warnings
from typing import NoReturn

from qmodal.client.context import is_local
from qmodal.exception import DeprecationError

# Names of the package that are gone, or that a self-hosted system cannot have, and what to do.
REFUSED = {
    "Stub": "it is called App now: `app = modal.App(...)`",
    "build": "install what the container needs on the box, or load it in an `@modal.enter()` method",
    "gpu": 'give the kind as text: `@app.function(gpu="A100:2")`',
    "create_package_mounts": "the source of the program is sent with the app",
    "web": "use `modal.fastapi_endpoint`, `modal.asgi_app`, `modal.wsgi_app` or `modal.web_server`",
    "billing": "there is no bill: the boxes are yours",
    "Workspace": "there are no workspaces; use environments (`qmodal run --env`) to keep apps apart",
    "Environment": "environments exist once something is deployed to them (`qmodal deploy --env`)",
    "Server": "start servers with `@modal.web_server` or outside of qmodal",
    "Client": "each process has one connection, set up by QMODAL_REDIS_URL and QMODAL_SIGNING_KEY",
    "SandboxSnapshot": "there are no sandboxes; call a function, or use a container runtime directly",
    "SchedulerPlacement": "containers are placed by the autoscaler, on the boxes that run a worker",
    "Probe": "a container is ready when its `@modal.enter()` methods have returned",
}


def refusal(module: str, name: str, table: dict[str, str] = REFUSED) -> AttributeError:
    """The AttributeError for a module's name, with what replaced it."""
    instead = table.get(name)
    text = f"module {module!r} has no attribute {name!r}"
    return AttributeError(text if instead is None else f"{text}: {instead}")


def warn(old: str, new: str, *, level: int = 2) -> None:
    """The DeprecationError for a name that works; Python shows it once for each place that uses it.

    Containers say nothing: the same line has warned its author where the app was started.
    """
    if not is_local():
        return
    warnings.warn(f"{old} is an old name: {new}", DeprecationError, stacklevel=level + 1)


class Removed:
    """A method or property that is gone: asking for it raises AttributeError with the new form."""

    __slots__ = ("_instead", "_name")

    def __init__(self, instead: str) -> None:
        self._instead = instead
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"{owner.__name__.removesuffix('Names')}.{name}"

    def __get__(self, instance: object, owner: type | None = None) -> NoReturn:
        raise AttributeError(f"{self._name} does not exist any more: use {self._instead}")


class FunctionNames:
    """Old names of a Function's methods, which say what replaced them."""

    __slots__ = ()

    lookup = Removed("Function.from_name(app_name, name)")
    keep_warm = Removed("f.autoscaler.update(min_containers=n)")
    web_url = Removed("f.get_web_url()")
    resolve = Removed("f.hydrate()")


def note_wrapping(wrap_returned_exceptions: object, *, level: int = 3) -> None:
    """Warn about that argument of the map family if it was given, whatever its value."""
    if wrap_returned_exceptions is not None:
        warn(
            "`wrap_returned_exceptions`",
            "exceptions are returned as they are, and it has no effect; leave it out",
            level=level,
        )
