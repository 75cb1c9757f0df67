"""A request's stream: messages in both directions between a gateway and a container, each held back by credit."""

from __future__ import annotations

import asyncio
from typing import Any

from qmodal.client.inbox import Inbox
from qmodal.wire.web import BrokenStreamError, Message, MessageKind

# So much may be under way in a direction: what the receiver has not taken yet.
WINDOW_BYTES = 512 * 1024
# Messages that no credit holds back: few of a stream are sent.
_FREE = frozenset({"open", "start", "accept", "end", "close", "credit", "gone"})


class WebStream:
    """One side of a request's stream, in the loop of its inbox.

    `send` waits while the other side has taken too little of what was sent. `take` returns the next message, in order.
    Both raise BrokenStreamError once the other side is gone or a message is missing. A `peer` is where
    messages go: the container's inbox is known to a gateway only with the first message of an attempt.
    """

    __slots__ = (
        "_arrived",
        "_inbox",
        "_is_broken",
        "_owed",
        "_received",
        "_room",
        "_sent",
        "_waiters",
        "origin",
        "peer",
        "stream",
    )

    def __init__(self, inbox: Inbox, stream: str, *, origin: str = "", peer: str = "") -> None:
        self.stream = stream
        self.origin = origin
        self.peer = peer
        self._inbox = inbox
        self._sent = 0  # messages
        self._received = 0
        self._room = WINDOW_BYTES
        self._owed = 0  # bytes that were taken, and of which the sender has not heard
        # A list takes a tenth of a deque's memory, and few messages wait here.
        self._arrived: list[Message] = []
        self._is_broken = False
        # Those that wait for a message or for room; an event would take memory also while nobody waits.
        self._waiters: list[asyncio.Future[None]] = []
        inbox.add(stream, self)

    def close(self) -> None:
        """Take nothing any more."""
        self._inbox.remove(self.stream)

    def follow(self, opening: Message) -> None:
        """What is on the other side from now on is the attempt that has sent this `open`."""
        self.origin, self.peer = opening.origin, str(opening.data)
        self._sent = self._owed = 0
        self._received = 1
        self._room = WINDOW_BYTES
        self._arrived.clear()
        self._is_broken = False

    def receive(self, message: Message) -> None:
        """Take a message of the inbox; one that came before is left out."""
        if message.origin != self.origin:
            if message.kind == "open" and message.number == 0:
                self.opened(message)
            return
        if message.number < self._received:  # it was written twice, as the first reply was lost
            return
        if message.number > self._received:
            self.lost()
            return
        self._received += 1
        if message.kind == "credit":
            if type(message.data) is not int:
                self.lost()
                return
            self._room += message.data
        else:
            self._arrived.append(message)
        self._wake()

    def opened(self, message: Message) -> None:
        """An attempt has begun to answer; a gateway follows it, if that is still possible."""

    def lost(self) -> None:
        """Take in that the other side is gone, or that messages of it are missing."""
        self._is_broken = True
        self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _changed(self) -> None:
        """Until something has come, or nothing will."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    @property
    def is_broken(self) -> bool:
        """Whether nothing comes or goes any more."""
        return self._is_broken

    def send_now(self, kind: MessageKind, data: Any = None) -> None:
        """Send without waiting for room."""
        message = Message(self.stream, self.origin, self._sent, kind, data)
        self._sent += 1
        if kind not in _FREE:
            self._room -= message.cost
        self._inbox.send(self.peer, message, self)

    async def send(self, kind: MessageKind, data: Any = None) -> None:
        """Send it once there is room for it; raises BrokenStreamError."""
        while self._room <= 0 and not self._is_broken:
            await self._changed()
        if self._is_broken:
            raise BrokenStreamError("the other side of the request is gone")
        self.send_now(kind, data)

    async def flush(self) -> None:
        """Return when what was sent is written, or cannot be."""
        await self._inbox.flush(self.peer)

    async def take(self) -> Message:
        """The next message, once it is there; raises BrokenStreamError."""
        while (message := self.take_now()) is None:
            await self._changed()
        return message

    def take_now(self) -> Message | None:
        """The next message; None if none is there yet. Raises BrokenStreamError if none will come."""
        if not self._arrived:
            if self._is_broken:
                raise BrokenStreamError("the other side of the request is gone")
            return None
        message = self._arrived.pop(0)
        if message.kind not in _FREE:
            self._owed += message.cost
            if self._owed * 2 >= WINDOW_BYTES:
                self.send_now("credit", self._owed)
                self._owed = 0
        return message
