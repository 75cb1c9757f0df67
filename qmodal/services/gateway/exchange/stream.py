"""A gateway's side of a request's stream, which may pass from an attempt that was lost to the next one."""

from __future__ import annotations

from typing import Protocol

from qmodal.client.inbox import Inbox
from qmodal.client.web_stream import WebStream
from qmodal.wire.web import Message

# The last of what an attempt says.
_LAST = frozenset({"end", "close"})


class StreamOwner(Protocol):
    """The request that a stream is of."""

    def wake(self) -> None:
        """Take in that something has changed."""

    def may_follow(self) -> bool:
        """Whether another attempt may take the place of the one so far."""


class GatewayStream(WebStream):
    """The stream of one request; its owner is woken by each message, and by its end."""

    __slots__ = ("_owner", "has_last", "has_sent", "heard")

    def __init__(self, inbox: Inbox, opening: Message, owner: StreamOwner) -> None:
        super().__init__(inbox, opening.stream)
        self._owner: StreamOwner | None = owner
        # Messages that have come, and whether the last one has.
        self.heard = 0
        self.has_last = False
        # Bytes of the request's body, or messages of a websocket, that an attempt has got.
        self.has_sent = False
        self.follow(opening)

    def receive(self, message: Message) -> None:
        """Take a message of the inbox."""
        super().receive(message)
        self.heard += 1
        if message.kind in _LAST and message.origin == self.origin:
            self.has_last = True
        self._wake_owner()

    def opened(self, message: Message) -> None:
        """Follow the next attempt, if the client has seen nothing of the one before."""
        if self._owner is not None and self._owner.may_follow() and not self.has_sent:
            self.has_last = False
            self.follow(message)
        else:
            self.lost()

    def lost(self) -> None:
        """Take in that the other side is gone, or that messages of it are missing."""
        super().lost()
        self._wake_owner()

    def close(self) -> None:
        """Take nothing any more."""
        super().close()
        self._owner = None  # it refers back, and would be left to the garbage collector

    def _wake_owner(self) -> None:
        if self._owner is not None:
            self._owner.wake()
