"""Web functions: checks for handles that have no `.remote`, as nothing serves web functions yet."""

from __future__ import annotations

from qmodal.exception import InvalidError, UnimplementedError
from qmodal.functions.definition import LocalSource, Source
from qmodal.functions.target import Target


def is_web(source: Source) -> bool:
    """Whether a function of a local app was registered as a web function."""
    if not isinstance(source, LocalSource):
        return False
    entry = source.registry.entries.get(source.tag)
    return entry is not None and "web" in entry.options.recorded


def check_callable(target: Target, verb: str) -> None:
    """Raise InvalidError for a web function, UnimplementedError for one that is only recorded."""
    recorded = target.options.recorded
    web = recorded.get("web", {}).get(target.method)
    if web is not None:
        raise InvalidError(
            f"The web function {target.name!r} cannot be called with `.{verb}(...)`: it answers "
            f"HTTP requests ({web['kind']}). Call it with `.local(...)`, or leave the decorator out."
        )
    for name in ("clustered", "sessioned"):
        if name in recorded:
            raise UnimplementedError(
                f"qmodal does not run `@{name}` functions such as {target.name!r}: use `map` over the parts."
            )


def check_url(target: Target) -> None:
    """Raise UnimplementedError for a web function."""
    if target.method in target.options.recorded.get("web", {}):
        raise UnimplementedError(
            f"nothing serves the web function {target.name!r} yet: call qmodal functions from a web "
            "server of your own."
        )
