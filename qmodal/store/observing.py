"""Observations of pools, from which stats and scaling are derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmodal.store import reading
from qmodal.store.keys import GROUP, Keys
from qmodal.store.results.outputs import MOST_PER_OUTPUT
from qmodal.transport.operation import Command, Op, ask_each, ask_one
from qmodal.transport.script import script
from qmodal.wire.ids import SHARDS, is_pool_id


@dataclass(frozen=True, slots=True)
class ConsumerView:
    """A container as its streams see it, and how many entries it holds."""

    name: str
    pending: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One pool at one moment; counts are inputs, times are seconds."""

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

    def running(self, slots: int = 1) -> int:
        """Started inputs: a container runs at most `slots` of the entries that it holds."""
        return sum(min(consumer.pending, slots) for consumer in self.consumers)


@dataclass(frozen=True, slots=True)
class Observing:
    """Operations that observe pools."""

    keys: Keys

    def active(self) -> Op[list[str]]:
        """The ids of all active pools, in one pipeline."""
        names = [self.keys.active(shard) for shard in range(SHARDS)]
        replies = yield from ask_each((b"ZRANGE", name, 0, -1) for name in names)
        found = [
            reading.text(pool, name)
            for name, reply in zip(names, replies, strict=True)
            if reading.is_readable(reply, name)
            for pool in reply
        ]
        return [pool for pool in found if pool is not None and is_pool_id(pool)]

    def observe(self, pools: Sequence[str]) -> Op[list[Observation | None]]:
        """Look at many pools in one pipeline; None for a pool that is not known, or cannot be read."""
        looks = {pool: self._look_command(pool) for pool in pools if is_pool_id(pool)}
        replies = yield from ask_each(looks.values())
        found = {
            pool: _observation(pool, reply, self.keys.pool(pool))
            for pool, reply in zip(looks, replies, strict=True)
        }
        return [found.get(pool) for pool in pools]

    def _look_command(self, pool: str) -> Command:
        keys = self.keys
        names = (keys.pool(pool), keys.inputs(pool), keys.again(pool), keys.delayed(pool))
        return script("observe").command(names, (GROUP,))

    def learned(self, pool: str, **seconds: float) -> Op[None]:
        """Keep learned times (`service_time`, `start_time`) with the pool."""
        flat = [part for name, value in seconds.items() for part in (name, round(value, 6))]
        yield from ask_one(*note_command(self.keys, pool, *flat))

    def serve(self, pool: str, *, is_served: bool) -> Op[None]:
        """Say whether a container is ready for a lone input, which then need not be published."""
        yield from ask_one(*note_command(self.keys, pool, b"served", int(is_served)))


def note_command(keys: Keys, pool: str, *flat: str | bytes | float) -> Command:
    """Note something with the pool, if that is known: a record that begins so would never go."""
    return script("note").command((keys.pool(pool),), more=flat)


def _observation(pool: str, reply: Any, where: str) -> Observation | None:
    if not reply or not reading.is_readable(reply, where):
        return None
    fields, entries, delayed, first, second = reply
    app, function, label, inflight, submitted, service_time, start_time, served = fields
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
