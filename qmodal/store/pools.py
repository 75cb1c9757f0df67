"""Pools: open them, claim and settle their inputs, give inputs back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from qmodal.config import FAILED_ARGUMENTS
from qmodal.exception import Error
from qmodal.store import reading
from qmodal.store.entries import Claimed, Ended, Requeued, Settled, TakenBack
from qmodal.store.keys import GROUP, Keys, Lane
from qmodal.store.results.failures import Failures
from qmodal.store.watch.observing import note_command
from qmodal.transport.operation import Command, Op, ask, ask_one, ask_shared
from qmodal.transport.script import script
from qmodal.wire.ids import shard_of

# Without the generated constructor, which takes three times as long.
_new = tuple.__new__
KEEP_POOL_MS = 30 * 24 * 3600 * 1000
# Deliveries that an input may lose to containers that died, before it ends as lost.
BUDGET = 3
# The reason of inputs that end because their containers do not start begins with it.
NO_START = "init: "
# What a container may hold of each of the two streams; its shared record has room for twice as many.
MOST_HELD = 128
# As many as one may hold that runs several side by side.
MOST_SIDE_BY_SIDE = 4096


@dataclass(frozen=True, slots=True)
class Pools:
    """Operations on pools, made by callers, containers, workers and the autoscaler."""

    keys: Keys
    # Bytes of arguments that are kept of failed inputs, for each app in each shard.
    failed_arguments: int = FAILED_ARGUMENTS

    def open(self, pool: str, *, spec: bytes, app: str, function: str, label: str) -> Op[None]:
        """Make the pool known, so that calls to it are accepted."""
        keys = (self.keys.pool(pool), self.keys.active(shard_of(pool)))
        arguments = (pool, spec, app, function, label, KEEP_POOL_MS)
        yield from ask_shared(script("open").command(keys, arguments))

    def join(self, pool: str) -> Op[bool]:
        """Make a known pool active, or mend its streams; False if it is not known."""
        keys = (*self._lanes(pool), self.keys.active(shard_of(pool)))
        reply = yield from ask_one(*script("join").command(keys, (pool, GROUP, self.keys.wake)))
        return bool(reply)

    def leave(self, pool: str) -> Op[bool]:
        """Make the pool inactive; False if something is in it."""
        keys = (*self._lanes(pool), self.keys.delayed(pool), self.keys.active(shard_of(pool)))
        reply = yield from ask_one(*script("leave").command(keys, (pool, GROUP, KEEP_POOL_MS)))
        return bool(reply)

    def disown(self, pool: str) -> Op[bool]:
        """Take it off the active pools if nothing of it is there; whether it was on the list."""
        keys = (*self._lanes(pool), self.keys.active(shard_of(pool)))
        return bool((yield from ask_one(*script("disown").command(keys, (pool,)))))

    def spec(self, pool: str) -> Op[bytes | None]:
        """The pool's signed spec."""
        reply: bytes | None = yield from ask_one(b"HGET", self.keys.pool(pool), b"spec")
        return reply

    def service_time(self, pool: str) -> Op[float | None]:
        """Seconds that an input of the pool takes on the average, as far as it has learned."""
        key = self.keys.pool(pool)
        return reading.seconds((yield from ask_one(b"HGET", key, b"service_time")), key)

    def learn_command(self, pool: str, service_time: float) -> Command:
        """Tell the pool what its inputs take in seconds."""
        return note_command(self.keys, pool, b"service_time", round(service_time, 6))

    def sharing_command(self, pool: str) -> Command:
        """Ask who claims from the pool; `parse_sharing` reads the reply."""
        return (b"XINFO", b"GROUPS", self.keys.inputs(pool))

    @staticmethod
    def parse_sharing(reply: Any) -> int:
        """How many containers claim from the pool: one at least."""
        if isinstance(reply, Exception) or not reply:
            return 1
        groups = [dict(zip(group[::2], group[1::2], strict=True)) for group in reply]
        counts: list[int] = [each[b"consumers"] for each in groups if each[b"name"] == GROUP]
        return max([1, *counts])

    def claim_command(self, pool: str, container: str, *, count: int, block: int | None) -> Command:
        """Read new entries, re-added ones first; waits up to `block` ms if given."""
        waiting: tuple[Any, ...] = () if block is None else (b"BLOCK", block)
        return (
            *(b"XREADGROUP", b"GROUP", GROUP, container, b"COUNT", count),
            *waiting,
            *(b"STREAMS", self.keys.again(pool), self.keys.inputs(pool), b">", b">"),
        )

    def held_command(self, pool: str, container: str, *, most: int = MOST_HELD) -> Command:
        """Read what is already pending for the container: a claim's reply may have been lost."""
        return (
            *(b"XREADGROUP", b"GROUP", GROUP, container, b"COUNT", most, b"STREAMS"),
            *(self.keys.again(pool), self.keys.inputs(pool), b"0", b"0"),
        )

    def parse_claim(self, pool: str, reply: Any) -> list[Claimed]:
        """The entries of a claim's reply."""
        if not reply:
            return []
        again = self.keys.again(pool).encode()
        found: list[Claimed] = []
        for stream, entries in reply:
            lane: Lane = 2 if stream == again else 1
            found += [
                _new(Claimed, (lane, entry.decode(), fields or ())) for entry, fields in entries
            ]
        return found

    def holds(self, pool: str, container: str, lane: int, entry: str) -> Op[bool]:
        """Whether the container still has the entry: not once that was cancelled, or taken back."""
        stream = self.keys.again(pool) if lane == 2 else self.keys.inputs(pool)
        about = (b"XPENDING", stream, GROUP, entry, entry, 1, container)
        (reply,) = yield from ask(about, patience=1.0)
        return bool(reply)

    def held_by(self, pool: str, container: str) -> Op[set[tuple[int, str]]]:
        """Lane and id of all entries that the container has: one that runs several at once."""
        streams = (self.keys.inputs(pool), self.keys.again(pool))
        replies = yield from ask(
            *(
                (b"XPENDING", stream, GROUP, b"-", b"+", MOST_SIDE_BY_SIDE, container)
                for stream in streams
            ),
            patience=1.0,
        )
        return {
            (lane, reading.name(each[0])) for lane, reply in enumerate(replies, 1) for each in reply
        }

    def mark_command(self, pool: str, container: str) -> Command:
        """Note that what this container has started never runs again; nothing if the pool is gone."""
        return script("mark").command((self.keys.pool(pool),), (container,))

    def settle_command(self, pool: str, attempts: Sequence[Settled]) -> Command:
        """Record outcomes; the reply is [inflight, 1 or 0 for each attempt]."""
        key = self.keys.call
        names = [key(attempt.call) for attempt in attempts]
        arguments: list[Any] = []
        for each in attempts:
            mark = self._mark(each) if each.has_blob else b"k" if each.is_kept else b""
            arguments += (each.lane, each.entry, each.index, each.count, each.outcome, mark)
        return script("settle").command(
            self._lanes(pool), (GROUP,), more_keys=names, more=arguments
        )

    def _mark(self, each: Settled) -> bytes | int:
        """What becomes of arguments that are stored apart."""
        return self.failed_arguments if each.keeps_arguments else b"b"

    def retry(self, pool: str, claimed: Claimed, *, delay: float) -> Op[bool]:
        """Give the input another attempt after `delay` seconds; False if it is not ours any more."""
        keys = self.keys
        reply = yield from ask_one(
            *script("retry").command(
                (*self._lanes(pool), keys.delayed(pool), keys.call(claimed.call)),
                (GROUP, claimed.lane, claimed.entry, int(delay * 1000), keys.wake, pool),
            )
        )
        return bool(reply)

    def kept(self, pool: str, packs: Sequence[Claimed]) -> Op[list[bytes | None]]:
        """For each entry the index of the input that it was left to, None if it is a whole pack."""
        notes = [f"kept:{one.lane}:{one.entry}" for one in packs]
        reply: list[bytes | None] = yield from ask_one(b"HMGET", self.keys.pool(pool), *notes)
        return reply

    def split(
        self,
        pool: str,
        container: str,
        claimed: Claimed,
        *,
        keep: int | None,
        ended: Sequence[Ended],
        again: Sequence[Requeued],
    ) -> Op[bool]:
        """End some inputs of a pack and requeue others; its entry stands for `keep` from now on.

        Without `keep` nothing of the pack may be left out. False if it is not ours any more.
        """
        keys = self.keys
        parts: list[Any] = [part for each in ended for part in each]
        for first, number, retries, delay in again:
            parts += (first, number, retries, int(delay * 1000))
        reply = yield from ask_one(
            *script("split").command(
                (*self._lanes(pool), keys.delayed(pool), keys.call(claimed.call)),
                (
                    *(GROUP, container, claimed.lane, claimed.entry, b"" if keep is None else keep),
                    *(keys.wake, pool, len(ended)),
                ),
                more=parts,
            )
        )
        return bool(reply)

    def release(
        self, pool: str, held: Sequence[tuple[int, str, str]], *, deliveries: Sequence[int] = ()
    ) -> Op[int]:
        """Hand back (lane, entry, call) that were claimed and not started; how many were ours.

        `deliveries`, from whoever does not hold them itself: how often each was delivered when
        its container had not started it. What was delivered again since is not handed back.
        """
        keys, released = self.keys, 0
        counts = deliveries or [0] * len(held)
        for start in range(0, len(held), 100):
            chunk = list(zip(held, counts, strict=True))[start : start + 100]
            released += yield from ask_one(
                *script("release").command(
                    self._lanes(pool),
                    (GROUP, keys.wake, pool),
                    more_keys=[keys.call(call) for (_, _, call), _ in chunk],
                    more=[part for (lane, entry, _), n in chunk for part in (lane, entry, n)],
                )
            )
        return released

    def reclaim(
        self,
        pool: str,
        container: str,
        *,
        reason: str,
        charged: Iterable[str],
        budget: int = BUDGET,
        since: int = 0,
        told: list[TakenBack] | None = None,
    ) -> Op[tuple[int, int]]:
        """Take back what a dead container holds: (given back, lost); `told` gets those that were charged or lost.

        `charged` names the started inputs as `<lane> <entry> <index>`, or is ("*",) for all; of a
        marked container they are lost at once. What was put back in line at `since` (ms of the
        server's clock) or later is not charged, as it has been if it had to be.
        """
        keys, back, lost = self.keys, 0, 0
        shard, holder = shard_of(pool), reading.raw_name(container)
        command = script("reclaim").command(
            (*self._lanes(pool), keys.dead(shard)),
            (
                *(GROUP, holder, budget, reason, keys.calls(shard), keys.wake, pool, since),
                self.failed_arguments,
            ),
            more=tuple(charged),
        )
        while True:
            given_back, ended, is_gone, inputs = yield from ask_one(*command)
            back += given_back
            lost += ended
            if told is not None:
                told += map(TakenBack.parse, inputs)
            if is_gone:
                return back, lost

    def bury(self, pool: str, claimed: Claimed, *, reason: str) -> Op[bool]:
        """Set an entry aside that cannot be processed; False if it is not ours any more."""
        keys, shard = self.keys, shard_of(pool)
        stream = keys.again(pool) if claimed.lane == 2 else keys.inputs(pool)
        reply = yield from ask_one(
            *script("bury").command(
                (keys.pool(pool), stream, keys.dead(shard)),
                (
                    *(GROUP, claimed.lane, claimed.entry, reason, keys.calls(shard), pool),
                    self.failed_arguments,
                ),
            )
        )
        return bool(reply)

    def purge(
        self,
        pool: str,
        *,
        reason: str,
        is_due: Callable[[], Op[bool]] | None = None,
        spare: bool = False,
    ) -> Op[int]:
        """End what waits or runs in the pool now, with `reason`; returns how many inputs.

        What comes later stays. `is_due` is asked before every hundred, and ends it by False. With `spare`
        what containers hold goes on, and only what waits is ended.
        """
        noted: list[str] = []
        if reason.startswith(NO_START):
            with suppress(Error):  # people may look for them; nothing else needs it
                failures = Failures(self.keys)
                yield from failures.note_waiting(pool, noted, kind="init", reason=reason)
        ended = 0
        lanes = (self.keys.inputs(pool), self.keys.again(pool))
        last = yield from ask(*((b"XREVRANGE", each, b"+", b"-", b"COUNT", 1) for each in lanes))
        for lane, found in zip((1, 2), last, strict=True):
            till = found[0][0] if found else b"0-0"
            command = self.purge_command(
                pool, lane, till=till, reason=reason, spare=spare, noted=noted
            )
            count = 1
            while count:
                if is_due is not None and not (yield from is_due()):
                    return ended
                count = yield from ask_one(*command)
                ended += count
        return ended

    def purge_command(
        self,
        pool: str,
        lane: int,
        *,
        till: bytes,
        reason: str,
        spare: bool = False,
        noted: Sequence[str] = (),
    ) -> Command:
        """End a hundred entries of one lane, none behind `till`; the reply is how many inputs.

        The arguments of the `noted` inputs (call and index) are kept.
        """
        keys, shard = self.keys, shard_of(pool)
        return script("purge").command(
            (keys.pool(pool), self._lanes(pool)[lane], keys.delayed(pool), keys.dead(shard)),
            (
                *(GROUP, lane, till, reason, keys.calls(shard), pool, int(spare)),
                self.failed_arguments,
            ),
            more=noted,
        )

    def promote(self, pool: str) -> Op[tuple[int, float | None]]:
        """Put due retries back in line: (how many, seconds until the next or None)."""
        keys, shard = self.keys, shard_of(pool)
        count, following = yield from ask_one(
            *script("promote").command(
                (keys.pool(pool), keys.again(pool), keys.delayed(pool), keys.dead(shard)),
                (keys.calls(shard), keys.wake, pool),
            )
        )
        return count, None if following < 0 else following / 1000

    def _lanes(self, pool: str) -> tuple[str, str, str]:
        return self.keys.of_pool(pool)[:3]
