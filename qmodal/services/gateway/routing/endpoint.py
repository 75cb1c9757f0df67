"""A web function that requests are routed to, and the pools that its requests go to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qmodal.services.gateway.routing.load import PoolLoad
from qmodal.services.gateway.routing.parameters import read_parameters
from qmodal.spec.documents import FunctionSpec, PoolSpec
from qmodal.spec.options import FunctionOptions
from qmodal.spec.parameters import ParameterSpec
from qmodal.spec.web import WebSpec
from qmodal.wire.ids import shard_of
from qmodal.wire.route import Route

# Pools of one class that are remembered.
MOST_TARGETS = 1000


class WebTarget:
    """The pool and the method that a request becomes an input of."""

    __slots__ = ("load", "method", "pool", "shard", "spec")

    def __init__(self, spec: PoolSpec, method: str, capacity: int) -> None:
        self.spec = spec
        self.pool = spec.pool
        self.shard = shard_of(self.pool)
        self.method = method
        self.load = PoolLoad(capacity)


class Endpoint:
    """A web function in one version of its app."""

    __slots__ = ("_capacity", "_parameters", "_targets", "function", "route", "web")

    def __init__(self, route: Route, function: FunctionSpec, web: WebSpec) -> None:
        self.route = route
        self.web = web
        self.function = (route.environment, route.app, route.tag)
        plain: Iterable[Any] = function.parameters or ()
        self._parameters = tuple(ParameterSpec.from_plain(list(each)) for each in plain)
        self._capacity = FunctionOptions.from_plain(function.options).capacity
        self._targets: dict[bytes, WebTarget] = {}

    def target(self, query: bytes) -> WebTarget:
        """What a request with this query goes to; raises RefusedError if class parameters are wrong."""
        values, encoded = (
            read_parameters(self._parameters, query) if self._parameters else ({}, b"")
        )
        found = self._targets.get(encoded)
        if found is None:
            if len(self._targets) >= MOST_TARGETS:
                self._targets = {key: each for key, each in self._targets.items() if each.load.open}
            found = self._targets[encoded] = self._made(values, encoded)
        return found

    def _made(self, values: dict[str, Any], encoded: bytes) -> WebTarget:
        route = self.route
        shown = ", ".join(f"{name}={value!r:.60}" for name, value in values.items())
        is_class = route.tag.endswith(".*")
        label = f"{route.tag.removesuffix('.*')}({shown})" if is_class else route.tag
        spec = PoolSpec(app_id=route.app_id, function=route.tag, parameters=encoded, label=label)
        return WebTarget(spec, route.method, self._capacity)
