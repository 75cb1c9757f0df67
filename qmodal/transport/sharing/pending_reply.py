"""The outcome of one call that is awaited from a reply stream, which many calls share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class ReplySource(Protocol):
    """What reads reply streams and delivers from them; `reply_to` names its streams."""

    reply_to: str

    def remove(self, pending: PendingReply) -> None:
        """Deliver nothing to it any more."""

    def reset(self) -> None:
        """Read the streams from their start, as a reply was missed."""


class PendingReply:
    """What comes for one call from the reply stream, kept from its arrival until somebody takes it.

    Made and taken in any thread; delivered in the thread of its source, to which the first exchange that
    waits for it adds it. `token` identifies it in the stream, whose key is `stream`; `reply_to` is
    what the source's streams were called when it was made.
    """

    __slots__ = (
        "content",
        "has_arrived",
        "is_closed",
        "on_arrival",
        "reply_to",
        "source",
        "stream",
        "token",
    )

    def __init__(self, source: ReplySource, reply_to: str, stream: str, token: str) -> None:
        self.source = source
        self.reply_to = reply_to
        self.stream = stream
        self.token = token.encode()
        self.content: Sequence[bytes] | None = None
        self.has_arrived = False
        self.is_closed = False
        # Called on arrival, as long as an exchange waits for it.
        self.on_arrival: Callable[[], None] | None = None

    def deliver(self, content: Sequence[bytes]) -> None:
        """Keep the content, then call who waits; who begins to wait looks for the content last."""
        self.content = content
        self.has_arrived = True
        on_arrival = self.on_arrival
        if on_arrival is not None:
            on_arrival()

    def missed(self) -> None:
        """Take in that the call's outcome was found elsewhere: the reply stream may be gone."""
        if not self.has_arrived:
            self.source.reset()

    def close(self) -> None:
        """Await it no longer."""
        self.is_closed = True  # first: a source that adds it in this moment looks at it last
        self.source.remove(self)
