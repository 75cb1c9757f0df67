"""A letter: what comes for one call out of a stream of replies that many calls share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Box(Protocol):
    """Where letters come in."""

    name: str

    def forget(self, letter: Letter) -> None:
        """Nobody waits for it any more."""
        ...

    def doubt(self) -> None:
        """A letter has not come that should have."""
        ...


class Letter:
    """What comes for one call, kept from its submission until somebody has taken it.

    Made and taken in any thread; brought in the thread of the mailbox.
    """

    __slots__ = ("box", "content", "has_come", "heard", "mailbox", "stream", "token")

    def __init__(self, box: Box, stream: str, token: str) -> None:
        self.box = box
        self.mailbox = box.name
        self.stream = stream
        self.token = token.encode()
        self.content: Sequence[bytes] | None = None
        self.has_come = False
        # Called when the content has come, as long as an exchange waits for it.
        self.heard: Callable[[], None] | None = None

    def bring(self, content: Sequence[bytes]) -> None:
        """Keep the content, then tell who waits: who begins to wait looks for the content last."""
        self.content = content
        self.has_come = True
        heard = self.heard
        if heard is not None:
            heard()

    def missed(self) -> None:
        """Its outcome was found elsewhere: the stream of replies may be gone."""
        if not self.has_come:
            self.box.doubt()

    def close(self) -> None:
        """Nobody waits for it any more."""
        self.box.forget(self)
