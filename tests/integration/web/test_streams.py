"""Streams of messages between two inboxes: in order, each once, held back by credit, and broken when a side is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from qmodal.client.client import Client
from qmodal.client.inbox import Inbox
from qmodal.client.web_stream import WINDOW_BYTES, WebStream
from qmodal.store.web.inboxes import Inboxes
from qmodal.wire.ids import new_call_id
from qmodal.wire.web import BrokenStreamError, Message
from tests.support.waiting import wait_until

CHUNK = 64 * 1024


class Gateway(WebStream):
    """A gateway's side, which follows every attempt that begins."""

    def opened(self, message: Message) -> None:
        """Follow it."""
        self.follow(message)


@asynccontextmanager
async def pair(client: Client) -> AsyncIterator[tuple[WebStream, WebStream, list[Inbox]]]:
    """A gateway's and a container's side of one stream, and their inboxes."""
    inboxes = [Inbox(client), Inbox(client)]
    for inbox in inboxes:
        await inbox.open()
    call = new_call_id(0)
    gateway = Gateway(inboxes[0], call)
    container = WebStream(inboxes[1], call, origin="ta-1 0-1", peer=inboxes[0].name)
    try:
        yield gateway, container, inboxes
    finally:
        for inbox in inboxes:
            await inbox.close()
        await client.aclose()


async def until(predicate: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, predicate, what=what)


def run(client: Client, body: Callable[..., Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(30), pair(client) as sides:
            await body(*sides)

    asyncio.run(whole())


def test_messages_arrive_in_order_in_both_directions(client: Client) -> None:
    async def body(gateway: WebStream, container: WebStream, inboxes: list[Inbox]) -> None:
        container.send_now("open", inboxes[1].name)
        for n in range(100):
            await container.send("body", bytes([n]))
        assert [(await gateway.take()).data for _ in range(100)] == [bytes([n]) for n in range(100)]
        await gateway.send("text", "hello")
        gateway.send_now("end")
        assert (await container.take()).data == "hello"
        assert (await container.take()).kind == "end"

    run(client, body)


def test_a_sender_waits_for_a_receiver_that_takes_nothing(client: Client) -> None:
    async def body(gateway: WebStream, container: WebStream, inboxes: list[Inbox]) -> None:
        container.send_now("open", inboxes[1].name)
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            for _ in range(40):
                await container.send("body", bytes(CHUNK))
                sent += 1

        sending = asyncio.create_task(send_all())
        await until(lambda: sent * CHUNK >= WINDOW_BYTES, "the window is used up")
        for _ in range(20):  # whatever is under way arrives meanwhile
            await asyncio.sleep(0.01)
        assert sent * CHUNK <= WINDOW_BYTES + CHUNK
        received = [await gateway.take() for _ in range(40)]
        await sending
        assert sum(len(each.data) for each in received) == 40 * CHUNK

    run(client, body)


def test_a_message_that_was_written_twice_counts_once(client: Client) -> None:
    async def body(gateway: WebStream, container: WebStream, inboxes: list[Inbox]) -> None:
        container.send_now("open", inboxes[1].name)
        await until(lambda: gateway.origin, "the attempt is followed")
        message = Message(container.stream, container.origin, 1, "body", b"once")
        signed = message.seal(client.signer, inboxes[0].name)
        await client.aio(Inboxes(client.keys).write(inboxes[0].name, [signed, signed]))
        last = Message(container.stream, container.origin, 2, "end")
        await client.aio(
            Inboxes(client.keys).write(inboxes[0].name, [last.seal(client.signer, inboxes[0].name)])
        )
        assert [(await gateway.take()).kind for _ in range(2)] == ["body", "end"]

    run(client, body)


def test_a_missing_message_breaks_the_stream(client: Client) -> None:
    async def body(gateway: WebStream, container: WebStream, inboxes: list[Inbox]) -> None:
        container.send_now("open", inboxes[1].name)
        message = Message(container.stream, container.origin, 2, "body", b"too early")
        container._inbox.send(inboxes[0].name, message, container)
        with pytest.raises(BrokenStreamError):
            await gateway.take()

    run(client, body)


def test_what_others_write_into_an_inbox_is_ignored(client: Client) -> None:
    async def body(gateway: WebStream, container: WebStream, inboxes: list[Inbox]) -> None:
        name = inboxes[0].name
        elsewhere = Message(container.stream, container.origin, 0, "open", inboxes[1].name)
        forged = elsewhere.seal(client.signer, inboxes[1].name)  # good in another inbox only
        await client.aio(Inboxes(client.keys).write(name, [b"nonsense", forged, b"x" * 40]))
        container.send_now("open", inboxes[1].name)
        await container.send("body", b"genuine")
        assert (await gateway.take()).data == b"genuine"

    run(client, body)


def test_a_message_that_cannot_be_understood_costs_its_own_stream_only(client: Client) -> None:
    """As one of another version might be: the inbox is read on."""

    async def body(gateway: WebStream, container: WebStream, inboxes: list[Inbox]) -> None:
        container.send_now("open", inboxes[1].name)
        await until(lambda: gateway.origin, "the attempt is followed")
        name = inboxes[0].name
        odd = Message(container.stream, container.origin, 1, "credit", "much")
        await client.aio(Inboxes(client.keys).write(name, [odd.seal(client.signer, name)]))
        with pytest.raises(BrokenStreamError):
            await gateway.take()
        call = new_call_id(0)
        other = Gateway(inboxes[0], call)
        again = WebStream(inboxes[1], call, origin="ta-1 0-2", peer=name)
        again.send_now("open", inboxes[1].name)
        await again.send("body", b"genuine")
        assert (await other.take()).data == b"genuine"

    run(client, body)


def test_who_writes_to_an_inbox_that_is_gone_is_told(client: Client) -> None:
    async def body(_gateway: WebStream, container: WebStream, inboxes: list[Inbox]) -> None:
        await inboxes[0].close()
        container.send_now("open", inboxes[1].name)
        await until(lambda: container.is_broken, "the sender is told")
        with pytest.raises(BrokenStreamError):
            await container.send("body", b"nobody reads this")

    run(client, body)


def test_a_later_attempt_takes_the_place_of_an_earlier_one(client: Client) -> None:
    async def body(gateway: WebStream, container: WebStream, inboxes: list[Inbox]) -> None:
        container.send_now("open", inboxes[1].name)
        await container.send("body", b"first")
        assert (await gateway.take()).data == b"first"
        again = WebStream(inboxes[1], container.stream, origin="ta-2 0-1", peer=inboxes[0].name)
        again.send_now("open", inboxes[1].name)
        await again.send("body", b"second")
        assert (await gateway.take()).data == b"second"
        await container.send("body", b"late")
        await again.send("body", b"third")
        assert (await gateway.take()).data == b"third"

    run(client, body)


def test_an_inbox_that_somebody_deletes_is_made_again(client: Client) -> None:
    async def body(gateway: WebStream, container: WebStream, inboxes: list[Inbox]) -> None:
        inboxes_of = Inboxes(client.keys)
        await client.aio(inboxes_of.remove(inboxes[0].name))
        name = inboxes[0].name
        await until(lambda: client.run(inboxes_of.exists([name]))[0], "it is there again")
        container.send_now("open", inboxes[1].name)
        await container.send("body", b"there")
        assert (await gateway.take()).data == b"there"

    run(client, body)
