"""A gateway in a test's own loop: requests as inputs of real pools, and what streams read from an inbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from qmodal.client.client import Client, current
from qmodal.client.inbox import Inbox
from qmodal.client.web_stream import WebStream
from qmodal.functions.call import FunctionCall
from qmodal.functions.submission import DELIVERED_TTL_MS, call_id_for, submission_of, submit
from qmodal.wire.web import Message, Protocol, Request, Response, unpack_response

T = TypeVar("T")
SECONDS = 30.0


def in_loop(work: Callable[[Gateway], Awaitable[T]]) -> T:
    """What it returns, done in a loop with a gateway of its own."""

    async def run() -> T:
        async with gateway() as made, asyncio.timeout(SECONDS):
            return await work(made)

    return asyncio.run(run())


def fetch(function: Any, method: str = "GET", url: str = "/", **more: Any) -> Answer:
    """The whole response to one request."""
    return in_loop(lambda made: made.fetch(function, method, url, **more))


@asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway with an inbox."""
    made = Gateway(current())
    await made.inbox.open()
    try:
        yield made
    finally:
        for each in made.sent:
            await each.leave()
        # They may have failed as they should, and nobody has looked.
        await asyncio.gather(*(each.outcome for each in made.sent), return_exceptions=True)
        await made.inbox.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is whole; `parts` are the messages of its body, if it was streamed."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    parts: list[bytes] | None = None

    @property
    def is_streamed(self) -> bool:
        """Whether it came through the inbox."""
        return self.parts is not None

    def header(self, name: str) -> str:
        """The value of the first header of that name."""
        return next(value.decode() for key, value in self.headers if key == name.encode())

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class GatewayStream(WebStream):
    """The gateway's side of a stream: follows each attempt that opens it, until something has come of one."""

    def __init__(self, inbox: Inbox, stream: str) -> None:
        super().__init__(inbox, stream)
        self.attempts: list[str] = []
        self.begun = asyncio.Event()

    def opened(self, message: Message) -> None:
        """Follow the attempt."""
        self.attempts.append(message.origin)
        self.follow(message)
        self.begun.set()


@dataclass(slots=True)
class Sent:
    """A request that was submitted."""

    call: str
    stream: GatewayStream
    outcome: asyncio.Task[Response]

    async def answer(self) -> Answer:
        """The response to the end; raises what the input raised."""
        reading = asyncio.create_task(self._streamed())
        await asyncio.wait([reading, self.outcome], return_when=asyncio.FIRST_COMPLETED)
        if self.outcome.done() and (self.outcome.exception() or self.outcome.result().status):
            reading.cancel()
            status, headers, body = self.outcome.result()
            return Answer(status, list(map(tuple, headers)), body)  # type: ignore[arg-type]
        found = await reading
        assert (await self.outcome).status == 0
        return found

    async def _streamed(self) -> Answer:
        status, headers, parts = 0, [], []
        while (message := await self.stream.take()).kind != "end":
            if message.kind == "start":
                status, headers = message.data
            else:
                parts.append(message.data)
        return Answer(status, list(map(tuple, headers)), b"".join(parts), parts)

    async def rest(self) -> bytes:
        """What is left of a body that streams, to its end."""
        parts = []
        while (message := await self.stream.take()).kind == "body":
            parts.append(message.data)
        assert message.kind == "end", message
        assert (await self.outcome).status == 0
        return b"".join(parts)

    async def opened(self) -> GatewayStream:
        """The stream, once an attempt has opened it; raises what the input raised."""
        opening = asyncio.create_task(self.stream.begun.wait())
        await asyncio.wait([opening, self.outcome], return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            opening.cancel()
            self.outcome.result()
        return self.stream

    async def take(self, *kinds: str) -> Any:
        """What the next message says, which is of one of these kinds; raises what the input raised."""
        taking = asyncio.create_task(self.stream.take())
        await asyncio.wait([taking, self.outcome], return_when=asyncio.FIRST_COMPLETED)
        if not taking.done():
            await asyncio.wait([taking], timeout=1)
        if not taking.done():
            self.outcome.result()
        message = await taking
        assert message.kind in kinds, message
        return message.data

    async def leave(self) -> None:
        """The client has left."""
        if not self.outcome.done():
            if self.stream.peer:
                self.stream.send_now("gone")
            await FunctionCall(self.call, 1).cancel.aio()
            await asyncio.wait([self.outcome])


@dataclass(slots=True)
class Gateway:
    """Submits requests to the pools of web functions."""

    client: Client
    inbox: Inbox = field(init=False)
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.client)

    async def send(
        self,
        function: Any,
        method: str = "GET",
        url: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        has_more: bool = False,
        protocol: Protocol = "http",
        root_path: str = "",
    ) -> Sent:
        """Submit a request; `url` is path and query."""
        path, _, query = url.partition("?")
        given = {"host": "web.test", **(headers or {})}
        if body and "content-length" not in given:
            given["content-length"] = str(len(body))
        request = Request(
            protocol=protocol,
            method=method,
            scheme="http",
            http_version="1.1",
            raw_path=path.encode(),
            query=query.encode(),
            root_path=root_path,
            headers=[(k.lower().encode(), v.encode()) for k, v in given.items()],
            client=("192.0.2.7", 4711),
            server=("web.test", 80),
            inbox=self.inbox.name,
            body=body,
            has_more=has_more,
        )
        return await self.submit(function, request)

    async def submit(self, function: Any, request: Request) -> Sent:
        """Submit that request."""
        target = await self.client.aio(function._target())
        call = call_id_for(target)
        submission = submission_of(
            self.client, target, [((request.pack(),), {})], call=call, total=1
        )
        submission.ttl = DELIVERED_TTL_MS
        stream = GatewayStream(self.inbox, call)
        await self.client.aio(submit(self.client, target, submission))
        sent = Sent(call, stream, asyncio.create_task(_outcome(call)))
        self.sent.append(sent)
        return sent

    async def fetch(
        self, function: Any, method: str = "GET", url: str = "/", **more: Any
    ) -> Answer:
        """The whole response to a request."""
        return await (await self.send(function, method, url, **more)).answer()

    async def upload(
        self, function: Any, parts: Sequence[bytes], *, url: str = "/", **more: Any
    ) -> Answer:
        """The whole response to a POST whose body is streamed."""
        sent = await self.send(function, "POST", url, has_more=True, **more)
        stream = await sent.opened()
        for part in parts:
            await stream.send("body", part)
        stream.send_now("end")
        return await sent.answer()

    async def websocket(self, function: Any, url: str = "/", **more: Any) -> Sent:
        """Ask for a websocket."""
        sent = await self.send(function, "GET", url, protocol="websocket", **more)
        await sent.opened()
        return sent


async def _outcome(call: str) -> Response:
    try:
        return unpack_response(await FunctionCall(call, 1).get.aio())
    except SystemExit as error:  # it would end the test's loop
        raise RuntimeError("SystemExit") from error
