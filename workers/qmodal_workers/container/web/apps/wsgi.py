"""WSGI apps, run in threads behind an ASGI app."""

from __future__ import annotations

from typing import Any

from qmodal_workers.container.web.apps.needed import imported
from qmodal_workers.container.web.asgi_run import App

# Also where one request runs at a time: one that was given up keeps its thread to its end.
LEAST_THREADS = 10


def wsgi_app(app: Any, max_inputs: int) -> App:
    """The ASGI app of a WSGI app that gets up to `max_inputs` requests at once."""
    made: App = imported("a2wsgi").WSGIMiddleware(app, workers=max(LEAST_THREADS, max_inputs))
    return made
