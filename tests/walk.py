"""A random walk over the scripts, and the model that says what each step has to do."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgpack

from qmodal.client import Client
from qmodal.store.calls import Submission
from qmodal.store.exchange import Command, Exchange, Op
from qmodal.store.keys import pool_id, shard_of
from qmodal.store.line import Address, Line
from qmodal.store.pools import Claimed, Settled
from qmodal.wire.ids import new_call_id

BUDGET = 3
TTL = 600_000
LOST = "lost"
Input = tuple[str, int]  # call, index


def command_of(op: Op[Any]) -> Command:
    """The only command of an operation's first exchange."""
    request = next(op)
    assert isinstance(request, Exchange)
    assert len(request.commands) == 1
    return request.commands[0]


@dataclass(slots=True)
class WalkCall:
    """What the model knows of a call."""

    pool: str
    total: int | None
    submitted: int = 0
    is_cancelled: bool = False
    outcomes: dict[int, bytes] = field(default_factory=dict)
    blobs: set[int] = field(default_factory=set)

    @property
    def is_ended(self) -> bool:
        """Whether nothing of it is in flight."""
        return self.is_cancelled or len(self.outcomes) == self.submitted


@dataclass(slots=True)
class WalkPool:
    """What the model knows of a pool."""

    held: dict[str, dict[Input, Claimed]] = field(default_factory=dict)  # by container
    queued: set[Input] = field(default_factory=set)
    delayed: set[Input] = field(default_factory=set)
    is_active: bool = False

    def inflight(self) -> int:
        """Inputs that are somewhere in the pool; delayed ones of a cancelled call still are."""
        return len(self.queued) + len(self.delayed) + sum(map(len, self.held.values()))


class Walk:
    """Takes random steps on the server and in the model, and compares."""

    def __init__(self, client: Client, seed: int) -> None:
        self.random = random.Random(seed)
        self.run = client.run
        self.calls_of, self.pools_of, self.observing = client.calls, client.pools, client.observing
        self.line = Line(Address(client.settings.redis_url or ""))
        self.pools = {pool_id("ap-walk", f"f{n}", b""): WalkPool() for n in range(3)}
        self.calls: dict[str, WalkCall] = {}
        self.lost: dict[Input, int] = {}
        self.seen: set[tuple[str, int, str]] = set()
        self.past: deque[tuple[str, Settled]] = deque(maxlen=40)
        self.serial = 0
        for pool in self.pools:
            self.run(self.pools_of.open(pool, spec=b"s", app="ap-walk", function="f", label="f"))

    def step(self) -> None:
        """One step of a random kind in a random pool."""
        pool = self.random.choice(list(self.pools))
        kinds = {
            self.submit: 16,
            self.extend: 5,
            self.claim: 24,
            self.settle: 18,
            self.settle_again: 12,
            self.retry: 6,
            self.promote: 5,
            self.release: 5,
            self.reclaim: 3,
            self.cancel: 1,
            self.leave: 3,
            self.join: 1,
            self.turn_over: 6,
            self.collide: 4,
        }
        self.random.choices(list(kinds), list(kinds.values()))[0](pool)

    def submit(self, pool: str) -> None:
        """A new call: mostly one input, sometimes more than the scripts treat in one run."""
        count = self.random.choices((0, 1, 3, 130), (2, 78, 19, 1))[0]
        if self.pools[pool].inflight() > 300:
            return
        call = new_call_id(shard_of(pool))
        is_open = self.random.random() < 0.2
        self.calls[call] = WalkCall(pool, None if is_open else count)
        self._append(call, count)

    def extend(self, pool: str) -> None:
        """A further chunk of a call that is still open, or its end."""
        open_calls = [
            call
            for call, about in self.calls.items()
            if about.pool == pool and about.total is None and not about.is_cancelled
        ]
        if not open_calls:
            return
        call = self.random.choice(open_calls)
        if self.random.random() < 0.3:
            self.calls[call].total = self.calls[call].submitted
            self._append(call, 0)
        else:
            self._append(call, 2)

    def _append(self, call: str, count: int) -> None:
        submission = self._submission(call, count)
        for _ in range(self.random.choice((1, 1, 2))):
            self.run(self.calls_of.submit(submission))
        self._submitted(call, count)

    def _submission(self, call: str, count: int) -> Submission:
        about = self.calls[call]
        blobs = [about.submitted] if count and self.random.random() < 0.2 else []
        about.blobs.update(blobs)
        return Submission(
            call=call,
            pool=about.pool,
            digest=call.encode(),
            envelopes=[b"envelope %d" % n for n in range(count)],
            first=about.submitted,
            total=about.total,
            ttl=TTL,
            now=1,
            blobs=[(index, b"blob") for index in blobs],
        )

    def _submitted(self, call: str, count: int) -> None:
        about = self.calls[call]
        pool = self.pools[about.pool]
        pool.queued.update((call, about.submitted + n) for n in range(count))
        about.submitted += count
        pool.is_active = pool.is_active or count > 0

    def claim(self, pool: str) -> None:
        """A container, old or new, reads new entries."""
        state = self.pools[pool]
        if not state.is_active:
            return
        container = self._container(pool)
        count = self.random.choice((1, 1, 1, 2, 5, 120))
        command = self.pools_of.claim_command(pool, container, count=count, block=None)
        self._claimed(pool, container, self.line.exchange([command])[0])

    def _container(self, pool: str) -> str:
        known = list(self.pools[pool].held)
        if len(known) < 3 or self.random.random() < 0.05:
            self.serial += 1
            return f"ta-walk-{self.serial}"
        return self.random.choice(known)

    def _claimed(self, pool: str, container: str, reply: Any) -> None:
        state = self.pools[pool]
        held = state.held.setdefault(container, {})
        for claimed in self.pools_of.parse_claim(pool, reply):
            token = (pool, claimed.lane, claimed.entry)
            assert token not in self.seen, f"entry id {token} was used twice"
            self.seen.add(token)
            assert claimed.is_shaped
            one = (claimed.call, int(claimed.fields[5]))
            assert not self.calls[one[0]].is_cancelled, "an input of a cancelled call was delivered"
            assert one in state.queued, f"{one} was delivered and is not queued"
            assert claimed.lost == self.lost.get(one, 0)
            state.queued.remove(one)
            held[one] = claimed

    def _some_held(self, pool: str, most: int) -> tuple[str, list[Input]]:
        held = self.pools[pool].held
        holders = [container for container, inputs in held.items() if inputs]
        if not holders:
            return "", []
        container = self.random.choice(holders)
        inputs = list(held[container])
        self.random.shuffle(inputs)
        return container, inputs[: self.random.randint(1, most)]

    def settle(self, pool: str) -> None:
        """A container ends one or several of its inputs."""
        container, inputs = self._some_held(pool, 4)
        if not inputs:
            return
        attempts = self._attempts(pool, container, inputs)
        reply = self.line.exchange([self.pools_of.settle_command(pool, attempts)])[0]
        assert reply == [self.pools[pool].inflight(), *(1 for _ in attempts)]

    def _attempts(self, pool: str, container: str, inputs: Iterable[Input]) -> list[Settled]:
        held = self.pools[pool].held[container]
        attempts = []
        for call, index in inputs:
            claimed = held.pop((call, index))
            self.serial += 1
            outcome = b"%d" % self.serial
            has_blob = index in self.calls[call].blobs
            self.calls[call].outcomes[index] = outcome
            attempts.append(Settled(claimed.lane, claimed.entry, call, index, outcome, has_blob))
        self.past += ((pool, attempt) for attempt in attempts)
        return attempts

    def settle_again(self, _pool: str) -> None:
        """A settle whose reply was lost is sent again, or one that comes too late."""
        if not self.past:
            return
        pool, attempt = self.random.choice(self.past)
        reply = self.line.exchange([self.pools_of.settle_command(pool, [attempt])])[0]
        assert reply == [self.pools[pool].inflight(), 0], "a stale settle was accepted"

    def retry(self, pool: str) -> None:
        """A container gives an input another attempt, at once or in a moment."""
        container, inputs = self._some_held(pool, 1)
        if not inputs:
            return
        state, one = self.pools[pool], inputs[0]
        delay = self.random.choice((0.0, 0.001, 0.003))
        claimed = state.held[container].pop(one)
        self._outdated(pool, one, claimed)
        assert self.run(self.pools_of.retry(pool, claimed, delay=delay))
        assert not self.run(self.pools_of.retry(pool, claimed, delay=delay))
        (state.delayed if delay else state.queued).add(one)

    def _outdated(self, pool: str, one: Input, claimed: Claimed) -> None:
        """The entry is somebody else's now; a settle of it must be refused from here on."""
        stale = Settled(claimed.lane, claimed.entry, one[0], one[1], b"too late", False)
        self.past.append((pool, stale))

    def promote(self, pool: str) -> None:
        """What is due comes back in line; the clock is the server's, so its word counts."""
        state = self.pools[pool]
        look = (b"ZRANGE", self.pools_of.keys.delayed(pool), 0, -1)
        promote = command_of(self.pools_of.promote(pool))
        before, (count, _), after = self.line.exchange([look, promote, look])
        gone = {_delayed(member) for member in set(before) - set(after)}
        assert count == len(gone)
        assert {_delayed(member) for member in before} == state.delayed
        state.delayed -= gone
        state.queued |= {one for one in gone if not self.calls[one[0]].is_cancelled}

    def release(self, pool: str) -> None:
        """A container hands back what it has not started."""
        container, inputs = self._some_held(pool, 150)
        state = self.pools[pool]
        given = [(one, state.held[container].pop(one)) for one in inputs]
        entries = [(claimed.lane, claimed.entry, one[0]) for one, claimed in given]
        assert self.run(self.pools_of.release(pool, entries)) == len(given)
        assert self.run(self.pools_of.release(pool, entries)) == 0
        for one, claimed in given:
            state.queued.add(one)
            self._outdated(pool, one, claimed)

    def reclaim(self, pool: str) -> None:
        """A container has died; some of what it held had been started."""
        state = self.pools[pool]
        if not state.held:
            return
        container = self.random.choice(list(state.held))
        held = state.held.pop(container)
        started = list(held) if self.random.random() < 0.3 else list(held)[:1]
        charged = [f"{held[one].lane} {held[one].entry}" for one in started]
        op = self.pools_of.reclaim(pool, container, reason=LOST, charged=charged, budget=BUDGET)
        back, lost = self.run(op)
        for one in started:
            self.lost[one] = self.lost.get(one, 0) + 1
        ended = {one for one in held if self.lost.get(one, 0) >= BUDGET}
        assert (back, lost) == (len(held) - len(ended), len(ended))
        for one, claimed in held.items():
            self._outdated(pool, one, claimed)
            if one in ended:
                self.calls[one[0]].outcomes[one[1]] = LOST.encode()
            else:
                state.queued.add(one)

    def cancel(self, pool: str) -> None:
        """Somebody cancels a call."""
        known = [call for call, about in self.calls.items() if about.pool == pool]
        if not known:
            return
        self._cancel(pool, self.random.choice(known))

    def _cancel(self, pool: str, call: str) -> None:
        about, state = self.calls[call], self.pools[pool]
        holders = {
            (container, claimed.entry)
            for container, held in state.held.items()
            for one, claimed in held.items()
            if one[0] == call
        }
        assert set(self.run(self.calls_of.cancel(call))) == holders
        assert self.run(self.calls_of.cancel(call)) == []
        if about.total is not None and len(about.outcomes) == about.total:
            return
        about.is_cancelled = True
        state.queued = {one for one in state.queued if one[0] != call}
        for held in state.held.values():
            for one in [one for one in held if one[0] == call]:
                self._outdated(pool, one, held.pop(one))

    def leave(self, pool: str) -> None:
        """The autoscaler finds the pool empty, or thinks so."""
        state = self.pools[pool]
        (seen,) = self.run(self.observing.observe([pool]))
        assert seen is not None
        is_empty = not seen.consumers and not state.inflight()
        for _ in range(2):
            assert self.run(self.pools_of.leave(pool)) == (is_empty or not state.is_active)
        state.is_active = state.is_active and not is_empty

    def join(self, pool: str) -> None:
        """The pool gets warm containers."""
        assert self.run(self.pools_of.join(pool))
        self.pools[pool].is_active = True

    def turn_over(self, pool: str) -> None:
        """Within a millisecond the pool empties, leaves and comes back; only tokens tell."""
        state = self.pools[pool]
        if not state.is_active or state.queued or state.delayed or state.inflight() > 20:
            return
        attempts = [
            attempt
            for container, held in state.held.items()
            for attempt in self._attempts(pool, container, list(held))
        ]
        call = new_call_id(shard_of(pool))
        self.calls[call] = WalkCall(pool, 1)
        container = self._container(pool)
        commands = [
            *([self.pools_of.settle_command(pool, attempts)] if attempts else []),
            *(self._retire(pool, container) for container in state.held),
            command_of(self.pools_of.leave(pool)),
            command_of(self.pools_of.leave(pool)),
            *self.calls_of.submit_commands(self._submission(call, 1)),
            self.pools_of.claim_command(pool, container, count=1, block=None),
        ]
        gone = len(state.held) + bool(attempts)
        state.held.clear()
        replies = self.line.exchange(commands)
        assert replies[gone] == 1, "the empty pool did not leave"
        assert replies[-2] == b"OK"
        self._submitted(call, 1)
        self._claimed(pool, container, replies[-1])

    def collide(self, pool: str) -> None:
        """A call gets an entry in both streams in one millisecond, so their ids may be equal."""
        state = self.pools[pool]
        for container, held in state.held.items():
            for one, claimed in held.items():
                about = self.calls[one[0]]
                if about.total is None and len(state.queued) < 100:
                    self._collide(pool, container, one, claimed)
                    return

    def _collide(self, pool: str, container: str, one: Input, claimed: Claimed) -> None:
        state = self.pools[pool]
        entry = (claimed.lane, claimed.entry, one[0])
        release = command_of(self.pools_of.release(pool, [entry]))
        submit = self.calls_of.submit_commands(self._submission(one[0], 1))
        assert self.line.exchange([release, *submit])[0] == 1
        del state.held[container][one]
        state.queued.add(one)
        self._submitted(one[0], 1)
        if self.random.random() < 0.3:
            self._cancel(pool, one[0])

    def _retire(self, pool: str, container: str) -> Command:
        return command_of(self.pools_of.reclaim(pool, container, reason=LOST, charged=()))

    def check(self) -> None:
        """Compare counters, streams, lifetimes and the active index with the model."""
        keys = self.pools_of.keys
        for pool, state in self.pools.items():
            names = (keys.inputs(pool), keys.again(pool))
            inflight, score, streams, first, second, delayed = self.line.exchange(
                [
                    (b"HGET", keys.pool(pool), b"inflight"),
                    (b"ZSCORE", keys.active(shard_of(pool)), pool),
                    (b"EXISTS", *names),
                    *((b"XLEN", name) for name in names),
                    (b"ZCARD", keys.delayed(pool)),
                ]
            )
            assert int(inflight or 0) == state.inflight()
            assert (score is not None, streams) == (state.is_active, 2 if state.is_active else 0)
            assert delayed == len(state.delayed)
            assert first + second == state.inflight() - delayed
        self._check_lifetimes()

    def _check_lifetimes(self) -> None:
        keys = self.calls_of.keys
        known = list(self.calls)
        lifetimes = self.line.exchange([(b"PTTL", keys.call(call)) for call in known])
        for call, left in zip(known, lifetimes, strict=True):
            about = self.calls[call]
            assert left > 0 if about.is_ended else left == -1, f"lifetime {left} of {about}"
            if about.is_ended and (about.is_cancelled or about.total is not None):
                self._check_outputs(call)

    def _check_outputs(self, call: str) -> None:
        """The call has ended: each input has its one outcome, and nothing else is left."""
        keys, about = self.calls_of.keys, self.calls.pop(call)
        blobs = [keys.blob(call, index) for index in range(about.submitted)]
        outputs, left, kept = self.line.exchange(
            [
                (b"XRANGE", keys.outputs(call), b"-", b"+"),
                (b"PTTL", keys.outputs(call)),
                (b"EXISTS", keys.moved(call), *blobs),
            ]
        )
        found = [(int(fields[1]), fields[3]) for _, fields in outputs]
        expected = dict(about.outcomes)
        if about.is_cancelled:
            expected[-1] = b"cancelled"
        assert sorted(found) == sorted(expected.items())
        assert left > 0 or not outputs
        waiting = {one for one in self.pools[about.pool].delayed if one[0] == call}
        blobs_left = waiting & {(call, index) for index in about.blobs}
        assert kept == len(blobs_left), f"moved or blobs left of {call}: {about}"
        if waiting:
            self.calls[call] = about  # they come up one day, and must be dropped then

    def finish(self) -> None:
        """Let everything end, and look once more."""
        for pool, state in self.pools.items():
            self.join(pool)
            while state.inflight():
                self.promote(pool)
                self.claim(pool)
                for container, held in state.held.items():
                    attempts = self._attempts(pool, container, list(held)[:100])
                    if attempts:
                        self.line.exchange([self.pools_of.settle_command(pool, attempts)])
        self.check()
        for pool, state in self.pools.items():
            for container in list(state.held):
                self.run(self.pools_of.reclaim(pool, container, reason=LOST, charged=()))
            assert self.run(self.pools_of.leave(pool))
        left = [call for call, about in self.calls.items() if not about.is_ended]
        assert not left
        self.line.close()


def _delayed(member: bytes) -> Input:
    fields = msgpack.unpackb(member, raw=True)
    return fields[3].decode(), int(fields[5])
