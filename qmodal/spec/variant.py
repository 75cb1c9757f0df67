"""Variants of a function: options changed by `with_options` and its like, which make a pool of their own.

Two handles with equal changes reach the same pool, whatever the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qmodal.spec.documents import FunctionSpec, PoolSpec
from qmodal.spec.options import (
    FunctionOptions,
    check_batching,
    check_concurrency,
    plain_overrides,
)
from qmodal.spec.resource import SecretResource
from qmodal.spec.variables import published
from qmodal.wire.plain import pack, unpack
from qmodal.wire.signing import Signer


@dataclass(frozen=True, slots=True)
class Variant:
    """Options laid over those of the function; plain values, and the secrets as they were given."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    secrets: tuple[SecretResource, ...] = ()

    def with_options(self, **given: Any) -> Variant:
        """Later values replace earlier ones; empty ones (0, None, {}) change nothing.

        Raises InvalidError for a bad value, TypeError for an option that cannot be changed.
        """
        changes = _laid_over(self.changes, plain_overrides(**given))
        return Variant(changes, tuple(given.get("secrets") or self.secrets))

    def with_concurrency(self, max_inputs: int, target_inputs: int | None) -> Variant:
        """Several inputs at once in a container; raises InvalidError."""
        target = max_inputs if target_inputs is None else target_inputs
        check_concurrency(max_inputs, target)
        return self._and(max_inputs=max_inputs, target_inputs=target)

    def with_batching(self, max_batch_size: int, wait_ms: int) -> Variant:
        """Inputs collected into batches; raises InvalidError."""
        check_batching(max_batch_size, wait_ms)
        return self._and(max_batch_size=max_batch_size, wait_ms=wait_ms)

    def _and(self, **changes: Any) -> Variant:
        return replace(self, changes={**self.changes, **changes})

    @property
    def packed(self) -> bytes:
        """The bytes that are part of the pool's identity; empty for no change."""
        return pack(_ordered(self.changes)) if self.changes else b""

    def published(self, signer: Signer, app: str) -> Variant:
        """The same as it travels, with its secrets sealed for an app of that name; raises InvalidError."""
        secrets = [published(secret, signer, app) for secret in self.secrets]
        return Variant({**self.changes, "secrets": secrets})

    def over(self, options: Mapping[str, Any]) -> FunctionOptions:
        """The function's own plain options with the changes laid over them."""
        return FunctionOptions.from_plain(_laid_over(options, self.changes))


def _laid_over(options: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Both, the changes first; notes that have no effect are added to those there are."""
    both = {**options, **changes}
    if "recorded" in options and "recorded" in changes:
        both["recorded"] = {**options["recorded"], **changes["recorded"]}
    return both


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _ordered(value[name]) for name in sorted(value)}
    return value


def variant_of(pool: PoolSpec) -> Variant:
    """What the pool changes about its function's options."""
    return Variant(unpack(pool.variant)) if pool.variant else Variant()


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of a pool that is in force, and where it was set; `since`: when it was updated, in ms since 1970."""

    name: str
    value: float | None
    source: str
    since: int = 0


LIMITS = (
    "min_containers",
    "max_containers",
    "buffer_containers",
    "scaledown_window",
    "scaleup_softness",
    "scaleup_window",
)


def limits_in_force(
    function: FunctionSpec, pool: PoolSpec, overridden: Mapping[str, tuple[float, int]]
) -> list[Limit]:
    """The limits of a pool; `overridden`: what `autoscaler.update` has set, each with the time."""
    changes = variant_of(pool).changes
    options = options_in_force(function, pool)
    declared = "@app.cls" if function.is_class else "@app.function"
    found = []
    for name in LIMITS:
        value, since = overridden.get(name, (None, 0))
        if value is not None:
            most = None if name == "max_containers" and value == 0 else value
            found.append(Limit(name, most, "update_autoscaler", since))
        elif name in changes:
            found.append(Limit(name, getattr(options, name), "with_options"))
        else:
            source = declared if name in function.options else "default"
            found.append(Limit(name, getattr(options, name), source))
    return found


def options_in_force(function: FunctionSpec, pool: PoolSpec) -> FunctionOptions:
    """The options that a pool's containers run with: its function's own, with its variant laid over them.

    What `autoscaler.update` overrides is not in them: that is the app's, and changes while they run.
    """
    return variant_of(pool).over(function.options)
