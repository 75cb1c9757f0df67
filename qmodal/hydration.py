"""From a definition and a binding to the target of calls: which pool, which method."""

from __future__ import annotations

from qmodal.binding import Binding, specs_of
from qmodal.definition import Definition
from qmodal.exception import NotFoundError
from qmodal.spec.documents import PoolSpec
from qmodal.spec.variant import Variant
from qmodal.target import Target


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
    options = variant.over(spec.options)
    options.check_kind(is_generator=method.is_generator)
    pool = PoolSpec(
        app_id=definition.app_id,
        function=spec.tag,
        parameters=b"" if binding is None else binding.instance.encoded(specs_of(spec)),
        variant=variant.packed,
        label=_label(spec.tag if binding is None else binding.instance.label(), definition),
        number=definition.number,
    )
    return Target(
        spec=pool,
        pool=pool.pool,
        method=name,
        name=title,
        is_generator=method.is_generator,
        options=options,
        main_by_reference=definition.main_by_reference,
    )


def _label(label: str, definition: Definition) -> str:
    return f"{label}@v{definition.number}" if definition.number else label


def _no_method(definition: Definition, method: str) -> NotFoundError:
    known = ", ".join(sorted(definition.spec.methods)) or "it has none"
    owner = definition.spec.tag.removesuffix(".*")
    return NotFoundError(
        f"{owner!r} of app {definition.app_name!r} has no method {method!r}: {known}."
    )
