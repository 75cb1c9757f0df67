"""One run of an ASGI app for one request: its task, its end, and whether its client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple, Protocol

from qmodal.wire.web import Request
from qmodal_workers.container.process.forked_children import end_if_child
from qmodal_workers.container.web.stream import RequestStream, Streams

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Interrupted(Protocol):
    """Where it is written that an input is to stop: its slot."""

    @property
    def why(self) -> int:
        """A code of the shared record, 0 if it is not to stop."""


class Delivery(NamedTuple):
    """One delivery of a request; `lost` counts those before it that were started, and had no end."""

    call: str
    container: str
    entry: str
    lost: int
    slot: Interrupted


class ClientLeftError(OSError):
    """Raised by `send` once the client has left, as the ASGI specification has it."""

    def __init__(self) -> None:
        super().__init__("the client has left")


class AsgiRun:
    """The run of an app for one request; `ended` is done when it has, and `error` is what it raised then."""

    def __init__(self, request: Request, delivery: Delivery, streams: Streams) -> None:
        self.request = request
        self.delivery = delivery
        self.error: BaseException | None = None
        self.stream: RequestStream | None = None
        self.is_left = False
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self._streams = streams
        self._opening: asyncio.Task[None] | None = None
        self._left: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, app: App, scope: dict[str, Any]) -> None:
        """Run the app, in a task of its own: whoever waits for it may give up."""
        self._task = task = self.loop.create_task(self._run(app, scope))
        task.add_done_callback(self._over)

    async def _run(self, app: App, scope: dict[str, Any]) -> None:
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            # A value, as the loop would look into what is raised, and end with SystemExit.
            end_if_child(error)
            self.error = error
        else:
            end_if_child()
        if not self.ended.done():
            self.ended.set_result(None)

    def _over(self, task: asyncio.Task[None]) -> None:
        if not self.ended.done():  # cancelled, by user code, before it began
            self.error = asyncio.CancelledError()
            self.ended.set_result(None)

    async def receive(self) -> Event:
        """The next event for the app."""
        raise NotImplementedError

    async def send(self, event: Event) -> None:
        """Take an event of the app."""
        raise NotImplementedError

    async def result(self) -> bytes:
        """What the input results in, once the app has ended; raises what the input failed with."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing of it matters any more."""
        # Its traceback holds the app's frames, and with them generators whose `finally` is to run now.
        self.error = None
        if self._opening is not None:
            self._opening.cancel()
        if self.stream is not None:
            self.stream.close()

    async def opened(self) -> RequestStream:
        """The stream to the gateway, opened when it is first needed; raises Error."""
        if self.stream is None:
            if self._opening is None:
                self._opening = self.loop.create_task(self._open())
            # Not awaited itself: whoever waits may be cancelled, and another one waits, too.
            await asyncio.wait([self._opening])
            self._opening.result()
        assert self.stream is not None
        return self.stream

    async def _open(self) -> None:
        delivery = self.delivery
        self.stream = await self._streams.open(
            delivery.call,
            origin=f"{delivery.container} {delivery.entry}",
            peer=self.request.inbox,
            on_left=self.leave,
        )

    def leave(self) -> None:
        """Take in that the client has left, or that its gateway is gone."""
        self.is_left = True
        self.wake()

    def wake(self) -> None:
        """Let go on who waits for the client to leave."""
        if self._left is not None:
            self._left.set()

    async def until_left(self) -> None:
        """Return when the client has left, or nothing more is for it."""
        if self._left is None:
            self._left = asyncio.Event()
        if not self.is_left:
            await self._left.wait()

    async def give_up(self, seconds: float) -> None:
        """Cancel the app, wait so long for its end, and let go of what runs on then, in a thread as a rule."""
        self.leave()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=seconds)

    def give_up_soon(self, seconds: float) -> None:
        """As `give_up`, without waiting."""
        self.leave()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self.loop.call_later(seconds, self._let_go)

    def _let_go(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
