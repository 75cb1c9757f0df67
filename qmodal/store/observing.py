"""What pools look like at one moment: the observation that stats and scaling rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qmodal.store.exchange import Op, ask, ask_one
from qmodal.store.keys import GROUP, SHARDS, Keys
from qmodal.store.script import script


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
    """Read-only looks at pools."""

    keys: Keys

    def active(self) -> Op[list[str]]:
        """The ids of all active pools, in one pipeline."""
        shards = range(SHARDS)
        replies = yield from ask(*((b"ZRANGE", self.keys.active(n), 0, -1) for n in shards))
        return [pool.decode() for reply in replies for pool in reply]

    def observe(self, pools: Sequence[str]) -> Op[list[Observation | None]]:
        """Look at many pools in one pipeline; None for a pool that is not known."""
        if not pools:
            return []
        keys = self.keys
        replies = yield from ask(
            *(
                script("observe").command(
                    (keys.pool(pool), keys.inputs(pool), keys.again(pool), keys.delayed(pool)),
                    (GROUP,),
                )
                for pool in pools
            )
        )
        return [_observation(pool, reply) for pool, reply in zip(pools, replies, strict=True)]

    def learned(self, pool: str, **seconds: float) -> Op[None]:
        """Keep learned times (`service_time`, `start_time`) with the pool."""
        flat = [part for name, value in seconds.items() for part in (name, round(value, 6))]
        yield from ask_one(b"HSET", self.keys.pool(pool), *flat)

    def serve(self, pool: str, *, is_served: bool) -> Op[None]:
        """Say whether a container is ready for a lone input, which then need not be published."""
        yield from ask_one(b"HSET", self.keys.pool(pool), b"served", int(is_served))


def _observation(pool: str, reply: Sequence[Any]) -> Observation | None:
    if not reply:
        return None
    fields, entries, delayed, first, second = reply
    app, function, label, inflight, submitted, service_time, start_time, served = fields
    total = entries + delayed
    return Observation(
        pool=pool,
        app=app.decode(),
        function=function.decode(),
        label=label.decode(errors="replace"),
        # The counter and the streams change in the same scripts; they differ only after a loss of
        # data or a foreign write, and then the streams are right about whether there is anything.
        inflight=max(int(inflight or 0), total) if total else 0,
        submitted=int(submitted or 0),
        delayed=delayed,
        consumers=_consumers(first, second),
        service_time=None if service_time is None else float(service_time),
        start_time=None if start_time is None else float(start_time),
        is_served=served == b"1",
    )


def _consumers(*lanes: Sequence[Any]) -> tuple[ConsumerView, ...]:
    pending: dict[str, int] = {}
    for consumers in lanes:
        for fields in consumers:
            about = dict(zip(fields[::2], fields[1::2], strict=True))
            name = about[b"name"].decode()
            pending[name] = pending.get(name, 0) + about[b"pending"]
    return tuple(ConsumerView(name, count) for name, count in pending.items())
