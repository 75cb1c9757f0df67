"""A call under way: its first second in few steps, then its outcome, its stream and its client all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from qmodal.exception import Error
from qmodal.services.gateway.exchange.body import ClientLeftError
from qmodal.services.gateway.exchange.calls import (
    FIRST_SECONDS,
    CallProgress,
    Ended,
    abandoned,
    at_once,
    outcome,
    reply_for,
    submission_for,
)
from qmodal.services.gateway.exchange.responses import RefusedError, refusal, unavailable
from qmodal.services.gateway.exchange.stream import GatewayStream
from qmodal.services.gateway.routing.endpoint import WebTarget
from qmodal.services.gateway.shared import Shared
from qmodal.wire.web import BrokenStreamError, Message

# What is left of a stream once its call has ended was written before that, and comes within so many seconds; after a
# failure nothing more may have been written.
REST_SECONDS, REST_OF_FAILED_SECONDS = 3.0, 0.25


class CallWait:
    """Waits for whatever comes of a call first: its end, a message of its stream, or the client's leaving.

    Used in the gateway's loop by one task at a time; anything may `wake` it.
    """

    __slots__ = (
        "_is_first",
        "_outcome",
        "_pending",
        "_progress",
        "_submission",
        "_submitted_at",
        "_waiters",
        "call",
        "ended",
        "failure",
        "has_left",
        "is_replaceable",
        "shared",
        "stream",
        "target",
    )

    def __init__(
        self, shared: Shared, target: WebTarget, packed: bytes, trace: str | None = None
    ) -> None:
        self.shared = shared
        self.target = target
        self._submission = submission_for(shared.client, target, packed, trace)
        self.call = self._submission.call
        self._pending = reply_for(shared.client, shared.driver, self._submission)
        self._progress = CallProgress()
        self._is_first = False
        # Who waits for news, once the first second is over.
        self._waiters: list[asyncio.Future[None]] = []
        self._outcome: asyncio.Task[Ended] | None = None
        self._submitted_at = 0.0
        self.stream: GatewayStream | None = None
        self.ended: Ended | None = None
        # What ends the wait from elsewhere, such as a body that is too large.
        self.failure: BaseException | None = None
        self.has_left = False
        # Whether nothing of an attempt has reached the client, so that another one may take its place.
        self.is_replaceable = True

    async def first(self) -> Ended | None:
        """Submit the call; its end if that comes within a second, and nothing else does."""
        shared, pending = self.shared, self._pending
        self._submitted_at = shared.loop.time()
        shared.exchanges[self.call] = self
        content: Sequence[bytes] | None = None
        if pending is not None:
            self._is_first = True
            content = await shared.driver.call(pending, FIRST_SECONDS)
            self._is_first = False
            ended = at_once(shared.client, self._submission, content)
            if ended is not None and not ended.is_streamed:
                self.ended = ended
                return ended
            self._progress.is_accepted = pending.is_accepted or self.stream is not None
        self._go_on(content)
        return None

    def _go_on(self, content: Sequence[bytes] | None) -> None:
        client = self.shared.client
        if self._pending is not None:
            self._pending.mergeable = None  # it holds the request, which may be large
        waiting = outcome(client, self.target, self._submission, self._progress, content)
        self._outcome = self.shared.loop.create_task(client.aio(waiting))
        self._outcome.add_done_callback(self._on_outcome)

    def _on_outcome(self, task: asyncio.Task[Ended]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.ended = task.result()
        elif isinstance(error, Error):
            self.ended = Ended(unavailable(), is_value=False)
        else:
            self.failure = self.failure or error
        if self.stream is not None or (self.ended is not None and self.ended.is_streamed):
            self._expect_rest(-1)
        self.wake()

    def _expect_rest(self, before: int) -> None:
        """Give up a stream of which nothing more comes, although the call has ended."""
        stream, ended = self.stream, self.ended
        if stream is not None and (stream.has_last or stream.is_broken):
            return
        heard = 0 if stream is None else stream.heard
        if heard == before:
            self._lose_stream()
            return
        is_value = ended is not None and ended.is_value
        seconds = REST_SECONDS if is_value else REST_OF_FAILED_SECONDS
        self.shared.loop.call_later(seconds, self._expect_rest, heard)

    def _lose_stream(self) -> None:
        if self.stream is None:
            self.fail(refusal(502, "The response was lost on its way."))
        else:
            self.stream.lost()

    def opened(self, message: Message) -> None:
        """A container has begun to stream."""
        self.stream = GatewayStream(self.shared.inbox, message, self)
        self.wake()

    def may_follow(self) -> bool:
        """Whether another attempt may take the place of the one so far."""
        return self.is_replaceable

    def client_left(self) -> None:
        """The client has closed its connection."""
        self.has_left = True
        self.wake()

    def fail(self, error: BaseException) -> None:
        """End the wait with this error."""
        self.failure = self.failure or error
        self.wake()

    def wake(self) -> None:
        """Have whoever waits look at what has changed."""
        if self._is_first and self._pending is not None and not self._pending.ended.done():
            self._pending.ended.set_result(None)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def look(self) -> Message | Ended | None:
        """The next message of the stream, or the end of a call without one; None if neither is there yet.

        Raises ClientLeftError, BrokenStreamError, and what the wait was ended with.
        """
        if self.has_left:
            raise ClientLeftError
        if self.failure is not None:
            raise self.failure
        ended, stream = self.ended, self.stream
        if ended is not None and not ended.is_streamed and (stream is None or ended.is_value):
            return ended
        if stream is None:
            return None
        try:
            return stream.take_now()
        except BrokenStreamError:
            if ended is not None and not ended.is_value:
                return ended  # it says why
            raise

    async def news(self, until: float | None = None) -> None:
        """Until something may have changed, or that time of the loop's clock; raises RefusedError for a silent server."""
        patience = self._patience_ends()
        if patience is not None:
            until = patience if until is None else min(until, patience)
        waiter: asyncio.Future[None] = self.shared.loop.create_future()
        self._waiters.append(waiter)
        if until is None:
            await waiter
            return
        try:
            async with asyncio.timeout_at(until):
                await waiter
        except TimeoutError:
            if patience is not None and self.shared.loop.time() >= patience and self._is_unheard:
                raise RefusedError(unavailable()) from None

    @property
    def _is_unheard(self) -> bool:
        is_known = self._progress.is_accepted or self.stream is not None or self.ended is not None
        return not is_known

    def _patience_ends(self) -> float | None:
        """When a server that has not said that it has the call was waited for long enough."""
        if self._is_unheard:
            return self._submitted_at + self.shared.options.patience
        return None

    def finish(self, *, is_delivered: bool) -> None:
        """The client has the response, and the call is forgotten; or nobody waits any more, and it is cancelled."""
        if not is_delivered:
            self._abandon()
        elif self._outcome is not None and not self._outcome.done():
            self._outcome.add_done_callback(self._forget)  # its app may go on in the background
        else:
            self._forget(None)
        self._leave()

    def keep(self) -> None:
        """Nobody waits in this process any more, but the outcome stays where anybody can fetch it."""
        self._close_reply()
        self._leave()

    def _close_reply(self) -> None:
        reply = self._submission.pending_reply
        if reply is not None:
            reply.close()

    def _leave(self) -> None:
        self.shared.exchanges.pop(self.call, None)
        self.target.load.open -= 1
        if self.stream is not None:
            self.stream.close()

    def _forget(self, _task: asyncio.Task[Ended] | None) -> None:
        self._close_reply()
        client = self.shared.client
        has_blob = self.ended is not None and self.ended.has_blob
        client.later(client.calls.forget_command(self.call, (0,) if has_blob else ()))

    def _abandon(self) -> None:
        self._close_reply()
        if self.stream is not None and not self.stream.is_broken:
            self.stream.send_now("gone")
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome.cancel()
        client = self.shared.client
        self.shared.in_background(client.aio(abandoned(client, self.call)))
