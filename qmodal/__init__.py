"""Modal's programming model on your own machines.

The names are loaded when they are first used: a process that only needs one of qmodal's parts,
such as the supervisor of the embedded server, starts without the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmodal import exception, types
    from qmodal.app import App
    from qmodal.call import FunctionCall
    from qmodal.cls import Cls
    from qmodal.context import current_function_call_id, current_input_id, is_local
    from qmodal.exception import Error
    from qmodal.function import Function
    from qmodal.output import enable_output
    from qmodal.parameters import parameter
    from qmodal.partial import enter, exit, method
    from qmodal.retries import Retries

__version__ = "0.1.0"

__all__ = [
    "App",
    "Cls",
    "Error",
    "Function",
    "FunctionCall",
    "Retries",
    "__version__",
    "current_function_call_id",
    "current_input_id",
    "enable_output",
    "enter",
    "exception",
    "exit",
    "is_local",
    "method",
    "parameter",
    "types",
]

_PLACES = {
    "App": "app",
    "Cls": "cls",
    "Error": "exception",
    "Function": "function",
    "FunctionCall": "call",
    "Retries": "retries",
    "current_function_call_id": "context",
    "current_input_id": "context",
    "enable_output": "output",
    "enter": "partial",
    "exit": "partial",
    "is_local": "context",
    "method": "partial",
    "parameter": "parameters",
}
_MODULES = frozenset({"exception", "types"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"qmodal.{name}")
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'qmodal' has no attribute {name!r}")
    value = getattr(import_module(f"qmodal.{place}"), name)
    globals()[name] = value
    return value
