"""One HTTP request under way: its call, the rest of its body, and its response, whole or in parts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from qmodal.exception import Error
from qmodal.services.gateway.exchange.body import ClientLeftError, RequestBody
from qmodal.services.gateway.exchange.call_wait import CallWait
from qmodal.services.gateway.exchange.calls import Ended
from qmodal.services.gateway.exchange.peer import HttpPeer
from qmodal.services.gateway.exchange.responses import (
    BadResponseError,
    RefusedError,
    plain,
    refusal,
)
from qmodal.services.gateway.exchange.stream import GatewayStream
from qmodal.wire.web import BrokenStreamError, Message

LOST = plain(502, "The container of the request was lost before it answered.")


class HttpExchange:
    """A request and its call; `begin` and `go_on` answer a client, or say that it should ask again later.

    Once they have answered, or failed to, the call is forgotten or cancelled.
    """

    __slots__ = ("_body", "_pump", "wait")

    def __init__(self, wait: CallWait, body: RequestBody | None) -> None:
        self.wait = wait
        # What is left of the request's body.
        self._body = body if body is not None and body.has_more else None
        self._pump: asyncio.Task[None] | None = None

    async def begin(self, peer: HttpPeer) -> bool:
        """Submit the call and answer; False if no response has begun in time."""
        return await self._guarded(peer, self._begin(peer))

    async def go_on(self, peer: HttpPeer) -> bool:
        """Answer another request, which asks for the response to the first one; False as `begin`.

        False, too, if the client leaves before the response begins: it may ask again.
        """
        self.wait.has_left = False
        return await self._guarded(peer, self._answer(peer), may_return=True)

    async def _guarded(
        self, peer: HttpPeer, answering: Coroutine[Any, Any, bool], *, may_return: bool = False
    ) -> bool:
        is_delivered, is_over = False, True
        peer.connection.on_lost = self.wait.client_left
        if peer.connection.is_lost:  # before anybody was told
            self.wait.client_left()
        try:
            is_over = is_delivered = await answering
        except ClientLeftError:
            is_over = peer.status != 0 or not may_return
        except RefusedError as refused:
            await peer.instead(refused.response, closes=refused.closes)
        except BrokenStreamError:
            await peer.instead(LOST)
        except BadResponseError:
            peer.connection.cut()
        finally:
            peer.connection.on_lost = None
            if is_over:
                self._finish(is_delivered=is_delivered)
        return is_over

    def _finish(self, *, is_delivered: bool) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self.wait.finish(is_delivered=is_delivered)

    async def _begin(self, peer: HttpPeer) -> bool:
        ended = await self.wait.first()
        if ended is not None:
            await peer.answer(ended.response)
            return True
        return await self._answer(peer)

    async def _answer(self, peer: HttpPeer) -> bool:
        wait = self.wait
        deadline = wait.shared.loop.time() + wait.shared.options.redirect_after
        while True:
            found = wait.look()
            if isinstance(found, Ended):
                await peer.answer(found.response)
                return True
            if found is not None:
                await self._stream(peer, found)
                return True
            self._pass_on()
            # As long as the body is on its way, the client is not sent elsewhere.
            is_sent = self._body is None
            if is_sent and wait.shared.loop.time() >= deadline:
                return False
            await wait.news(deadline if is_sent else None)

    async def _stream(self, peer: HttpPeer, first: Message) -> None:
        wait = self.wait
        wait.is_replaceable = False
        try:
            status, headers = _start_of(first)
            await peer.begin(status, headers)
        except BadResponseError as error:
            raise refusal(502, f"The function's response is bad: {error}.") from error
        while True:
            found = wait.look()
            if found is None:
                self._pass_on()
                await wait.news()
            elif isinstance(found, Ended):
                raise BrokenStreamError("the call has ended in the middle of its response")
            elif found.kind == "body" and type(found.data) is bytes:
                await peer.body(found.data)
            elif found.kind == "end":
                await peer.end()
                return
            else:
                raise BadResponseError(f"a response has no message {found.kind!r}")

    def _pass_on(self) -> None:
        """Send the rest of the request's body, once there is somebody who takes it."""
        stream = self.wait.stream
        if self._body is not None and self._pump is None and stream is not None:
            work = self._pump_body(self._body, stream)
            self._pump = self.wait.shared.loop.create_task(work)

    async def _pump_body(self, body: RequestBody, stream: GatewayStream) -> None:
        wait = self.wait
        try:
            await body.pass_on(stream)
            self._body = None
        except BrokenStreamError:
            return  # whoever waits for the response finds it, too
        except ClientLeftError:
            wait.has_left = True
        except Error as error:
            wait.fail(error)
        wait.wake()


def _start_of(message: Message) -> tuple[Any, Any]:
    """The status and the headers of a response's beginning; raises BadResponseError."""
    data = message.data
    if message.kind != "start" or type(data) is not list or len(data) != 2:
        raise BadResponseError(f"it begins with {message.kind!r}")
    return data[0], data[1]
