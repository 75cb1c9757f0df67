"""A container whose loop claims and settles by itself, and when its threads go on instead."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from qmodal.spec.options import FunctionOptions
from qmodal.store.entries import Claimed, Settled
from qmodal.store.keys import GROUP
from qmodal.transport.connection import Connection
from qmodal_workers.container.concurrent.claimer import Claimer
from qmodal_workers.container.concurrent.loop_claims import LoopClaims
from qmodal_workers.container.concurrent.room import Room
from qmodal_workers.container.concurrent.settling.settle_connection import SettleConnection
from qmodal_workers.container.intake.claim_connection import ClaimConnection
from qmodal_workers.container.run.attempt import Attempt
from qmodal_workers.ipc.shared_record import SharedRecord, lease_clock
from tests.support.attempts import attempt_of
from tests.support.store.bench import Bench, index_of
from tests.support.waiting import wait_until

NAME = "ta-a-1"


@dataclass
class LoopSide:
    """A container with a loop in a thread; what it starts runs until a test ends it."""

    bench: Bench
    record: SharedRecord = field(default_factory=SharedRecord.create)
    started: list[Claimed] = field(default_factory=list)
    running: int = 0
    slow: set[int] = field(default_factory=set)  # indexes that the loop cannot admit
    by_thread: list[int] = field(default_factory=list)
    elsewhere: list[int] = field(default_factory=list)  # of outcomes that were settled elsewhere
    written: list[int] = field(default_factory=list)
    is_stopped: bool = False
    ended: list[BaseException | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.claims = ClaimConnection(self.bench.client, self.bench.pool, NAME, most_held=4096)
        self.room = Room(FunctionOptions(max_inputs=8, target_inputs=8))
        self.settles = SettleConnection(
            self.bench.client, self.bench.pool, lambda rows, _: self.free(rows), self.settle_again
        )
        self.claimer = Claimer(
            claims=self.claims,
            record=self.record,
            room=self.room,
            wait_ms=0,
            admit=self.admit_slowly,
            start_soon=lambda number: self.soon(self.start, number),
            release=self.release,
            goes_on=lambda: not self.is_stopped,
            on_end=self.ended.append,
        )
        self.by_loop = self.claimer.by_loop = LoopClaims(
            claimer=self.claimer,
            claims=self.claims,
            settles=self.settles,
            loop=self.loop,
            admit=lambda one: None if index_of(one) in self.slow else attempt_of(one),
            start=self.start,
            give_back=self.release,
            on_settled=self.free,
        )
        self.thread.start()
        self.claimer.start()

    def soon(self, call: Callable[..., object], *args: object) -> None:
        """Have the loop do it."""
        self.loop.call_soon_threadsafe(call, *args)

    def admit_slowly(self, claimed: Claimed) -> Attempt:
        """As the claimer's thread does."""
        self.by_thread.append(index_of(claimed))
        return attempt_of(claimed)

    def start(self, number: int = 0) -> None:
        """By the loop: as far as there is room."""
        while self.running < self.room.most and (handed := self.claimer.take()) is not None:
            self.running += 1
            self.started += [each.claimed for each in handed.attempts]
        self.claimer.looked(number)

    def release(self, claimed: Sequence[Claimed]) -> None:
        """Give them back."""
        bench, held = self.bench, [(one.lane, one.entry, one.call) for one in claimed]
        bench.client.run(bench.client.pools.release(bench.pool, held))

    def end(self, *claimed: Claimed) -> None:
        """These end, in one round of the loop."""
        self.soon(self._end, claimed)

    def _end(self, claimed: Sequence[Claimed]) -> None:
        settled = [
            Settled(one.lane, one.entry, one.call, index_of(one), b"done", False) for one in claimed
        ]
        rows = [self.started.index(one) for one in claimed]
        self.running -= len(claimed)
        self.room.ended(len(claimed), len(claimed))
        self.start()
        if not self.by_loop.settle(settled, rows):
            self.settle_again(settled, rows)
        self.by_loop.ask()

    def settle_again(self, settled: Sequence[Settled], rows: list[int]) -> None:
        """As the settler does."""
        self.claims.settle(settled)
        self.elsewhere += [each.index for each in settled]
        self.free(rows)

    def free(self, rows: list[int]) -> None:
        """What stood in these rows is written."""
        for row in rows:
            self.claimer.held.discard(self.started[row][:2])
        self.written += rows
        self.room.written(len(rows))

    @property
    def is_turn(self) -> bool:
        """Whether the loop claims."""
        return self.by_loop._is_turn

    def until(self, count: int) -> list[Claimed]:
        """What was started, once that is so much."""
        wait_until(lambda: len(self.started) >= count, what=f"{count} have started")
        return list(self.started)

    def until_written(self, count: int) -> None:
        """Wait until so many outcomes are written."""
        wait_until(lambda: len(self.written) >= count, what=f"{count} are settled")

    def stop(self) -> None:
        """No more is claimed, and all is written."""
        self.is_stopped = True
        self.room.close()
        self.claims.end_wait()
        wait_until(lambda: self.ended, what="the claimer ends")
        self.soon(self.loop.stop)
        self.thread.join()
        self.by_loop.finish()
        self.settles.finish()
        self.loop.run_until_complete(asyncio.sleep(0))  # it watches nothing any more
        self.loop.close()
        self.claims.close()
        self.record.close()


@pytest.fixture
def side(bench: Bench) -> Iterator[LoopSide]:
    made = LoopSide(bench)
    yield made
    made.stop()
    assert made.ended == [None]


def pending(bench: Bench) -> int:
    """How many entries containers hold."""
    keys = bench.client.keys
    lanes = (keys.inputs(bench.pool), keys.again(bench.pool))
    return sum(bench.ask(b"XPENDING", lane, GROUP)[0] for lane in lanes)


class Blocked:
    """User code that keeps the loop within the block."""

    def __init__(self, side: LoopSide) -> None:
        self._side = side
        self._is_over, self._has_begun = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        self._side.soon(self._block)
        assert self._has_begun.wait(60)

    def _block(self) -> None:
        self._has_begun.set()
        self._is_over.wait()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()


def test_the_loop_claims_and_settles_while_the_thread_waits(bench: Bench, side: LoopSide) -> None:
    for number in range(5):
        call = bench.submit(1)
        one = side.until(number + 1)[-1]
        side.end(one)
        side.until_written(number + 1)
        assert len(bench.outputs(call)) == 1
    assert not side.by_thread
    assert not side.elsewhere
    assert pending(bench) == 0


def test_many_that_end_at_once_are_settled_beside_the_claim_that_waits(
    bench: Bench, side: LoopSide
) -> None:
    call = bench.submit(20)
    side.end(*side.until(8)[:8])
    side.end(*side.until(16)[8:16])
    side.end(*side.until(20)[16:])
    side.until_written(20)
    assert len(bench.outputs(call)) == 20
    assert [index_of(one) for one in side.started] == list(range(20))
    assert not side.elsewhere


def test_what_comes_while_user_code_keeps_the_loop_is_given_back(
    bench: Bench, side: LoopSide
) -> None:
    wait_until(lambda: side.is_turn and side.claims.is_asked, what="the loop claims")
    with Blocked(side):
        bench.submit(1)
        found: list[Claimed] = []

        def claimed_by_another() -> bool:
            found.extend(bench.claim("ta-a-2", 1))
            return bool(found)

        wait_until(claimed_by_another, what="another container has it")
        assert not side.started
    bench.submit(1)
    side.until(1)
    wait_until(lambda: side.is_turn, what="the loop claims again")
    bench.settle(*found)


def test_an_input_that_needs_a_wait_is_admitted_by_the_thread(bench: Bench, side: LoopSide) -> None:
    side.slow.add(1)
    bench.submit(3)
    assert {index_of(one) for one in side.until(3)} == {0, 1, 2}
    assert 1 in side.by_thread
    assert 0 not in side.by_thread
    wait_until(lambda: side.is_turn, what="the loop claims again")


def test_a_cut_claim_loses_no_outcome_and_starts_nothing_twice(
    bench: Bench, side: LoopSide
) -> None:
    for number in range(5):
        call = bench.submit(1)
        one = side.until(number + 1)[-1]
        bench.ask(b"CLIENT", b"KILL", b"ID", side.claims.client_id)
        side.end(one)
        side.until_written(number + 1)
        assert len(bench.outputs(call)) == 1
    assert len({one[:2] for one in side.started}) == len(side.started) == 5


def test_outcomes_of_a_cut_connection_are_settled_elsewhere(bench: Bench, side: LoopSide) -> None:
    call = bench.submit(8)
    first = side.until(8)
    connection: Connection | None = side.settles._connection
    assert connection is not None
    connection.shut()
    side.end(*first)
    side.until_written(8)
    assert len(bench.outputs(call)) == 8
    bench.submit(1)
    side.until(9)
    wait_until(lambda: not side.settles.is_lost, what="it has connected again")


def test_without_a_lease_the_loop_claims_nothing(bench: Bench, side: LoopSide) -> None:
    wait_until(lambda: side.is_turn, what="the loop claims")
    side.record.hold_until(lease_clock() - 1)
    wait_until(lambda: not side.is_turn, what="it claims no more")
    bench.ask(b"CLIENT", b"KILL", b"ID", side.claims.client_id)
    bench.submit(3)
    wait_until(lambda: pending(bench) == 0, what="nothing is held")
    assert not side.started
    side.record.hold_until(lease_clock() + 60 * 10**9)
    side.until(3)
