"""Calling one function: its handle, its calls, and what becomes of their inputs."""

from __future__ import annotations

from typing import Any

from qmodal.client import deprecation
from qmodal.functions.call import FunctionCall
from qmodal.functions.function import Function

__all__ = ["Function", "FunctionCall"]

_REFUSED = {"gather": "use modal.FunctionCall.gather(*calls)"}


def __getattr__(name: str) -> Any:
    if name == "FunctionStats":
        from qmodal.types import FunctionCurrentStats

        deprecation.warn("modal.functions.FunctionStats", "use modal.types.FunctionCurrentStats")
        return FunctionCurrentStats
    raise deprecation.refusal(__name__, name, _REFUSED)
