"""Target: which pool and which method a handle's calls are for, and which verbs may call it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qmodal.client.client import current
from qmodal.exception import InvalidError, NotFoundError, UnimplementedError
from qmodal.spec.documents import FunctionSpec, PoolSpec
from qmodal.spec.options import FunctionOptions
from qmodal.spec.parameters import ParameterSpec
from qmodal.spec.registry import Definition
from qmodal.spec.variant import Variant, options_in_force
from qmodal.transport.operation import Op


class Instance(Protocol):
    """What a method is bound to."""

    def _encoded(self, specs: tuple[ParameterSpec, ...] | None) -> bytes:
        """The parameters as the pool's identity; raises InvalidError, TypeError, ValueError."""
        ...

    def _label(self) -> str:
        """What people see, such as `Model(size=3)`."""
        ...


@dataclass(frozen=True, slots=True)
class Binding:
    """What a method's handle has beside its class: the method and the instance."""

    method: str
    instance: Instance


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a call is for: a method and the pool that runs it; `main_by_reference` as in `wire.payload`."""

    spec: PoolSpec
    pool: str
    method: str
    name: str  # what people call it
    is_generator: bool
    options: FunctionOptions
    main_by_reference: bool
    is_web: bool = False


FindTarget = Callable[[], Op[Target]]


def target_of(
    definition: Definition, binding: Binding | None, variant: Variant, title: str
) -> Target:
    """The target that people call `title`; raises NotFoundError for an unknown method.

    Raises InvalidError where the variant's options are not for a function of its kind.
    """
    spec = definition.spec
    name = "" if binding is None else binding.method
    method = spec.methods.get(name)
    if method is None:
        raise _no_method(definition, name)
    pool = PoolSpec(
        app_id=definition.app_id,
        function=spec.tag,
        parameters=b"" if binding is None else binding.instance._encoded(specs_of(spec)),
        variant=_sealed(variant, definition).packed,
        label=label_of(
            spec.tag if binding is None else binding.instance._label(), definition.number
        ),
        number=definition.number,
    )
    options = options_in_force(spec, pool)
    is_web = name in options.recorded.get("web", {})
    options.check_kind(is_generator=method.is_generator, is_web=is_web, methods=len(spec.methods))
    return Target(
        spec=pool,
        pool=pool.pool,
        method=name,
        name=title,
        is_generator=method.is_generator,
        options=options,
        main_by_reference=definition.main_by_reference,
        is_web=is_web,
    )


def _sealed(variant: Variant, definition: Definition) -> Variant:
    """The variant as it travels."""
    if not variant.secrets:
        return variant
    return variant.published(current().signer, definition.app_name)


def label_of(label: str, number: int) -> str:
    """What people see of a pool that is pinned to that version (0: to none)."""
    return f"{label}@v{number}" if number else label


def _no_method(definition: Definition, method: str) -> NotFoundError:
    known = ", ".join(sorted(definition.spec.methods)) or "it has none"
    owner = definition.spec.tag.removesuffix(".*")
    return NotFoundError(
        f"{owner!r} of app {definition.app_name!r} has no method {method!r}: {known}."
    )


def specs_of(spec: FunctionSpec) -> tuple[ParameterSpec, ...] | None:
    """The parameters that a published class takes; None if it has a constructor of its own."""
    if spec.parameters is None:
        return None
    return tuple(ParameterSpec.from_plain(list(plain)) for plain in spec.parameters)


def check_function(target: Target, verb: str) -> None:
    """Raise InvalidError for a generator, which `verb` cannot call.

    Raises UnimplementedError for a function that is only recorded.
    """
    for name in ("clustered", "sessioned"):
        if name in target.options.recorded:
            raise UnimplementedError(
                f"qmodal does not run `@{name}` functions such as {target.name!r}: use `map` over the parts."
            )
    if target.is_generator and verb == "spawn":
        raise InvalidError("Cannot `spawn` a generator function.")
    if target.is_generator:
        hint = " Use `.remote_gen(...)` instead." if verb == "remote" else ""
        raise InvalidError(f"A generator function cannot be called with `.{verb}(...)`.{hint}")


def check_generator(target: Target) -> None:
    """Raise InvalidError for what `remote_gen` cannot call."""
    if not target.is_generator:
        raise InvalidError(
            "A non-generator function cannot be called with `.remote_gen(...)`. "
            "Use `.remote(...)` instead."
        )
