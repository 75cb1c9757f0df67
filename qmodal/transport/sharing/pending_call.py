"""A new call that goes out with others and is awaited from a reply stream, as one object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qmodal.transport.operation import Command, Mergeable, Reply
from qmodal.transport.sharing.pending_reply import PendingReply, ReplySource


class Ended(Protocol):
    """What waits for the end of a call: a future of asyncio, or what wakes a thread."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def set_result(self, result: Sequence[bytes] | None, /) -> None:
        """Wake who waits."""


class PendingCall(PendingReply):
    """A pending reply and the submission that leads to it; does what a `PendingExchange` of both does.

    `ended`, made by the driver that sends it, gets the content as soon as that is there, and None when the usual way leads no further: the
    submission was refused or lost, or nothing came for `seconds` (until `deadline`). `is_accepted` tells these apart.
    Whoever awaits it then goes on with an exchange for the same pending reply.
    """

    __slots__ = ("deadline", "ended", "is_accepted", "is_over", "mergeable", "seconds")

    commands: Sequence[Command] = ()

    def __init__(self, source: ReplySource, reply_to: str, stream: str, token: str) -> None:
        super().__init__(source, reply_to, stream, token)
        self.ended: Ended
        self.mergeable: Mergeable | None = None
        self.seconds = self.deadline = 0.0
        self.is_accepted = self.is_over = False

    def deliver(self, content: Sequence[bytes]) -> None:
        """Keep the content, and end with it."""
        if self.is_over:
            super().deliver(content)  # an exchange may wait for it by now
            return
        self.has_arrived = True
        self._end(content)

    def take(self, reply: Reply) -> bool:
        """Take the reply to the submission."""
        self.is_accepted = reply == b"OK"
        return True

    def answered(self) -> None:
        """The reply to the submission is there."""
        if not self.is_accepted:
            self._end(None)

    def expire(self) -> None:
        """The deadline has passed. Without the reply to the submission it waits for that."""
        if self.is_accepted:
            self._end(None)

    def end(self, _result: list[Reply] | Exception) -> None:
        """End without content, as the connection was lost: who goes on finds out why."""
        self._end(None)

    def leave(self) -> None:
        """Nobody waits for its end any more."""
        self.is_over = True

    def _end(self, content: Sequence[bytes] | None) -> None:
        self.is_over = True
        ended = self.ended
        if not ended.done():  # cancelled
            ended.set_result(content)
