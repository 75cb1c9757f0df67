"""Answers the requests of one web function: what an input of it runs, with its packed request as the argument."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from qmodal.exception import InputCancellation
from qmodal.wire.web import Request, Response, unpack_request
from qmodal_workers.container.web.asgi_run import App, AsgiRun, Delivery
from qmodal_workers.container.web.http_run import HttpRun
from qmodal_workers.container.web.scope import http_scope, websocket_scope
from qmodal_workers.container.web.stream import Streams
from qmodal_workers.container.web.under_way import GIVE_UP_SECONDS, UnderWay
from qmodal_workers.container.web.websocket_run import WebsocketRun
from qmodal_workers.ipc.shared_record import STOPPED

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


class WebHandler:
    """Runs the app for one request after another, or for many at once; `state` is what its lifespan has set."""

    def __init__(
        self, app: App, state: Mapping[str, Any], streams: Streams, under_way: UnderWay
    ) -> None:
        self._app = app
        self._state = state
        self._streams = streams
        self._under_way = under_way

    async def handle(self, delivery: Delivery, packed: bytes) -> bytes:
        """The packed response; raises MalformedError, and what fails the input."""
        request = unpack_request(packed)
        may_repeat = request.protocol == "http" and request.method in SAFE
        if delivery.lost and not may_repeat:
            return _refusal(
                502, "the container that ran this request was lost, and it may have run"
            )
        run = self._run(request, delivery)
        self._under_way.add(run)
        try:
            await run.ended
            return await run.result()
        except asyncio.CancelledError:
            await run.give_up(GIVE_UP_SECONDS)
            # It would be given back, and run a second time.
            if delivery.slot.why == STOPPED and not may_repeat:
                return await _stopped(run)
            raise
        except InputCancellation:
            await run.give_up(GIVE_UP_SECONDS)
            raise
        finally:
            self._under_way.remove(run)
            run.close()

    def _run(self, request: Request, delivery: Delivery) -> AsgiRun:
        run: AsgiRun
        if request.protocol == "http":
            run = HttpRun(request, delivery, self._streams)
            run.start(self._app, http_scope(request, self._state))
        else:
            run = WebsocketRun(request, delivery, self._streams)
            run.start(self._app, websocket_scope(request, self._state))
        return run


async def _stopped(run: AsgiRun) -> bytes:
    if isinstance(run, WebsocketRun):
        return await run.stopped()
    return _refusal(502, "the container that ran this request was stopped, and it may have run")


def _refusal(status: int, text: str) -> bytes:
    return Response(status, _TEXT, text.encode()).pack()
