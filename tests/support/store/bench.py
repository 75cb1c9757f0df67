"""One pool on a real server, to try single transitions on; and what a server holds, as a value."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from qmodal.client.client import Client
from qmodal.functions.map.map_call import MapCall, MapOptions
from qmodal.functions.target import Target
from qmodal.spec.documents import PoolSpec
from qmodal.spec.options import FunctionOptions
from qmodal.store.entries import Claimed, Settled, Submission
from qmodal.store.keys import GROUP
from qmodal.store.results.outputs import CallRecord
from qmodal.transport.connection import Address, Connection
from qmodal.transport.operation import Command
from qmodal.wire.ids import new_call_id, pool_id, shard_of

TTL = 600_000
APP = "ap-bench"
Value = Any


@dataclass(slots=True)
class Bench:
    """A pool, and a raw line for what the store's methods would hide."""

    client: Client
    pool: str = field(default_factory=lambda: pool_id(APP, secrets.token_hex(4), b""))
    line: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.line = Connection(Address(self.client.settings.redis_url or ""))
        self.open()

    def open(self) -> None:
        """Make the pool known."""
        self.client.run(
            self.client.pools.open(self.pool, spec=b"spec", app=APP, function="f", label="f()")
        )

    def ask(self, *command: Any) -> Any:
        """One raw command."""
        return self.line.exchange([command])[0]

    def submission(self, count: int = 1, **changes: Any) -> Submission:
        """A call of `count` inputs, none to follow; `changes` to its fields."""
        fields: dict[str, Any] = {
            "call": new_call_id(shard_of(self.pool)),
            "pool": self.pool,
            "digest": b"digest",
            "envelopes": [b"envelope %d" % n for n in range(count)],
            "total": count,
            "ttl": TTL,
            "now": 1,
        }
        return Submission(**(fields | changes))

    def submit(self, count: int = 1, **changes: Any) -> str:
        """Submit such a call; its id."""
        submission = self.submission(count, **changes)
        self.client.run(self.client.calls.submit(submission))
        return submission.call

    def claim(self, container: str = "ta-a-1", count: int = 1) -> list[Claimed]:
        """Claim without waiting."""
        command = self.client.pools.claim_command(self.pool, container, count=count, block=None)
        return self.client.pools.parse_claim(self.pool, self.ask(*command))

    def settle(self, *claimed: Claimed, outcome: bytes = b"done", **about: bool) -> Any:
        """Settle; the script's reply. `about`: further fields of `Settled`."""
        return self.ask(*self.settle_command(*claimed, outcome=outcome, **about))

    def settle_command(self, *claimed: Claimed, outcome: bytes = b"done", **about: bool) -> Command:
        """The command of such a settle."""
        about.setdefault("has_blob", False)
        attempts = [
            Settled(one.lane, one.entry, one.call, index_of(one), outcome, **about)
            for one in claimed
        ]
        return self.client.pools.settle_command(self.pool, attempts)

    def inflight(self) -> int:
        """The pool's counter."""
        return int(self.ask(b"HGET", self.client.keys.pool(self.pool), b"inflight") or 0)

    def outputs(self, call: str) -> list[tuple[int, bytes, bytes]]:
        """(index, kind, outcome) of each output."""
        found = self.ask(b"XRANGE", self.client.keys.outputs(call), b"-", b"+")
        return [(int(fields[1]), fields[2], fields[3]) for _, fields in found]

    def record(self, call: str) -> CallRecord:
        """The call's record, which must exist."""
        record = self.client.run(self.client.calls.record(call))
        assert record is not None
        return record

    def left(self, key: str) -> int:
        """The key's lifetime in ms: -1 for none, -2 if there is no such key."""
        return int(self.ask(b"PTTL", key))

    def dead(self) -> list[dict[bytes, bytes]]:
        """What was set aside on the pool's shard."""
        found = self.ask(b"XRANGE", self.client.keys.dead(shard_of(self.pool)), b"-", b"+")
        return [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in found]

    def consumers(self) -> set[str]:
        """Who reads the pool."""
        (seen,) = self.client.run(self.client.observing.observe([self.pool]))
        assert seen is not None
        return {consumer.name for consumer in seen.consumers}

    def clear(self) -> None:
        """End everything, and the pool: what stays has a lifetime."""
        pools = self.client.pools
        self.client.run(pools.purge(self.pool, reason="over"))
        for consumer in self.consumers():
            self.client.run(pools.reclaim(self.pool, consumer, reason="over", charged=()))
        assert self.client.run(pools.leave(self.pool))
        self.line.close()


def map_call_of(bench: Bench, options: MapOptions) -> MapCall[Any]:
    """A map of the bench's pool."""
    target = replace(target_of(PoolSpec(app_id="ap", function="f")), pool=bench.pool)
    return MapCall(bench.client, target, options)


def target_of(spec: PoolSpec) -> Target:
    """A function that nobody serves."""
    return Target(
        spec=spec,
        pool=spec.pool,
        method="",
        name="f",
        is_generator=False,
        options=FunctionOptions(),
        main_by_reference=False,
    )


def index_of(claimed: Claimed) -> int:
    """The input's index in its call."""
    return int(claimed.fields[5])


def state_of(line: Connection, prefix: str) -> dict[str, Value]:
    """Everything under the prefix: each key's content, and whether it has a lifetime.

    Left out: the 50 ms markers, and times (leases, which a repetition renews).
    """
    names = sorted(key.decode() for key in line.exchange([(b"KEYS", f"{prefix}:*")])[0])
    names = [name for name in names if ":wake:" not in name]
    kinds = line.exchange([(b"TYPE", name) for name in names]) if names else []
    found: dict[str, Value] = {}
    for name, kind in zip(names, kinds, strict=True):
        content = line.exchange(list(_looks(kind, name)))
        found[name] = (kind, *map(_ordered, content), line.exchange([(b"PTTL", name)])[0] > 0)
    return found


def _looks(kind: bytes, name: str) -> Iterable[Command]:
    match kind:
        case b"string":
            yield (b"GET", name)
        case b"hash":
            yield (b"HGETALL", name)
        case b"set":
            yield (b"SMEMBERS", name)
        case b"zset":
            yield (b"ZRANGE", name, 0, -1)
        case b"list":
            yield (b"LRANGE", name, 0, -1)
        case _:
            yield (b"XRANGE", name, b"-", b"+")
            if name.endswith((":inputs", ":again")):
                yield (b"XPENDING", name, GROUP)


def _ordered(reply: Any) -> Any:
    return sorted(reply) if isinstance(reply, list) and all_bytes(reply) else reply


def all_bytes(reply: list[Any]) -> bool:
    """Whether a reply is a flat list, whose order says nothing."""
    return all(isinstance(part, bytes) for part in reply)
