"""Web functions as handles: they have no `.remote`, and nothing serves them yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qmodal.client import deprecation as legacy
from qmodal.client.verb import Verb
from qmodal.exception import InvalidError, UnimplementedError
from qmodal.functions.definition import LocalSource

if TYPE_CHECKING:
    from qmodal.functions.target import Target
    from qmodal.transport.operation import Op


class WebUrl:
    """`f.get_web_url()`: where a web function answers, None for others.

    Raises UnimplementedError for a web function.
    """

    def __init__(self, old: str = "") -> None:
        self._old = old

    def __get__(self, function: Any, owner: type | None = None) -> Verb[[], str | None]:
        def web_url() -> Op[str | None]:
            assert function is not None
            target = yield from function._target()
            _refuse_web(target)
            return None

        if self._old:
            legacy.warn(self._old, "use Function.get_web_url")
        return Verb(web_url)


class IsWeb:
    """Whether the local definition is a web function."""

    def __get__(self, function: Any, owner: type | None = None) -> bool:
        source = None if function is None else function._source
        return isinstance(source, LocalSource) and _is_web(source)


def _is_web(source: LocalSource) -> bool:
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


def _refuse_web(target: Target) -> None:
    if target.method in target.options.recorded.get("web", {}):
        raise UnimplementedError(
            f"nothing serves the web function {target.name!r} yet: call qmodal functions from a web "
            "server of your own."
        )
