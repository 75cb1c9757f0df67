"""For mypy's `plugins`: `@app.cls()` gives a class the constructor of its parameters.

The method `App.cls` says so itself (PEP 681), which pyright follows; mypy does so only for decorators
whose definition it sees before it knows the types of variables, and `app` is one.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.nodes import CallExpr, DataclassTransformSpec, FuncDef, MemberExpr, TypeInfo
from mypy.plugin import ClassDefContext, Plugin
from mypy.plugins.dataclasses import DataclassTransformer, dataclass_tag_callback

DECORATOR = "qmodal.app.app.App.cls"
SPEC = DataclassTransformSpec(
    kw_only_default=True,
    field_specifiers=("qmodal.spec.parameters.parameter", "qmodal.parameter"),
)


class QmodalPlugin(Plugin):
    """Recognizes `@app.cls(...)` by its name on classes that have no `__init__` of their own."""

    def get_customize_class_mro_hook(
        self, fullname: str
    ) -> Callable[[ClassDefContext], None] | None:
        """Called for each class: names the decorator, as mypy does not know the type of `app` yet."""
        return _name_decorator

    def get_class_decorator_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        """Called with that name: the class will get a constructor."""
        return dataclass_tag_callback if fullname == DECORATOR else None

    def get_class_decorator_hook_2(self, fullname: str) -> Callable[[ClassDefContext], bool] | None:
        """Called with that name once the bases are known: the class gets it."""
        return _add_constructor if fullname == DECORATOR else None


def _name_decorator(context: ClassDefContext) -> None:
    for decorator in context.cls.decorators:
        if isinstance(decorator, CallExpr) and isinstance(decorator.callee, MemberExpr):
            callee = decorator.callee
            if callee.name == "cls" and not callee.fullname and not _has_init(context.cls.info):
                callee.fullname = DECORATOR


def _has_init(info: TypeInfo) -> bool:
    """Whether it has an `__init__` that was written, itself or in a base."""
    return any(
        isinstance(base.names["__init__"].node, FuncDef)
        and not base.names["__init__"].plugin_generated
        for base in info.mro[:-1]
        if "__init__" in base.names
    )


def _add_constructor(context: ClassDefContext) -> bool:
    return DataclassTransformer(context.cls, context.reason, SPEC, context.api).transform()


def plugin(version: str) -> type[Plugin]:
    """What mypy asks for."""
    return QmodalPlugin
