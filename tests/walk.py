"""A random walk over the scripts, and the model that says what each step has to do."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from qmodal.client import Client
from qmodal.store.calls import Submission
from qmodal.store.entries import Claimed, Settled
from qmodal.store.keys import pool_id, shard_of
from qmodal.store.line import Address, Line
from qmodal.wire.ids import new_call_id
from tests.model import LOST, Input, WalkCall, WalkPool, command_of, delayed_input
from tests.walk_races import collide, turn_over

BUDGET = 3
TTL = 600_000


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
        kinds: dict[Callable[[str], None], int] = {
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
            partial(turn_over, self): 6,
            partial(collide, self): 4,
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
        submission = self.submission(call, count)
        for _ in range(self.random.choice((1, 1, 2))):
            self.run(self.calls_of.submit(submission))
        self.submitted(call, count)

    def submission(self, call: str, count: int) -> Submission:
        """The next inputs of a call."""
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

    def submitted(self, call: str, count: int) -> None:
        """The model's side of a submit."""
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
        container = self.container_for(pool)
        count = self.random.choice((1, 1, 1, 2, 5, 120))
        command = self.pools_of.claim_command(pool, container, count=count, block=None)
        self.claimed(pool, container, self.line.exchange([command])[0])

    def container_for(self, pool: str) -> str:
        """A container of the pool, old or new."""
        known = list(self.pools[pool].held)
        if len(known) < 3 or self.random.random() < 0.05:
            self.serial += 1
            return f"ta-walk-{self.serial}"
        return self.random.choice(known)

    def claimed(self, pool: str, container: str, reply: Any) -> None:
        """The reply of a claim, compared with what the model expects of it."""
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
        attempts = self.attempts(pool, container, inputs)
        reply = self.line.exchange([self.pools_of.settle_command(pool, attempts)])[0]
        assert reply == [self.pools[pool].inflight(), *(1 for _ in attempts)]

    def attempts(self, pool: str, container: str, inputs: Iterable[Input]) -> list[Settled]:
        """The outcomes of these inputs, which are ended in the model."""
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
        gone = {delayed_input(member) for member in set(before) - set(after)}
        assert count == len(gone)
        assert {delayed_input(member) for member in before} == state.delayed
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
        self.cancel_call(pool, self.random.choice(known))

    def cancel_call(self, pool: str, call: str) -> None:
        """Cancel this call, on the server and in the model."""
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
