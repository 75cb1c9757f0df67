"""The pages of a gateway itself: its health, and what it says at an address that leads nowhere."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

HEALTH = b"/healthz"
NOWHERE = (
    "No web function has this address. It is https://LABEL.DOMAIN/ or /APP/FUNCTION; "
    "Function.get_web_url() tells the one of a function."
)


async def _healthy(request: object) -> Response:
    """200, whether or not the Redis server answers: requests wait for that."""
    return PlainTextResponse("ok\n")


async def _nowhere(request: object, error: object) -> Response:
    return PlainTextResponse(f"{NOWHERE}\n", 404)


def pages() -> Any:
    """The ASGI app of these pages."""
    routes = [Route(HEALTH.decode(), _healthy)]
    return Starlette(routes=routes, exception_handlers={404: _nowhere})
