"""The same app as a program of qmodal: with and without `@concurrent`, one container each."""

from __future__ import annotations

from fastapi import FastAPI

import qmodal
from benchmarks.web.site import make_site

MOST_AT_ONCE = 1000
APP = "web-benchmark"

app = qmodal.App(APP)


@app.function(min_containers=1, max_containers=1, timeout=3600)
@qmodal.concurrent(max_inputs=MOST_AT_ONCE)
@qmodal.asgi_app()
def concurrent() -> FastAPI:
    """Up to a thousand requests at once."""
    return make_site()


@app.function(min_containers=1, max_containers=1, timeout=3600)
@qmodal.asgi_app()
def single() -> FastAPI:
    """One request after the other."""
    return make_site()
