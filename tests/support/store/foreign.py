"""A running app that is written at from the side, and what can be written there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import redis

import qmodal
from qmodal.client.client import Client
from qmodal.functions.submission import call_id_for
from qmodal.functions.target import Target
from qmodal.store.entries import Submission
from qmodal.wire.envelope import Envelope
from qmodal.wire.ids import shard_of
from qmodal.wire.payload import dump_arguments
from qmodal.wire.signing import Signer, mac_of
from tests.support.servers import leftovers
from tests.support.store.envelopes import changed, envelope_of
from tests.support.waiting import wait_until

STRANGER = Signer(b"the key of somebody else")
Forge = Callable[["Stage"], bytes]


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@dataclass(frozen=True, slots=True)
class Stage:
    """A running stack, and the ways into its streams beside the front door."""

    user: Any
    client: Client
    plain: redis.Redis

    @property
    def square(self) -> Target:
        """The pool that is tormented."""
        target: Target = self.client.run(self.user.square._target())
        return target

    def payload(self, *args: Any) -> bytes:
        """The bytes of plain arguments."""
        return dump_arguments(args, {}, plain_only=True, main_by_reference=False)[1]

    def envelope(self, **changes: Any) -> Envelope:
        """A valid input of a new call, but for the changes."""
        target = self.square
        made = envelope_of(pool=target.pool, call=call_id_for(target), payload=self.payload(3))
        return changed(made, **changes)

    def sealed(self, **changes: Any) -> bytes:
        """Such an input, signed by us."""
        return self.envelope(**changes).seal(self.client.signer)

    def accept(
        self, sealed: bytes, *, call: str = "", blobs: Sequence[tuple[int, bytes]] = ()
    ) -> qmodal.FunctionCall[Any]:
        """Have these bytes accepted as the only input of that call, or of a new one."""
        call, pool = call or call_id_for(self.square), self.square.pool
        submission = Submission(
            call=call,
            pool=pool,
            digest=mac_of(sealed),
            envelopes=[sealed],
            total=1,
            ttl=60_000,
            now=1,
            blobs=blobs,
        )
        self.client.run(self.client.calls.submit(submission))
        return qmodal.FunctionCall.from_id(call)

    def accept_own(self, *blobs: bytes, **changes: Any) -> qmodal.FunctionCall[Any]:
        """Have an input accepted under the call that it was signed for."""
        envelope = self.envelope(**changes)
        sealed = envelope.seal(self.client.signer)
        return self.accept(sealed, call=envelope.call, blobs=[(0, blob) for blob in blobs])

    def write(self, *fields: bytes | str) -> None:
        """Append an entry to the pool's stream, as anybody can who has the password."""
        self.plain.execute_command("XADD", self.client.keys.inputs(self.square.pool), "*", *fields)

    def forge(self, sealed: bytes, *, retries: bytes = b"0") -> None:
        """Append an entry that looks like ours."""
        call = call_id_for(self.square)
        self.write("e", sealed, "c", call, "i", "0", "r", retries, "d", "0", "at", "1")

    def reasons(self) -> list[str]:
        """Why entries lie on the dead stream."""
        entries: Any = self.plain.xrange(self.client.keys.dead(shard_of(self.square.pool)))
        return [fields[b"why"].decode() for _, fields in entries]

    def goes_on(self) -> None:
        """A valid call gets its result, nothing waits, and no call is kept for ever."""
        assert self.user.square.remote(7) == 49
        stats = self.user.square.get_current_stats
        wait_until(lambda: stats().backlog == 0, what="nothing waits")
        # A call that was cancelled while it ran is kept until its container has given it up.
        wait_until(lambda: not self._kept_calls(), what="no call is kept for ever")

    def _kept_calls(self) -> list[str]:
        left = leftovers(self.plain, self.client.settings.prefix)
        return [key for key in left if ":call:" in key]


BROKEN: dict[str, tuple[Forge, str]] = {
    "empty": (lambda stage: b"", "too short to be signed"),
    "a few bytes": (lambda stage: b"\x00\xff\n", "too short to be signed"),
    "cut short": (lambda stage: stage.sealed()[:-3], "signature does not fit"),
    "cut in the head": (lambda stage: stage.sealed()[:21], "signature does not fit"),
    "a changed bit": (
        lambda stage: stage.sealed()[:-1] + bytes([stage.sealed()[-1] ^ 1]),
        "signature does not fit",
    ),
    "another MAC": (
        lambda stage: stage.client.signer.key_id + bytes(16) + stage.sealed()[20:],
        "signature does not fit",
    ),
    "a result": (
        lambda stage: stage.client.signer.sign("result", stage.sealed()[20:]),
        "signature does not fit",
    ),
    "noise": (lambda stage: bytes(range(200)), "does not accept that key"),
    "another key": (
        lambda stage: stage.envelope().seal(STRANGER),
        f"signed with key {STRANGER.key_id.hex()}",
    ),
    "not msgpack": (
        lambda stage: stage.client.signer.sign("call", b"\xc1"),
        "not msgpack",
    ),
    "another shape": (
        lambda stage: stage.client.signer.sign("call", msgpack.packb((99, "x"))),
        "not an array of the known shape",
    ),
    "another type": (lambda stage: stage.sealed(first="0"), "or has another type"),
    "another call": (lambda stage: stage.sealed(), "belongs to another call or pool"),
    "another pool": (lambda stage: stage.sealed(pool="0" * 32), "belongs to another call or pool"),
    "another index": (lambda stage: stage.sealed(first=1), "belongs to another"),
}
