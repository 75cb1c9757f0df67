"""A pool that was put away, or that nobody knows, has a lifetime whatever comes for it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from qmodal.client.client import Client
from qmodal.transport.operation import Command
from qmodal.wire.ids import shard_of
from tests.support.store.bench import Bench
from tests.support.store.cases import CASES, WORKER
from tests.support.store.pack_cases import PACK_CASES

Case = Callable[[Bench], Command]


@pytest.fixture
def made(bench: Bench) -> Iterator[Bench]:
    yield bench
    bench.client.run(bench.client.fleet.retire(WORKER))
    bench.open()


def put_away(bench: Bench) -> None:
    """End everything in the pool, and make it inactive."""
    bench.client.run(bench.client.pools.purge(bench.pool, reason="over"))
    for consumer in bench.consumers():
        bench.client.run(
            bench.client.pools.reclaim(bench.pool, consumer, reason="over", charged=())
        )
    assert bench.client.run(bench.client.pools.leave(bench.pool))


def assert_will_go(bench: Bench) -> None:
    """The pool's record has a lifetime, if there is one, or somebody still has to put it away."""
    keys = bench.client.keys
    is_active = bench.ask(b"ZSCORE", keys.active(shard_of(bench.pool)), bench.pool) is not None
    assert (bench.left(keys.pool(bench.pool)) != -1) is not is_active


@pytest.mark.parametrize("case", [*CASES, *PACK_CASES], ids=lambda case: case.__name__)
def test_what_comes_too_late_for_a_pool_does_not_make_it_stay(made: Bench, case: Case) -> None:
    command = case(made)
    put_away(made)
    made.ask(*command)
    assert_will_go(made)


@pytest.mark.parametrize("case", [*CASES, *PACK_CASES], ids=lambda case: case.__name__)
def test_nothing_begins_the_record_of_a_pool_that_the_server_has_lost(
    made: Bench, case: Case
) -> None:
    """As after a restart that forgot the last second: workers and autoscaler still know the pool."""
    command = case(made)
    put_away(made)
    made.ask(b"DEL", made.client.keys.pool(made.pool))
    made.ask(*command)
    assert_will_go(made)


def test_what_is_learned_of_a_pool_stays_while_nothing_runs_and_is_dropped_after_30_days(
    client: Client, bench: Bench
) -> None:
    bench.submit()
    (claimed,) = bench.claim()
    bench.settle(claimed)
    client.run(client.observing.learned(bench.pool, start_time=7.5, service_time=0.25))
    put_away(bench)
    days = bench.left(client.keys.pool(bench.pool)) / 86_400_000
    assert 29.9 < days <= 30
    bench.submit()
    (seen,) = client.run(client.observing.observe([bench.pool]))
    assert seen is not None
    assert (seen.start_time, seen.service_time) == (7.5, 0.25)


def test_what_is_learned_of_a_lost_pool_is_not_kept(client: Client, bench: Bench) -> None:
    """These were written without a look at the record, and stayed for ever."""
    bench.ask(b"DEL", client.keys.pool(bench.pool))
    client.run(client.observing.learned(bench.pool, start_time=1.0, service_time=0.5))
    client.run(client.observing.serve(bench.pool, is_served=True))
    bench.ask(*client.pools.learn_command(bench.pool, 0.5))
    assert not bench.ask(b"EXISTS", client.keys.pool(bench.pool))
    bench.open()


def test_a_foreign_group_of_readers_does_not_hide_ours(client: Client, bench: Bench) -> None:
    bench.submit()
    (claimed,) = bench.claim()
    bench.settle(claimed)
    inputs = client.keys.inputs(bench.pool)
    bench.ask(b"XGROUP", b"CREATE", inputs, b"a stranger's", b"0")
    assert not client.run(client.pools.leave(bench.pool)), "ta-a-1 still reads"
    reply = bench.ask(*client.pools.sharing_command(bench.pool))
    assert client.pools.parse_sharing(reply) == 1
    bench.claim("ta-a-2")
    reply = bench.ask(*client.pools.sharing_command(bench.pool))
    assert client.pools.parse_sharing(reply) == 2
