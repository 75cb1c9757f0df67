"""Arguments of failed inputs that are stored apart: kept for repeating them, never more than the bound."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from qmodal.client.client import Client
from qmodal.store.entries import Claimed, Settled
from qmodal.store.pools import Pools
from qmodal.wire.ids import new_app_id, shard_of
from tests.support.store.bench import Bench

DAY_MS = 24 * 3600 * 1000
SIZE = 50_000
MOST = 4 * SIZE + 1
LARGE = b"x" * SIZE
End = Callable[[Pools, Bench, Claimed], object]


class Failing:
    """A pool of an app of its own, whose failed inputs may keep so many bytes of arguments."""

    def __init__(self, bench: Bench, most: int = MOST) -> None:
        self.bench = bench
        self.client: Client = bench.client
        self.pools = Pools(bench.client.keys, most)
        self.app = new_app_id()
        self.open(self.app)

    def open(self, app: str) -> None:
        self.client.run(
            self.pools.open(self.bench.pool, spec=b"spec", app=app, function="f", label="f()")
        )

    @property
    def listed(self) -> str:
        return self.client.keys.arguments(shard_of(self.bench.pool), self.app)

    def claimed(self, payload: bytes = LARGE) -> Claimed:
        call = self.bench.submit(blobs=[(0, payload)])
        (one,) = self.bench.claim("ta-a-1")
        assert one.call == call
        return one

    def fail(self, payload: bytes = LARGE) -> str:
        """The call of an input that has failed."""
        one = self.claimed(payload)
        settle(self.pools, self.bench, one)
        return one.call

    def stored(self, *calls: str) -> list[bool]:
        """Of which of these calls arguments are stored."""
        return [bool(self.client.run(self.client.kept_arguments.read(each, 0))) for each in calls]


def settle(pools: Pools, bench: Bench, one: Claimed, *, keeps: bool = True) -> None:
    settled = Settled(one.lane, one.entry, one.call, 0, b"o", True, keeps_arguments=keeps)
    assert bench.ask(*pools.settle_command(bench.pool, [settled]))[1] == 1


def bury(pools: Pools, bench: Bench, one: Claimed) -> None:
    assert bench.client.run(pools.bury(bench.pool, one, reason="unprocessable: odd"))


def lose(pools: Pools, bench: Bench, one: Claimed) -> None:
    gone = pools.reclaim(bench.pool, "ta-a-1", reason="oom", charged=["*"], budget=1)
    assert bench.client.run(gone) == (0, 1)


@pytest.fixture
def failing(bench: Bench) -> Failing:
    return Failing(bench)


@pytest.mark.parametrize(("end", "days"), [(settle, 7), (bury, 30), (lose, 30)])
def test_arguments_of_an_input_that_failed_for_good_stay_as_long_as_what_tells_of_it(
    failing: Failing, end: End, days: int
) -> None:
    one, bench = failing.claimed(), failing.bench
    end(failing.pools, bench, one)
    kept = failing.client.keys.kept_arguments(one.call, 0)
    assert failing.client.run(failing.client.kept_arguments.read(one.call, 0)) == [LARGE]
    assert (days - 1) * DAY_MS < bench.left(kept) <= days * DAY_MS
    assert bench.left(failing.listed) > 29 * DAY_MS
    bench.ask(*failing.client.calls.forget_command(one.call))  # its caller has the exception
    assert failing.stored(one.call) == [True]


def test_arguments_of_an_input_that_ended_well_or_was_cancelled_go(failing: Failing) -> None:
    one = failing.claimed()
    settle(failing.pools, failing.bench, one, keeps=False)
    cancelled = failing.bench.submit(blobs=[(0, LARGE)])
    failing.client.run(failing.client.calls.cancel(cancelled))
    purged = failing.bench.submit(blobs=[(0, LARGE)])
    assert failing.client.run(failing.pools.purge(failing.bench.pool, reason="over")) == 1
    assert failing.stored(one.call, cancelled, purged) == [False] * 3
    assert failing.bench.left(failing.listed) == -2


@pytest.mark.parametrize("end", [settle, bury, lose])
def test_a_storm_of_failures_keeps_the_latest_within_the_bound(failing: Failing, end: End) -> None:
    calls = []
    for _ in range(20):
        one = failing.claimed()
        end(failing.pools, failing.bench, one)
        calls.append(one.call)
        stored = failing.stored(*calls)
        assert stored == [False] * (len(calls) - 4) + [True] * min(4, len(calls))
    assert failing.bench.ask(b"ZCARD", failing.listed) == 4


def test_large_arguments_take_the_room_of_several_small_ones(failing: Failing) -> None:
    first, second, third = failing.fail(), failing.fail(), failing.fail()
    double = failing.fail(LARGE * 2)
    assert failing.stored(first, second, third, double) == [False, True, True, True]
    assert failing.stored(failing.fail(LARGE * 5), second) == [False, True], "it can never fit"


def test_nothing_is_kept_where_the_bound_is_zero(bench: Bench) -> None:
    failing = Failing(bench, most=0)
    assert failing.stored(failing.fail()) == [False]
    assert bench.left(failing.listed) == -2


def test_apps_do_not_displace_each_other(failing: Failing) -> None:
    mine = failing.fail()
    failing.open(new_app_id())
    others = [failing.fail() for _ in range(5)]
    assert failing.stored(mine, *others) == [True, False, True, True, True, True]


def test_a_call_whose_id_is_used_again_gets_its_own_arguments(failing: Failing) -> None:
    """As that of a map with `resume`, whose record is gone: its arguments may be others then."""
    call = failing.fail()
    failing.bench.ask(*failing.client.calls.forget_command(call))
    failing.bench.submit(call=call, blobs=[(0, b"other")])
    assert failing.client.run(failing.client.calls.input_blob(call, 0)) == b"other"
    (one,) = failing.bench.claim()
    settle(failing.pools, failing.bench, one)
    assert failing.client.run(failing.client.kept_arguments.read(call, 0)) == [b"other"]


@pytest.mark.parametrize(
    "foreign",
    [
        (b"SET", b"text"),
        (b"ZADD", b"5", b""),
        (b"ZADD", b"-inf", b"call:x"),
        (b"ZADD", b"+inf", b"pool:x 9"),
        (b"ZADD", b"1e300", b"\xff call:fc-00x:failed:0"),
    ],
    ids=str,
)
def test_what_somebody_else_writes_stops_no_settle(
    failing: Failing, foreign: tuple[bytes, ...]
) -> None:
    verb, *rest = foreign
    failing.bench.ask(verb, failing.listed, *rest)
    failing.bench.ask(b"EXPIRE", failing.listed, 60)
    assert len(failing.stored(*(failing.fail() for _ in range(6)))) == 6
    assert failing.bench.inflight() == 0


def test_of_inputs_whose_containers_do_not_start_the_noted_ones_keep_arguments(
    bench: Bench,
) -> None:
    failing = Failing(bench, most=100 * SIZE)
    calls = [bench.submit(blobs=[(0, LARGE)]) for _ in range(22)]
    ending = failing.pools.purge(bench.pool, reason="init: ImportError: no such module")
    assert failing.client.run(ending) == 22
    assert failing.stored(*calls) == [True] * 20 + [False] * 2


def test_a_dead_letter_that_is_dropped_takes_its_arguments_along(failing: Failing) -> None:
    one = failing.claimed()
    lose(failing.pools, failing.bench, one)
    letters = failing.client.run(failing.client.dead_letters.recent())
    (letter,) = [each for each in letters if each.claimed.call == one.call]
    assert failing.stored(one.call) == [True]
    assert failing.client.run(failing.client.dead_letters.drop(letter))
    assert failing.stored(one.call) == [False]


def test_what_is_kept_of_an_app_can_be_dropped_as_a_whole(failing: Failing) -> None:
    calls = [failing.fail() for _ in range(3)]
    dropping = failing.client.kept_arguments.drop(failing.app, shard_of(failing.bench.pool))
    assert failing.client.run(dropping) == 3
    assert failing.stored(*calls) == [False] * 3
    assert failing.bench.left(failing.listed) == -2
