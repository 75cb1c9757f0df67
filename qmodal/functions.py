"""Modal's name for the module of Function and FunctionCall."""

from __future__ import annotations

from typing import Any

from qmodal.call import FunctionCall
from qmodal.client import deprecation as legacy
from qmodal.function import Function

__all__ = ["Function", "FunctionCall"]

_REFUSED = {"gather": "use modal.FunctionCall.gather(*calls)"}


def __getattr__(name: str) -> Any:
    if name == "FunctionStats":
        from qmodal.types import FunctionCurrentStats

        legacy.warn("modal.functions.FunctionStats", "use modal.types.FunctionCurrentStats")
        return FunctionCurrentStats
    raise legacy.refusal(__name__, name, _REFUSED)
