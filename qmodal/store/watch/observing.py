"""Observations of pools, from which stats and scaling are derived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import msgpack

from qmodal.store import reading
from qmodal.store.entries import Claimed
from qmodal.store.keys import GROUP, Keys, Lane
from qmodal.store.reading import LATEST_MS
from qmodal.store.results.outputs import MOST_PER_OUTPUT
from qmodal.transport.operation import Command, Op, ask, ask_each, ask_one
from qmodal.transport.script import script
from qmodal.wire.ids import SHARDS, is_pool_id, shard_of

# Pools that one script looks at: others of the server's clients wait meanwhile, for less than a millisecond.
OBSERVED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class ConsumerView:
    """A container as its streams see it, and how many entries it holds."""

    name: str
    pending: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One pool at one moment; counts are inputs, times are seconds.

    `busy_cpu`: CPUs that a container of it takes while it runs inputs, and `memory`: bytes that one takes, as measured.
    """

    pool: str
    app: str
    function: str
    label: str
    inflight: int
    submitted: int
    delayed: int
    consumers: tuple[ConsumerView, ...]
    service_time: float | None
    start_time: float | None
    is_served: bool = False  # a lone input is not published: a container is ready for it
    busy_cpu: float | None = None
    memory: int | None = None
    reset: int = 0  # when its failed starts were last forgotten by hand, in ms since 1970
    paused: int = 0  # since when it gets no containers, in ms since 1970; 0: it does

    def running(self, slots: int = 1) -> int:
        """Started inputs: a container runs at most `slots` of the entries that it holds."""
        return sum(min(consumer.pending, slots) for consumer in self.consumers)


# Where an entry is: held by a container, in line, or put off until its retry is due.
Place = Literal["running", "waiting", "delayed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedEntry:
    """An entry of a pool, which stands for one input or for a pack of them.

    A `container` holds those that run or that it has claimed ahead; `since` is when it was put in line, or
    when it is due if it is delayed (ms since 1970), `idle` how long it is held (ms).
    """

    pool: str
    place: Place
    claimed: Claimed
    since: int
    container: str = ""
    idle: int = 0
    deliveries: int = 0


@dataclass(frozen=True, slots=True)
class Observing:
    """Operations that observe pools."""

    keys: Keys

    def active(self) -> Op[list[str]]:
        """The ids of all active pools, in one pipeline."""
        names = [self.keys.active(shard) for shard in range(SHARDS)]
        replies = yield from ask_each((b"ZRANGE", name, 0, -1) for name in names)
        tangled = [
            name for name, reply in zip(names, replies, strict=True) if reading.is_foreign(reply)
        ]
        # Whoever submits puts its pool on the list again, and so does the chore that audits the lists.
        yield from ask_each((b"UNLINK", name) for name in tangled)
        found = [
            reading.text(pool, name)
            for name, reply in zip(names, replies, strict=True)
            if reading.is_readable(reply, name)
            for pool in reply
        ]
        return [pool for pool in found if pool is not None and is_pool_id(pool)]

    def streamless(self, pools: Sequence[str]) -> Op[list[str]]:
        """Those of the pools that lack one of their streams."""
        keys = self.keys
        looks = ((b"EXISTS", keys.inputs(pool), keys.again(pool)) for pool in pools)
        replies = yield from ask_each(looks)
        return [pool for pool, reply in zip(pools, replies, strict=True) if reply in (0, 1)]

    def observe(self, pools: Sequence[str]) -> Op[list[Observation | None]]:
        """Look at many pools in one pipeline; None for a pool that is not known, or cannot be read.

        A script for those of a shard, which takes as long as a few commands for each of them.
        """
        by_shard: dict[int, list[str]] = {}
        for pool in dict.fromkeys(filter(is_pool_id, pools)):
            by_shard.setdefault(shard_of(pool), []).append(pool)
        looks = [
            each[start : start + OBSERVED_AT_ONCE]
            for each in by_shard.values()
            for start in range(0, len(each), OBSERVED_AT_ONCE)
        ]
        replies = yield from ask_each(map(self._look_command, looks))
        found: dict[str, Observation | None] = {}
        tangled: list[str] = []
        for look, reply in zip(looks, replies, strict=True):
            rows = [reply] * len(look) if isinstance(reply, Exception) else reply
            for pool, row in zip(look, rows, strict=True):
                found[pool] = _observation(pool, row, self.keys.pool(pool))
                if reading.is_foreign(row):
                    tangled.append(pool)
        yield from self._mend(tangled)
        return [found.get(pool) for pool in pools]

    def _mend(self, pools: Sequence[str]) -> Op[None]:
        """Have pools be active again of whose keys one is of another type; what it held is lost."""
        keys = self.keys
        yield from ask_each(
            script("join").command(
                (*keys.of_pool(pool)[:3], keys.active(shard_of(pool))), (pool, GROUP, keys.wake)
            )
            for pool in pools
        )

    def _look_command(self, pools: Sequence[str]) -> Command:
        first, *others = map(self._looked_at, pools)
        return script("observe").command(first, (GROUP,), more_keys=chain.from_iterable(others))

    def _looked_at(self, pool: str) -> tuple[str, ...]:
        keys = self.keys
        return keys.pool(pool), keys.inputs(pool), keys.again(pool), keys.delayed(pool)

    def queue(self, pool: str, *, count: int) -> Op[list[QueuedEntry]]:
        """The entries of a pool as far as they were written by our scripts, at most `count` of each place.

        Several reads: an entry that moves meanwhile may be missing.
        """
        keys, found = self.keys, list[QueuedEntry]()
        lanes: tuple[tuple[Lane, str], ...] = ((2, keys.again(pool)), (1, keys.inputs(pool)))
        for lane, stream in lanes:
            groups, held = yield from ask_each(
                (
                    (b"XINFO", b"GROUPS", stream),
                    (b"XPENDING", stream, GROUP, b"-", b"+", count),
                )
            )
            if not reading.is_readable(groups, stream) or isinstance(held, Exception):
                continue
            replies = yield from ask_each(
                (
                    *((b"XRANGE", stream, each[0], each[0]) for each in held),
                    (b"XRANGE", stream, b"(" + _delivered(groups), b"+", b"COUNT", count),
                )
            )
            *singles, waiting = replies
            for (_, holder, idle, deliveries), reply in zip(held, singles, strict=True):
                about = {"container": reading.name(holder), "idle": idle, "deliveries": deliveries}
                found += _queued(pool, "running", lane, reply, **about)
            found += _queued(pool, "waiting", lane, waiting)
        members = yield from ask_one(b"ZRANGE", keys.delayed(pool), 0, count - 1, b"WITHSCORES")
        for member, due in reading.pairs(members):
            moment = min(max(0.0, float(due)), LATEST_MS)
            found += _queued(pool, "delayed", 2, [(b"%d-0" % moment, _fields(member))])
        return found

    def learned(self, pool: str, **values: float) -> Op[None]:
        """Keep what was learned with the pool: `service_time`, `start_time`, `busy_cpu`, `memory`."""
        flat = [part for name, value in values.items() for part in (name, round(value, 6))]
        yield from ask_one(*note_command(self.keys, pool, *flat))

    def memory_of(self, pool: str) -> Op[int | None]:
        """Bytes that a container of the pool takes, as measured; None while nobody knows."""
        (reply,) = yield from ask_each([(b"HGET", self.keys.pool(pool), b"memory")])
        found = reading.whole(reply)
        return None if found is None else max(0, found)

    def pause(self, pool: str, *, since: int) -> Op[bool]:
        """Have the pool get no containers from now on (`since`, in ms); False if it is not known."""
        noted = yield from ask_one(*note_command(self.keys, pool, b"paused", since))
        if noted:
            yield from ask_one(b"PUBLISH", self.keys.wake, pool)
        return bool(noted)

    def reset(self, pool: str, *, now: int) -> Op[bool]:
        """Have the pool try to start containers as if none had failed (`now`, in ms); False if it is not known."""
        noted = yield from ask_one(*note_command(self.keys, pool, b"reset", now))
        if noted:
            yield from ask_one(b"PUBLISH", self.keys.wake, pool)
        return bool(noted)

    def resume(self, pool: str) -> Op[bool]:
        """Have the pool get containers again; False if it was not paused."""
        removed, _ = yield from ask(
            (b"HDEL", self.keys.pool(pool), b"paused"), (b"PUBLISH", self.keys.wake, pool)
        )
        return bool(removed)

    def serve(self, pool: str, *, is_served: bool) -> Op[None]:
        """Say whether a container is ready for a lone input, which then need not be published."""
        yield from ask_one(*note_command(self.keys, pool, b"served", int(is_served)))


def note_command(keys: Keys, pool: str, *flat: str | bytes | float) -> Command:
    """Note something with the pool, if that is known: a record that begins so would never go."""
    return script("note").command((keys.pool(pool),), more=flat)


def _delivered(groups: Sequence[Any]) -> bytes:
    """The id of the last entry that a container was given."""
    for group in groups:
        about = dict(zip(group[::2], group[1::2], strict=True))
        if about[b"name"] == GROUP:
            last: bytes = about[b"last-delivered-id"]
            return last
    return b"0-0"


def _queued(pool: str, place: Place, lane: Lane, reply: Any, **about: Any) -> Iterator[QueuedEntry]:
    for entry, fields in [] if isinstance(reply, Exception) else reply:
        claimed = Claimed(lane, entry.decode(), tuple(fields or ()))
        if claimed.is_shaped:
            since = int(entry.partition(b"-")[0])
            yield QueuedEntry(pool=pool, place=place, claimed=claimed, since=since, **about)


def _fields(member: bytes) -> list[bytes]:
    """The fields of an input that waits for its retry; none of what is no such thing."""
    try:
        found = msgpack.unpackb(member, raw=True)
    except (ValueError, msgpack.UnpackException):
        return []
    is_list = isinstance(found, list) and all(isinstance(each, bytes) for each in found)
    return found if is_list else []


def _observation(pool: str, reply: Any, where: str) -> Observation | None:
    if not reply or not reading.is_readable(reply, where):
        return None
    fields, entries, delayed, first, second = reply
    (
        app,
        function,
        label,
        inflight,
        submitted,
        service_time,
        start_time,
        served,
        paused,
        cpu,
        memory,
        reset,
    ) = fields
    return Observation(
        pool=pool,
        app=(app or b"").decode(errors="replace"),
        function=(function or b"").decode(errors="replace"),
        label=(label or b"").decode(errors="replace"),
        inflight=_inflight(reading.whole(inflight) or 0, entries + delayed),
        submitted=max(0, reading.whole(submitted) or 0),
        delayed=delayed,
        consumers=_consumers(first, second),
        service_time=reading.seconds(service_time, where),
        start_time=reading.seconds(start_time, where),
        is_served=served == b"1",
        busy_cpu=reading.seconds(cpu, where),
        memory=reading.whole(memory),
        paused=max(0, reading.whole(paused) or 0),
        reset=max(0, reading.whole(reset) or 0),
    )


def _inflight(counted: int, entries: int) -> int:
    """The counter and the streams change in the same scripts.

    They differ only after a loss of data or a foreign write, and then the streams are right about
    whether there is anything, and how much at most.
    """
    return min(max(counted, entries), entries * MOST_PER_OUTPUT)


def _consumers(*lanes: Sequence[Any]) -> tuple[ConsumerView, ...]:
    pending: dict[str, int] = {}
    for consumers in lanes:
        for fields in consumers:
            about = dict(zip(fields[::2], fields[1::2], strict=True))
            name = reading.name(about[b"name"])
            pending[name] = pending.get(name, 0) + about[b"pending"]
    return tuple(ConsumerView(name, count) for name, count in pending.items())
