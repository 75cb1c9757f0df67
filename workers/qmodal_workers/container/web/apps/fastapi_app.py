"""The FastAPI app of an endpoint: one route, for one verb."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qmodal.spec.parameters import ParameterSpec
from qmodal.spec.web import WebSpec
from qmodal_workers.container.web.apps.needed import imported
from qmodal_workers.container.web.asgi_run import App

_TYPES = {"int": "integer", "str": "string", "bytes": "string", "bool": "boolean"}


def fastapi_app(
    endpoint: Callable[..., Any], spec: WebSpec, parameters: Sequence[ParameterSpec]
) -> App:
    """The app; `parameters` of its class stand in its docs, the gateway has taken them from the query."""
    fastapi, cors = imported("fastapi"), imported("fastapi.middleware.cors")
    app = fastapi.FastAPI(
        title=getattr(endpoint, "__qualname__", spec.kind),
        openapi_url="/openapi.json" if spec.docs else None,  # without it there are no docs, either
    )
    app.add_middleware(
        cors.CORSMiddleware,
        allow_origins=["*"],
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
    )
    described = {"parameters": list(map(_described, parameters))} if parameters else None
    app.add_api_route("/", endpoint, methods=[spec.method], openapi_extra=described)
    made: App = app
    return made


def _described(parameter: ParameterSpec) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": _TYPES[parameter.kind], "title": parameter.name}
    if not parameter.required and not isinstance(parameter.default, bytes):
        schema["default"] = parameter.default
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "schema": schema,
        "description": "A parameter of the class.",
    }
