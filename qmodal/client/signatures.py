"""Signatures of verbs, as `help` and editors show them: what a call takes and gives, not how it is made."""

from __future__ import annotations

import re
from functools import WRAPPER_ASSIGNMENTS
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature

# What a verb's method returns, and what its caller gets.
_GIVEN = re.compile(r"(?:Op|Work)\[(.*)\]")
_STREAMED = re.compile(r"Stream\[(.*)\]")


class VerbSignature:
    """The `__signature__` of a verb, on an object or in its class; the classes of verbs have none."""

    def __get__(self, verb: Any, owner: type) -> Signature:
        if verb is None:
            raise AttributeError("__signature__")
        return signature_of(verb.__wrapped__)


def signature_of(method: Any) -> Signature:
    """What a caller of the verb passes and gets.

    A verb that takes whatever the function of its object takes (`*args: P.args`) has that function's parameters.
    """
    from inspect import Signature, formatannotation, signature  # who only calls needs none of it

    found = signature(method)
    returns = _returned(found.return_annotation)
    function = getattr(getattr(method, "__self__", None), "__wrapped__", None)
    if function is None or "P.args" not in {each.annotation for each in found.parameters.values()}:
        return found.replace(return_annotation=returns)
    own = signature(function)
    result = own.return_annotation
    if returns == "R" or result is Signature.empty:
        returns = result if returns == "R" else returns
    else:
        returns = re.sub(r"\bR\b", lambda _: formatannotation(result).strip("'"), returns)
    return own.replace(return_annotation=returns)


def _returned(annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    annotation = _GIVEN.sub(r"\1", annotation)
    return _STREAMED.sub(r"Iterator[\1]", annotation)


def names_of(source: Any) -> dict[str, Any]:
    """The name, docstring and module that a handle of this function or class has, too."""
    names = (name for name in WRAPPER_ASSIGNMENTS if name != "__annotations__")
    return {name: getattr(source, name) for name in names if hasattr(source, name)}
