"""Modal's programming model on your own machines.

The names are loaded when they are first used: a process that only needs one of qmodal's parts,
such as the supervisor of the embedded server, starts without the others.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qmodal import exception, experimental, types
    from qmodal.app.app import App
    from qmodal.app.web import (
        asgi_app,
        fastapi_endpoint,
        web_endpoint,
        web_server,
        wsgi_app,
    )
    from qmodal.client.context import current_function_call_id, current_input_id, is_local
    from qmodal.cls.cls import Cls
    from qmodal.cls.partial_function import batched, concurrent, enter, exit, method
    from qmodal.dict import Dict
    from qmodal.exception import Error
    from qmodal.experimental import clustered, interact, sessioned
    from qmodal.functions.call import FunctionCall
    from qmodal.functions.function import Function
    from qmodal.output.screen import enable_output
    from qmodal.queue import Queue
    from qmodal.resources.image import Image
    from qmodal.resources.schedule import Cron, Period
    from qmodal.resources.secret import Secret
    from qmodal.resources.unsupported import (
        CloudBucketMount,
        Cluster,
        FilePatternMatcher,
        Mount,
        NetworkFileSystem,
        Proxy,
        Sandbox,
        Tunnel,
        Volume,
        forward,
    )
    from qmodal.spec.parameters import parameter
    from qmodal.spec.retries import Retries

__version__ = "0.1.0"

__all__ = [
    "App",
    "CloudBucketMount",
    "Cls",
    "Cluster",
    "Cron",
    "Dict",
    "Error",
    "FilePatternMatcher",
    "Function",
    "FunctionCall",
    "Image",
    "Mount",
    "NetworkFileSystem",
    "Period",
    "Proxy",
    "Queue",
    "Retries",
    "Sandbox",
    "Secret",
    "Tunnel",
    "Volume",
    "__version__",
    "asgi_app",
    "batched",
    "clustered",
    "concurrent",
    "current_function_call_id",
    "current_input_id",
    "enable_output",
    "enter",
    "exception",
    "exit",
    "experimental",
    "fastapi_endpoint",
    "forward",
    "interact",
    "is_local",
    "method",
    "parameter",
    "sessioned",
    "types",
    "web_endpoint",
    "web_server",
    "wsgi_app",
]

_PLACES = {
    "App": "app.app",
    "CloudBucketMount": "resources.unsupported",
    "Cls": "cls.cls",
    "Cluster": "resources.unsupported",
    "Cron": "resources.schedule",
    "Dict": "dict",
    "Error": "exception",
    "FilePatternMatcher": "resources.unsupported",
    "Function": "functions.function",
    "FunctionCall": "functions.call",
    "Image": "resources.image",
    "Mount": "resources.unsupported",
    "NetworkFileSystem": "resources.unsupported",
    "Period": "resources.schedule",
    "Proxy": "resources.unsupported",
    "Queue": "queue",
    "Retries": "spec.retries",
    "Sandbox": "resources.unsupported",
    "Secret": "resources.secret",
    "Tunnel": "resources.unsupported",
    "Volume": "resources.unsupported",
    "asgi_app": "app.web",
    "batched": "cls.partial_function",
    "clustered": "experimental",
    "concurrent": "cls.partial_function",
    "current_function_call_id": "client.context",
    "current_input_id": "client.context",
    "enable_output": "output.screen",
    "enter": "cls.partial_function",
    "exit": "cls.partial_function",
    "fastapi_endpoint": "app.web",
    "forward": "resources.unsupported",
    "interact": "experimental",
    "is_local": "client.context",
    "method": "cls.partial_function",
    "parameter": "spec.parameters",
    "sessioned": "experimental",
    "web_endpoint": "app.web",
    "web_server": "app.web",
    "wsgi_app": "app.web",
}
# A program may say `import qmodal as modal` and then `modal.exception.Error`, with no other import.
_MODULES = frozenset(
    {
        "app",
        "cls",
        "config",
        "dict",
        "exception",
        "experimental",
        "functions",
        "output",
        "queue",
        "runner",
        "types",
    }
)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"qmodal.{name}")
    place = _PLACES.get(name)
    if place is None:
        raise import_module("qmodal.client.deprecation").refusal("qmodal", name)
    value = getattr(import_module(f"qmodal.{place}"), name)
    globals()[name] = value
    return value


if "IPython" in sys.modules:
    import_module("qmodal.client.cell_errors").hide_frames()
