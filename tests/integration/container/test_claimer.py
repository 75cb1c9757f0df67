"""A container that runs several inputs at once: what it claims, and what becomes of what it cannot start."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from qmodal.spec.options import FunctionOptions
from qmodal.store.entries import Claimed
from qmodal.store.keys import GROUP
from qmodal.transport.operation import ask_one
from qmodal_workers.container.concurrent.claimer import Claimer
from qmodal_workers.container.concurrent.room import Room
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.ipc.shared_record import AgentCommand, SharedRecord, lease_clock
from tests.support.attempts import attempt_of
from tests.support.store.bench import Bench, index_of
from tests.support.waiting import wait_until

NAME = "ta-a-1"


class Observed(ClaimConnection):
    """A connection that tells when it has read what is held, and nobody knows that yet."""

    on_held: Callable[[], None] = staticmethod(lambda: None)

    def held(self) -> list[Claimed]:
        found = super().held()
        self.on_held()
        return found


@dataclass
class Side:
    """A container whose loop starts what it is told to, unless it is blocked; nothing ends by itself."""

    bench: Bench
    options: FunctionOptions
    record: SharedRecord = field(default_factory=SharedRecord.create)
    started: list[list[Claimed]] = field(default_factory=list)
    is_blocked: bool = False
    is_stopped: bool = False
    ended: list[BaseException | None] = field(default_factory=list)
    claims: Observed = field(init=False)
    claimer: Claimer = field(init=False)

    def __post_init__(self) -> None:
        self.claims = Observed(self.bench.client, self.bench.pool, NAME, most_held=4096)
        self.claimer = Claimer(
            claims=self.claims,
            record=self.record,
            room=Room(self.options),
            wait_ms=self.options.wait_ms,
            admit=attempt_of,
            start_soon=self.start,
            release=self.release,
            goes_on=lambda: not self.is_stopped,
            on_end=self.ended.append,
        )

    def release(self, claimed: list[Claimed]) -> None:
        """Give them back."""
        bench, held = self.bench, [(one.lane, one.entry, one.call) for one in claimed]
        bench.client.run(bench.client.pools.release(bench.pool, held))

    def start(self, number: int = 0) -> None:
        """As the loop does."""
        while not self.is_blocked and self.busy < self.claimer.room.most:
            handed = self.claimer.take()
            if handed is None:
                break
            self.started.append([each.claimed for each in handed.attempts])
        if not self.is_blocked:
            self.claimer.looked(number)

    def end(self, claimed: Claimed, groups: int = 1) -> None:
        """That input has ended, with its group, and its outcome is written."""
        # By the client: the bench's own line is for one thread.
        self.bench.client.run(ask_one(*self.bench.settle_command(claimed)))
        self.claimer.held.discard(claimed[:2])
        self.claimer.room.ended(1, groups)
        self.claimer.room.written(1)
        self.start()

    @property
    def busy(self) -> int:
        """How many groups run."""
        return sum(any(one in self.running for one in group) for group in self.started)

    @property
    def running(self) -> list[Claimed]:
        """What was started and has not ended."""
        return [one for group in self.started for one in group if one[:2] in self.claimer.held]

    @property
    def indexes(self) -> list[int]:
        return [index_of(one) for group in list(self.started) for one in group]

    def until(self, count: int) -> list[int]:
        """The indexes of what was started, once that is so much."""
        wait_until(lambda: len(self.indexes) >= count, what=f"{count} have started")
        return self.indexes

    def stop(self) -> None:
        """No more is claimed."""
        self.is_stopped = True
        self.claimer.room.close()
        self.claims.end_wait()
        self.is_blocked = False
        self.start(self.claimer._number)
        wait_until(lambda: self.ended, what="the claimer ends")


Make = Callable[..., Side]


@pytest.fixture
def make(bench: Bench) -> Iterator[Make]:
    """Makes containers, which are stopped afterwards."""
    made: list[Side] = []

    def make_one(**options: Any) -> Side:
        made.append(Side(bench, FunctionOptions(**options)))
        return made[-1]

    yield make_one
    for each in made:
        each.stop()
        each.claims.close()
        assert each.ended == [None]


def pending(bench: Bench) -> int:
    """How many entries containers hold."""
    keys = bench.client.keys
    lanes = (keys.inputs(bench.pool), keys.again(bench.pool))
    return sum(bench.ask(b"XPENDING", lane, GROUP)[0] for lane in lanes)


def test_as_many_are_claimed_as_there_is_room_for(bench: Bench, make: Make) -> None:
    bench.submit(30)
    side = make(max_inputs=20, target_inputs=20)
    side.claimer.start()
    assert side.until(20) == list(range(20))
    assert pending(bench) == 20
    for group in side.started[:4]:
        side.end(group[0])
    assert side.until(24) == list(range(24))


def test_what_others_leave_is_claimed_over_the_target(bench: Bench, make: Make) -> None:
    side = make(max_inputs=20, target_inputs=5)
    side.claimer.start()
    bench.submit(30)
    assert side.until(20) == list(range(20))
    assert pending(bench) == 20


def test_what_a_blocked_loop_does_not_start_is_given_back(bench: Bench, make: Make) -> None:
    bench.submit(6)
    side = make(max_inputs=4, target_inputs=4)
    side.is_blocked = True
    side.claimer.start()
    found: list[int] = []

    def claimed_by_another() -> bool:
        found.extend(index_of(one) for one in bench.claim("ta-a-2", 6))
        return len(found) == 6

    wait_until(claimed_by_another, what="another container has all of them")
    assert not side.started
    assert side.claimer.held == set()


def test_a_lost_connection_loses_no_input_and_runs_none_twice(bench: Bench, make: Make) -> None:
    side = make(max_inputs=20, target_inputs=20)
    side.claimer.start()
    for _ in range(5):
        bench.submit(3)
        wait_until(lambda: side.claims.client_id, what="it has connected")
        bench.ask(b"CLIENT", b"KILL", b"ID", side.claims.client_id)
    side.until(15)
    entries = [one[:2] for group in side.started for one in group]
    assert len(entries) == len(set(entries)) == 15


def test_what_is_settled_while_the_container_reads_what_it_holds_does_not_start_again(
    bench: Bench, make: Make
) -> None:
    bench.submit(4)
    side = make(max_inputs=4, target_inputs=4)
    side.claimer.start()
    side.until(4)
    (one,) = side.started[0]

    def settle() -> None:
        side.claims.on_held = lambda: None
        side.end(one)

    side.claims.on_held = settle
    side.end(side.started[1][0])  # so that it claims
    bench.ask(b"CLIENT", b"KILL", b"ID", side.claims.client_id)
    wait_until(lambda: one[:2] not in side.claimer.held, what="it has looked")
    bench.submit(1)
    side.until(5)
    assert len(side.indexes) == 5


def test_without_a_lease_nothing_is_claimed_and_what_is_held_is_given_back(
    bench: Bench, make: Make
) -> None:
    bench.submit(3)
    assert len(bench.claim(NAME, 3)) == 3
    side = make(max_inputs=4, target_inputs=4)
    side.record.hold_until(lease_clock() - 1)
    side.claimer.start()
    wait_until(lambda: pending(bench) == 0, what="they are given back")
    side.record.hold_until(lease_clock() + 60 * 10**9)
    side.until(3)


def test_what_is_delivered_while_the_container_begins_to_end_is_given_back(
    bench: Bench, make: Make
) -> None:
    bench.submit(3)
    assert len(bench.claim(NAME, 3)) == 3
    side = make(max_inputs=4, target_inputs=4)
    side.record.tell(AgentCommand(draining=True))
    side.claimer.start()
    wait_until(lambda: side.ended, what="it has ended")
    assert not side.started
    assert pending(bench) == 0


def test_an_input_on_its_last_delivery_runs_alone(bench: Bench, make: Make) -> None:
    bench.submit(2)
    for number in range(2):
        assert len(bench.claim(f"ta-dead-{number}", 2)) == 2
        reclaim = bench.client.pools.reclaim
        bench.client.run(reclaim(bench.pool, f"ta-dead-{number}", reason="died", charged=["*"]))
    bench.submit(3)
    side = make(max_inputs=4, target_inputs=4)
    side.claimer.start()
    lost: list[list[int]] = []
    while sum(map(len, lost)) < 5:
        wait_until(lambda: side.running, what="something runs")
        lost.append([one.lost for one in side.running])
        for one in side.running:
            side.end(one)
    assert sorted(each for together in lost for each in together) == [0, 0, 0, 2, 2]
    assert [together for together in lost if 2 in together] == [[2], [2]]


def test_a_backlog_makes_a_full_batch_at_once(bench: Bench, make: Make) -> None:
    bench.submit(20)
    side = make(max_batch_size=8, wait_ms=60_000)
    side.claimer.start()
    side.until(8)
    assert [len(group) for group in side.started] == [8]
    assert pending(bench) == 8


def with_short_batches(make: Make) -> Side:
    """One whose batches have been short so far."""
    side = make(max_batch_size=4, wait_ms=60_000)
    for _ in range(20):
        side.claimer.room.take(1)
        side.claimer.room.ended(1, seconds=0.001)
        side.claimer.room.written(1)
    return side


def test_behind_a_short_batch_the_next_one_is_ready_when_it_has_ended(
    bench: Bench, make: Make
) -> None:
    bench.submit(8)
    side = with_short_batches(make)
    side.claimer.start()
    side.until(4)
    wait_until(lambda: side.claimer.handed, what="the next one is there")
    first = list(side.started[0])
    for one in first:
        side.end(one, groups=int(one is first[-1]))
    side.until(8)
    assert [len(group) for group in side.started] == [4, 4]


def test_behind_a_batch_that_takes_long_nothing_is_kept_from_others(
    bench: Bench, make: Make
) -> None:
    bench.submit(8)
    side = with_short_batches(make)
    side.claimer.start()
    side.until(4)
    found: list[int] = []

    def claimed_by_another() -> bool:
        found.extend(index_of(one) for one in bench.claim("ta-a-2", 8))
        return len(found) == 4

    wait_until(claimed_by_another, what="another container has the rest")
    assert [len(group) for group in side.started] == [4]


def with_short_inputs(make: Make) -> Side:
    """One whose inputs have been short so far."""
    side = make(max_inputs=8, target_inputs=8)
    for _ in range(20):
        side.claimer.room.take(1)
        side.claimer.room.ended(1, seconds=0.01)
        side.claimer.room.written(1)
    return side


def test_behind_short_inputs_the_next_ones_are_at_hand(bench: Bench, make: Make) -> None:
    bench.submit(20)
    side = with_short_inputs(make)
    side.claimer.start()
    side.until(8)
    wait_until(lambda: side.claimer.handed, what="one more is there")
    side.end(side.started[0][0])
    assert side.until(9) == list(range(9))


def test_behind_inputs_that_take_long_nothing_is_kept_from_others(bench: Bench, make: Make) -> None:
    bench.submit(10)
    side = with_short_inputs(make)
    side.claimer.start()
    side.until(8)
    found: list[int] = []

    def claimed_by_another() -> bool:
        found.extend(index_of(one) for one in bench.claim("ta-a-2", 10))
        return len(found) == 2

    wait_until(claimed_by_another, what="another container has the rest")
    assert sorted(side.indexes) == list(range(8))


def test_a_batch_is_not_waited_for_longer_than_wait_ms(bench: Bench, make: Make) -> None:
    bench.submit(2)
    side = make(max_batch_size=8, wait_ms=200)
    begin = time.monotonic()
    side.claimer.start()
    side.until(2)
    assert time.monotonic() - begin >= 0.2
    assert [len(group) for group in side.started] == [2]


def test_what_comes_in_the_meantime_joins_the_batch(bench: Bench, make: Make) -> None:
    side = make(max_batch_size=3, wait_ms=60_000)
    side.claimer.start()
    for _ in range(3):
        bench.submit(1)
        wait_until(lambda: bench.ask(b"PING"), what="it is there")
    side.until(3)
    assert [len(group) for group in side.started] == [3]
