"""From a definition to the target of its calls: which pool, and which method there."""

from __future__ import annotations

from qmodal.binding import Binding, specs_of
from qmodal.definition import Definition
from qmodal.exception import NotFoundError
from qmodal.target import Target
from qmodal.variant import Variant
from qmodal.wire.spec import PoolSpec


def target_of(
    definition: Definition, name: str, binding: Binding | None, variant: Variant
) -> Target:
    """The target of a handle; raises NotFoundError for a method that the class does not have."""
    spec = definition.spec
    method_name = "" if binding is None else binding.method
    method = spec.methods.get(method_name)
    if method is None:
        raise _no_method(definition, method_name)
    pool = PoolSpec(
        app_id=definition.app_id,
        function=spec.tag,
        parameters=b"" if binding is None else binding.instance.encoded(specs_of(spec)),
        variant=variant.packed,
        label=spec.tag if binding is None else binding.instance.label(),
    )
    return Target(
        spec=pool,
        pool=pool.pool,
        method=method_name,
        name=name,
        is_generator=method.is_generator,
        options=variant.over(spec.options),
        main_by_reference=definition.main_by_reference,
    )


def _no_method(definition: Definition, method: str) -> NotFoundError:
    known = ", ".join(sorted(definition.spec.methods)) or "no methods"
    owner = definition.spec.tag.removesuffix(".*")
    return NotFoundError(
        f"{owner!r} of app {definition.app_name!r} has no method {method!r}: {known}."
    )
