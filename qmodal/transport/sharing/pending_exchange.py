"""Exchanges that go out together with others, each with who is called at its end; how some are merged into one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol

from qmodal.transport.operation import Command, Exchange, Mergeable, Reply
from qmodal.transport.waiting import is_refused

# A script that does more at once keeps others from the server.
MOST_MERGED = 64
Done = Callable[["list[Reply] | Exception"], None]


class Outgoing(Protocol):
    """What goes out with others: its commands, or one that can be merged with theirs."""

    commands: Sequence[Command]
    mergeable: Mergeable | None
    is_over: bool

    def take(self, reply: Reply) -> bool:
        """Take one of its replies; whether that was the last one."""
        ...

    def answered(self) -> None:
        """All its replies are there."""

    def end(self, result: list[Reply] | Exception) -> None:
        """End it, as a rule because it has failed."""


class PendingExchange:
    """An exchange under way; `done` is called once, with its replies or with the reason of its failure.

    If it has a pending reply, the content of that follows the replies, unless it has not arrived by
    `deadline`, in seconds of the loop's clock.
    """

    __slots__ = (
        "_done",
        "commands",
        "deadline",
        "is_answered",
        "is_over",
        "mergeable",
        "replies",
        "request",
    )

    def __init__(self, request: Exchange, done: Done) -> None:
        self.request = request
        self.commands: Sequence[Command] = request.commands
        self.mergeable = request.mergeable
        self.replies: list[Reply] = []
        self.is_answered = False
        self.deadline = 0.0
        self.is_over = False
        self._done: Done | None = done

    def take(self, reply: Reply) -> bool:
        """Take one of its replies; whether that was the last one."""
        self.replies.append(reply)
        return len(self.replies) >= len(self.commands)

    def answered(self) -> None:
        """All its replies are there: it ends, or waits for its pending reply if they are as expected."""
        self.is_answered = True
        if self.is_over:  # what it waited for may be awaited by its repetition
            return
        pending = self.request.pending_reply
        if pending is None or is_refused(self.request, self.replies):
            self.end(self.replies)
            return
        pending.on_arrival = self._arrived
        if pending.content is not None:
            self._arrived()

    def _arrived(self) -> None:
        pending = self.request.pending_reply
        if pending is not None:
            # Once only: who cannot make sense of it goes on waiting.
            content, pending.content = pending.content, None
            self.end([*self.replies, content])

    def expire(self) -> None:
        """The deadline has passed. Without the replies to its commands it waits for these."""
        if self.is_answered:
            self.end(self.replies)

    def end(self, result: list[Reply] | Exception) -> None:
        """Call `done` with the result, unless the exchange is over."""
        done = self._done
        if not self.is_over:
            self.leave()
            if done is not None:
                done(result)

    def leave(self) -> None:
        """Nobody waits for its end any more; another one may wait for the same pending reply."""
        if self.is_over:
            return
        self.is_over = True
        pending = self.request.pending_reply
        if pending is not None:
            pending.on_arrival = None
        # Not kept: what it refers to refers back as a rule, and would be left to the garbage collector.
        self._done = None


def merged(batch: Iterable[Outgoing]) -> list[Outgoing]:
    """The batch with one exchange in place of those that one command can carry out, where the first of them was."""
    groups: list[list[Outgoing]] = []
    open_groups: dict[Hashable, list[Outgoing]] = {}
    for pending in batch:
        mergeable = pending.mergeable
        group = None if mergeable is None else open_groups.get(mergeable.kind)
        if group is None or len(group) == MOST_MERGED:
            group = []
            groups.append(group)
            if mergeable is not None:
                open_groups[mergeable.kind] = group
        group.append(pending)
    return [_merge(group) if group[0].mergeable else group[0] for group in groups]


def _merge(group: list[Outgoing]) -> PendingExchange:
    parts = [part for each in group if (part := each.mergeable) is not None]

    def done(result: list[Reply] | Exception) -> None:
        if isinstance(result, Exception):
            for each in group:
                each.end(result)
            return
        (reply,) = result
        replies = reply if isinstance(reply, list) else [reply] * len(group)
        for each, own in zip(group, replies, strict=True):
            each.take(own)
            each.answered()

    command = parts[0].merge(parts[0].kind, [part.values for part in parts])
    return PendingExchange(Exchange((command,)), done)
