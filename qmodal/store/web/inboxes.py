"""Inboxes: streams of signed messages, each read by one process and written to by those that it answers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from qmodal.store.keys import Keys
from qmodal.transport.operation import Exchange, Op, ask
from qmodal.wire.ids import SHARDS

# An inbox whose owner is gone is there for so long; it is renewed by then.
INBOX_MS, RENEW_INBOX_SECONDS = 15_000, 3.0
INBOX_BLOCK_MS = 4000
MOST_MESSAGES = 100_000
MESSAGES_AT_ONCE = 200


def new_inbox_name() -> str:
    """Two digits of a shard, and sixteen random ones."""
    return f"{secrets.randbelow(SHARDS):02d}{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class Inboxes:
    """Operations on inboxes."""

    keys: Keys

    def make(self, name: str) -> Op[None]:
        """Make the inbox: nothing is written to one that is not there."""
        key = self.keys.inbox(name)
        yield from ask((b"XADD", key, b"*", b"begin", b""), (b"PEXPIRE", key, INBOX_MS))

    def renew(self, name: str) -> Op[None]:
        """Keep the inbox alive, or make it again if it was lost."""
        (is_there,) = yield from ask((b"PEXPIRE", self.keys.inbox(name), INBOX_MS))
        if not is_there:
            yield from self.make(name)

    def read(self, name: str, cursor: bytes) -> Op[tuple[bytes, list[bytes]]]:
        """Messages behind the cursor, and the next cursor; what is before it is removed.

        Waits up to four seconds for the first one.
        """
        key = self.keys.inbox(name)
        trim = (b"XTRIM", key, b"MINID", cursor)
        read = (
            b"XREAD",
            b"COUNT",
            MESSAGES_AT_ONCE,
            b"BLOCK",
            INBOX_BLOCK_MS,
            b"STREAMS",
            key,
            cursor,
        )
        replies = yield Exchange((trim, read), waits=True)
        if not replies[-1]:
            return cursor, []
        entries = replies[-1][0][1]
        messages = [part for _, fields in entries for part in fields[1::2] if part]
        return entries[-1][0], messages

    def write(self, name: str, messages: Sequence[bytes]) -> Op[bool]:
        """Append the signed messages; False if the inbox is not there any more."""
        fields = [part for message in messages for part in (b"m", message)]
        key = self.keys.inbox(name)
        append = (b"XADD", key, b"NOMKSTREAM", b"MAXLEN", b"~", MOST_MESSAGES, b"*", *fields)
        (reply,) = yield Exchange((append,))
        return reply is not None

    def exists(self, names: Sequence[str]) -> Op[list[bool]]:
        """Whether each of them is there: whether its owner lives."""
        replies = yield from ask(*((b"EXISTS", self.keys.inbox(name)) for name in names))
        return [reply == 1 for reply in replies]

    def remove(self, name: str) -> Op[None]:
        """Delete it, as its owner leaves."""
        yield from ask((b"UNLINK", self.keys.inbox(name)))
