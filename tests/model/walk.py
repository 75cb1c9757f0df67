"""A random walk over the scripts, and the model that says what each step has to do."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from qmodal.client.client import Client
from qmodal.store.entries import Claimed, Settled
from qmodal.transport.connection import Address, Connection
from qmodal.wire.ids import pool_id
from tests.model.model import (
    Input,
    Late,
    Part,
    Token,
    WalkCall,
    WalkPool,
    command_of,
    delayed_part,
)
from tests.model.walk_ends import bury, cancel, purge, reclaim
from tests.model.walk_packs import late_split, split, split_foreign
from tests.model.walk_races import collide, turn_over
from tests.model.walk_runs import settle_run
from tests.model.walk_submits import extend, submit


class Walk:
    """Takes random steps on the server and in the model, and compares."""

    def __init__(self, client: Client, seed: int) -> None:
        self.random = random.Random(seed)
        self.run = client.run
        self.calls_of, self.pools_of, self.observing = client.calls, client.pools, client.observing
        self.line = Connection(Address(client.settings.redis_url or ""))
        self.pools = {pool_id("ap-walk", f"f{n}", b""): WalkPool() for n in range(3)}
        self.calls: dict[str, WalkCall] = {}
        self.lost: dict[Input, int] = {}
        self.retries: dict[Input, int] = {}
        self.seen: set[tuple[str, Token]] = set()
        self.past: deque[Late] = deque(maxlen=40)
        self.serial = 0
        self._names = list(self.pools)
        kinds: dict[Callable[[str], None], int] = {
            partial(submit, self): 16,
            partial(extend, self): 5,
            self.claim: 24,
            self.settle: 12,
            partial(settle_run, self): 6,
            self.again: 14,
            self.retry: 6,
            self.promote: 5,
            self.release: 5,
            self.leave: 3,
            self.join: 1,
            partial(split, self): 12,
            partial(split_foreign, self): 2,
            partial(reclaim, self): 4,
            partial(cancel, self): 1,
            partial(bury, self): 1,
            partial(purge, self): 1,
            partial(turn_over, self): 6,
            partial(collide, self): 4,
        }
        self._kinds, self._weights = list(kinds), list(kinds.values())
        for pool in self.pools:
            self.run(self.pools_of.open(pool, spec=b"s", app="ap-walk", function="f", label="f"))

    def step(self) -> None:
        """One step of a random kind in a random pool."""
        pool = self.random.choice(self._names)
        self.random.choices(self._kinds, self._weights)[0](pool)

    def outcome(self) -> bytes:
        """One that was never used before."""
        self.serial += 1
        return b"%d" % self.serial

    def ended(self, part: Part, outcome: bytes) -> None:
        """In the model these inputs have ended; of a cancelled call nobody is told."""
        about = self.calls[part.call]
        if about.is_cancelled:
            return
        for _, index in part.inputs():
            assert index not in about.outcomes, f"{index} of {part} ended twice in the model"
            about.outcomes[index] = outcome

    def requeued(self, pool: str, part: Part, *, delay: float = 0.0) -> None:
        """In the model these inputs are in line again, or will be; not those of a cancelled call."""
        state = self.pools[pool]
        if delay:
            state.delayed.add(part)
        elif not self.calls[part.call].is_cancelled:
            state.queued.add(part)

    def take(self, pool: str, container: str, part: Part) -> Claimed:
        """The container holds the part no more; whatever it says of it now comes too late."""
        state = self.pools[pool]
        claimed = state.held[container].pop(part)
        state.kept.discard((claimed.lane, claimed.entry))
        return claimed

    def outdated(self, pool: str, container: str, part: Part, claimed: Claimed) -> None:
        """The entry is somebody else's now; a settle or a split must be refused from here on."""
        lane, entry, _ = claimed
        if self.random.random() < 0.4:
            command, holder = late_split(self, pool, container, claimed), (container, (lane, entry))
            self.past.append(Late(pool, command, holder))
            return
        is_kept = self.random.random() < 0.3
        size = 1 if is_kept else claimed.size
        late = Settled(lane, entry, part.call, part.first, b"too late", False, size, is_kept)
        self.past.append(Late(pool, self.pools_of.settle_command(pool, [late])))

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
            token = (pool, (claimed.lane, claimed.entry))
            assert token not in self.seen, f"entry id {token} was used twice"
            self.seen.add(token)
            assert claimed.is_shaped
            part = Part(claimed.call, claimed.first, claimed.size)
            assert not self.calls[part.call].is_cancelled, "delivered although it was cancelled"
            assert part in state.queued, f"{part} was delivered and is not queued"
            for one in part.inputs():
                counted = (self.retries.get(one, 0), self.lost.get(one, 0))
                assert (claimed.retries, claimed.lost) == counted
            first, size = map(int, claimed.envelope.split())
            assert first <= part.first < part.behind <= first + size, "another pack's envelope"
            state.queued.remove(part)
            held[part] = claimed

    def some_held(self, pool: str, most: int) -> tuple[str, list[Part]]:
        """A container that holds something, and some of that."""
        held = self.pools[pool].held
        holders = [container for container, parts in held.items() if parts]
        if not holders:
            return "", []
        container = self.random.choice(holders)
        parts = list(held[container])
        self.random.shuffle(parts)
        return container, parts[: self.random.randint(1, most)]

    def settle(self, pool: str) -> None:
        """A container ends one or several of its entries."""
        container, parts = self.some_held(pool, 4)
        if not parts:
            return
        attempts = self.attempts(pool, container, parts)
        reply = self.line.exchange([self.pools_of.settle_command(pool, attempts)])[0]
        assert reply == [self.pools[pool].inflight(), *(1 for _ in attempts)]

    def attempts(self, pool: str, container: str, parts: Iterable[Part]) -> list[Settled]:
        """The outcomes of these parts, which are ended in the model."""
        kept, attempts = set(self.pools[pool].kept), []
        for part in parts:
            claimed = self.take(pool, container, part)
            lane, entry, _ = claimed
            outcome, (call, first, size) = self.outcome(), part
            has_blob = first in self.calls[call].blobs
            is_kept = (lane, entry) in kept
            keeps = self.random.random() < 0.5  # it has failed for good
            settled = Settled(lane, entry, call, first, outcome, has_blob, size, is_kept, keeps)
            self.ended(part, outcome)
            attempts.append(settled)
            self.past.append(Late(pool, self.pools_of.settle_command(pool, [settled])))
        return attempts

    def again(self, _pool: str) -> None:
        """A request whose reply was lost is sent again, or one comes too late."""
        if not self.past:
            return
        pool, command, holder = self.random.choice(self.past)
        reply = self.line.exchange([command])[0]
        if holder is None:
            assert reply == [self.pools[pool].inflight(), 0], "a stale settle was accepted"
            return
        container, token = holder
        held = self.pools[pool].held.get(container, {})
        is_split = any((claimed.lane, claimed.entry) == token for claimed in held.values())
        assert reply == int(is_split), "a stale split was accepted, or a repeated one refused"

    def retry(self, pool: str) -> None:
        """A container gives what it holds another attempt, at once or in a moment."""
        container, parts = self.some_held(pool, 1)
        if not parts:
            return
        part, delay = parts[0], self.random.choice((0.0, 0.001, 0.003))
        claimed = self.take(pool, container, part)
        self.outdated(pool, container, part, claimed)
        assert self.run(self.pools_of.retry(pool, claimed, delay=delay))
        assert not self.run(self.pools_of.retry(pool, claimed, delay=delay))
        self.retried(part)
        self.requeued(pool, part, delay=delay)

    def retried(self, part: Part) -> None:
        """In the model its inputs have used another retry."""
        for one in part.inputs():
            self.retries[one] = self.retries.get(one, 0) + 1

    def promote(self, pool: str) -> None:
        """What is due comes back in line; the clock is the server's, so its word counts."""
        state = self.pools[pool]
        look = (b"ZRANGE", self.pools_of.keys.delayed(pool), 0, -1)
        promote = command_of(self.pools_of.promote(pool))
        before, (count, _), after = self.line.exchange([look, promote, look])
        gone = {delayed_part(member) for member in set(before) - set(after)}
        assert count == len(gone)
        assert {delayed_part(member) for member in before} == state.delayed
        state.delayed -= gone
        for part in gone:
            self.requeued(pool, part)

    def release(self, pool: str) -> None:
        """A container hands back what it has not started, or what it was told to stop."""
        container, parts = self.some_held(pool, 150)
        given = [(part, self.take(pool, container, part)) for part in parts]
        entries = [(claimed.lane, claimed.entry, part.call) for part, claimed in given]
        assert self.run(self.pools_of.release(pool, entries)) == len(given)
        assert self.run(self.pools_of.release(pool, entries)) == 0
        for part, claimed in given:
            self.requeued(pool, part)
            self.outdated(pool, container, part, claimed)

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
