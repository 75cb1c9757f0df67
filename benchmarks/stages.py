"""One call taken apart: this process is caller and container in turn, with the real code of both.

Only what `qmodal.wire` and `qmodal.store` offer is used. If a part of it has gone, or takes other
arguments, the profile ends with an error rather than measure something else.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, TypeVar

from benchmarks.tasks import TASKS
from qmodal.client.client import Client
from qmodal.store.entries import Claimed, Settled, Submission
from qmodal.store.results.outputs import parse_outputs
from qmodal.transport.connection import Address, Connection, pack
from qmodal.wire.envelope import PYTHON, Envelope, Head, open_envelope
from qmodal.wire.ids import new_call_id, shard_of
from qmodal.wire.outcome import Outcome, open_outcome
from qmodal.wire.payload import dump_arguments, dump_value, load_arguments, load_value
from qmodal.wire.signing import mac_of

T = TypeVar("T")
ARGUMENTS = ("echo", 1)
CONTAINER = "profile"
TTL_MS = 60_000
# Long enough for the server to have answered: then reading does not include waiting.
ANSWERED_SECONDS = 0.0005

STAGES = (
    *("serialize", "sign", "pack", "write", "server", "wake", "read", "verify", "decode"),
    *("call", "settle"),
)
# Time as (stage, side) -> µs.
Costs = dict[tuple[str, str], float]


class Clock:
    """What each stage took on each side, call after call."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._of_call: dict[tuple[str, str], float] = defaultdict(float)

    def timed(self, stage: str, side: str, work: Callable[[], T], *, less: float = 0.0) -> T:
        """Do the work; a stage with several parts is their sum. `less` µs belong to another."""
        begin = time.perf_counter_ns()
        result = work()
        taken = (time.perf_counter_ns() - begin) / 1000
        self._of_call[stage, side] += max(0.0, taken - less)
        return result

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call, from its first stage to its last."""
        self._of_call.clear()
        yield
        for place, taken in self._of_call.items():
            self._taken[place].append(taken)

    def costs(self) -> Costs:
        """The median of each."""
        return {place: median(taken) for place, taken in self._taken.items()}


class Cycle:
    """Calls to a pool that no container serves but this object."""

    def __init__(self, client: Client, pool: str) -> None:
        self._client, self._pool = client, pool
        self._clock = Clock()
        address = Address(client.settings.redis_url or "")
        self._caller, self._container = Connection(address), Connection(address)
        for line in (self._caller, self._container):
            line.connect()

    def run(self, count: int) -> Costs:
        """The median µs of each stage over so many calls."""
        for _ in range(count):
            with self._clock.call():
                self._one()
        for line in (self._caller, self._container):
            line.close()
        return self._clock.costs()

    def _one(self) -> None:
        call = new_call_id(shard_of(self._pool))
        sealed = self._submit(call)
        claimed = self._claim()
        self._settle(self._perform(claimed))
        self._receive(call, mac_of(sealed))

    def _submit(self, call: str) -> bytes:
        clock = self._clock
        form, payload = clock.timed(
            "serialize",
            "client",
            lambda: dump_arguments(ARGUMENTS, {}, plain_only=False, main_by_reference=False),
        )
        sealed = clock.timed("sign", "client", lambda: self._sealed(call, form, payload))
        commands = clock.timed("pack", "client", lambda: self._commands(call, sealed))
        self._write(self._caller, "client", commands)
        reply = clock.timed("read", "client", self._caller.read)
        if reply != b"OK":
            raise RuntimeError(f"the server answered a submit with {reply!r}")
        return sealed

    def _write(self, line: Connection, side: str, commands: tuple[Any, ...]) -> None:
        """A line packs what it writes, so that part is taken off again."""
        begin = time.perf_counter_ns()
        self._clock.timed("pack", side, lambda: pack(commands))
        packing = (time.perf_counter_ns() - begin) / 1000
        self._clock.timed("write", side, lambda: line.write(commands), less=packing)
        time.sleep(ANSWERED_SECONDS)

    def _sealed(self, call: str, form: str, payload: bytes) -> bytes:
        head = Head(self._pool, call, "", _now(), None, PYTHON)
        envelope = Envelope(head, 0, 1, form, payload, None)
        return envelope.seal(self._client.signer)

    def _commands(self, call: str, sealed: bytes) -> tuple[Any, ...]:
        calls = self._client.calls
        submission = Submission(
            call=call,
            pool=self._pool,
            digest=mac_of(sealed),
            envelopes=[sealed],
            total=1,
            ttl=TTL_MS,
            now=_now(),
        )
        return (*calls.submit_commands(submission), calls.read_command(call, b"0", block=1000))

    def _claim(self) -> Claimed:
        pools, clock = self._client.pools, self._clock
        command = pools.claim_command(self._pool, CONTAINER, count=1, block=1000)
        self._container.write((command,))
        time.sleep(ANSWERED_SECONDS)
        reply = clock.timed("read", "container", self._container.read)
        (claimed,) = clock.timed("read", "container", lambda: pools.parse_claim(self._pool, reply))
        return claimed

    def _perform(self, claimed: Claimed) -> Settled:
        clock, signer = self._clock, self._client.signer
        envelope = clock.timed(
            "verify", "container", lambda: open_envelope(claimed.envelope, signer)
        )
        (task, value), _ = clock.timed(
            "decode",
            "container",
            lambda: load_arguments(envelope.format, envelope.payload, plain_only=False),
        )
        result = clock.timed("call", "container", lambda: TASKS[task](value))
        return clock.timed("settle", "container", lambda: self._ended(claimed, envelope, result))

    def _ended(self, claimed: Claimed, envelope: Envelope, result: Any) -> Settled:
        form, payload = dump_value(result, plain_only=False)
        sealed = Outcome("value", form, payload, CONTAINER).seal(
            self._client.signer,
            call=envelope.call,
            index=envelope.first,
            request=mac_of(claimed.envelope),
        )
        return Settled(claimed.lane, claimed.entry, envelope.call, envelope.first, sealed, False)

    def _settle(self, settled: Settled) -> None:
        pools = self._client.pools
        command = self._clock.timed(
            "settle", "container", lambda: pools.settle_command(self._pool, [settled])
        )
        self._write(self._container, "container", (command,))
        _, was_ours = self._container.read()
        if not was_ours:
            raise RuntimeError(f"the server did not accept the settle of {settled.entry}")

    def _receive(self, call: str, request: bytes) -> None:
        clock, signer = self._clock, self._client.signer
        reply = clock.timed("read", "client", self._caller.read)
        (output,) = clock.timed("read", "client", lambda: parse_outputs(reply))
        signed = output.signed or b""
        outcome = clock.timed(
            "verify",
            "client",
            lambda: open_outcome(signed, signer, call=call, index=0, request=request),
        )
        value = clock.timed(
            "decode",
            "client",
            lambda: load_value(outcome.format, outcome.payload, plain_only=False),
        )
        if value != ARGUMENTS[1]:
            raise RuntimeError(f"the call gave {value!r}")


def _now() -> int:
    return time.time_ns() // 1_000_000
