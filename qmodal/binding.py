"""What a method is bound to: an instance, whose parameters say which pool it runs in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qmodal.spec.documents import FunctionSpec
from qmodal.spec.parameters import ParameterSpec


class Instance(Protocol):
    """What a method is bound to."""

    def encoded(self, specs: tuple[ParameterSpec, ...] | None) -> bytes:
        """The parameters as the pool's identity; raises InvalidError, TypeError, ValueError."""
        ...

    def label(self) -> str:
        """What people see, such as `Model(size=3)`."""
        ...


@dataclass(frozen=True, slots=True)
class Binding:
    """What a method's handle has beside its class: the method and the instance."""

    method: str
    instance: Instance


def specs_of(spec: FunctionSpec) -> tuple[ParameterSpec, ...] | None:
    """The parameters that a published class takes; None if it has a constructor of its own."""
    if spec.parameters is None:
        return None
    return tuple(ParameterSpec.from_plain(list(plain)) for plain in spec.parameters)
