"""Cancel, leave and join, alone: an end reaches everything, and nothing but what it means."""

from __future__ import annotations

import pytest

from qmodal.client.client import Client
from qmodal.store.keys import GROUP
from qmodal.transport.operation import Exchange
from qmodal.wire.ids import pool_id, shard_of
from tests.model.model import command_of
from tests.support.store.bench import Bench


def test_cancel_reaches_every_place_where_an_input_can_be(bench: Bench) -> None:
    call = bench.submit(130, total=None)
    bench.submit(3, call=call, first=130, total=133)
    bystander = bench.submit()
    delayed, released, running = bench.claim(count=3)
    pools, calls = bench.client.pools, bench.client.calls
    bench.client.run(pools.retry(bench.pool, delayed, delay=0.001))
    bench.client.run(pools.release(bench.pool, [(released.lane, released.entry, call)]))
    assert bench.client.run(calls.cancel(call)) == [("ta-a-1", running.entry)]
    assert bench.client.run(calls.cancel(call)) == []
    while bench.client.run(pools.promote(bench.pool))[0] == 0:
        continue
    assert bench.settle(running) == [1, 0]
    assert bench.outputs(call) == [(-1, b"x", b"cancelled")]
    assert bench.left(bench.client.keys.moved(call)) == -2
    assert [one.call for one in bench.claim("ta-a-2", count=50)] == [bystander]


def test_what_containers_hold_can_be_spared(bench: Bench) -> None:
    call = bench.submit(3)
    (running,) = bench.claim()
    assert bench.client.run(bench.client.calls.cancel(call, spare=True)) == []
    assert bench.inflight() == 1
    assert bench.settle(running) == [0, 1]
    assert bench.outputs(call) == [(-1, b"x", b"cancelled")]


def test_inputs_of_other_calls_stand_between_those_of_a_cancelled_one(bench: Bench) -> None:
    call = bench.submit(1, total=None)
    bystanders = [bench.submit() for _ in range(600)]
    bench.submit(1, call=call, first=1, total=2)
    bench.client.run(bench.client.calls.cancel(call))
    assert [one.call for one in bench.claim(count=700)] == bystanders


def test_a_cancelled_call_takes_no_more_inputs(bench: Bench) -> None:
    call = bench.submit(1, total=None)
    bench.client.run(bench.client.calls.cancel(call))
    bench.submit(1, call=call, first=1)
    assert bench.claim(count=5) == []
    assert bench.left(bench.client.keys.call(call)) > 0


def test_a_cancel_that_was_broken_off_goes_on_when_repeated(bench: Bench) -> None:
    call = bench.submit(250, total=None)
    bench.submit(3, call=call, first=250)
    op = bench.client.calls.cancel(call)
    request = next(op)
    for _ in range(3):  # record, range, and the first run of the walk
        assert isinstance(request, Exchange)
        request = op.send(bench.line.exchange(request.commands))
    assert bench.record(call).state == "cancelled"
    assert bench.inflight() == 3
    bench.client.run(bench.client.calls.cancel(call))
    assert bench.inflight() == 0


@pytest.mark.parametrize("way", ["release", "retry", "reclaim"])
def test_nothing_comes_back_in_line_while_its_call_is_being_cancelled(
    bench: Bench, way: str
) -> None:
    call = bench.submit()
    (claimed,) = bench.claim()
    bench.ask(b"HSET", bench.client.keys.call(call), b"state", b"cancelled")
    bench.ask(b"PEXPIRE", bench.client.keys.call(call), 1000)
    pools, pool = bench.client.pools, bench.pool
    match way:
        case "release":
            bench.client.run(pools.release(pool, [(claimed.lane, claimed.entry, call)]))
        case "retry":
            bench.client.run(pools.retry(pool, claimed, delay=0))
        case _:
            bench.client.run(pools.reclaim(pool, "ta-a-1", reason="gone", charged=["*"]))
    assert bench.claim("ta-a-2") == []
    assert bench.inflight() == 0


def twins(bench: Bench) -> tuple[str, str]:
    """A call with an entry in each stream, both of one id: within a millisecond that happens."""
    keys = bench.client.keys
    for _ in range(1000):
        call = bench.submit(1, total=None)
        (claimed,) = bench.claim()
        held = [(claimed.lane, claimed.entry, call)]
        release = command_of(bench.client.pools.release(bench.pool, held))
        chunk = bench.submission(1, call=call, first=1, total=2)
        bench.line.exchange([release, *bench.client.calls.submit_commands(chunk)])
        (moved,) = bench.ask(b"SMEMBERS", keys.moved(call))
        if bench.ask(b"XRANGE", keys.inputs(bench.pool), moved, moved):
            return call, moved.decode()
        bench.client.run(bench.client.calls.cancel(call))
    pytest.fail("the ids were never equal")


@pytest.mark.parametrize("way", ["settle", "retry", "release", "reclaim", "bury"])
def test_entries_of_both_streams_with_one_id_are_kept_apart(bench: Bench, way: str) -> None:
    """Else cancel would not find the other one, which would run."""
    call, entry = twins(bench)
    keys, pools, pool = bench.client.keys, bench.client.pools, bench.pool
    read = (b"XREADGROUP", b"GROUP", GROUP, b"ta-b-1", b"STREAMS", keys.inputs(pool), b">")
    (claimed,) = pools.parse_claim(pool, bench.ask(*read))
    assert (claimed.lane, claimed.entry) == (1, entry)
    match way:
        case "settle":
            bench.settle(claimed)
        case "retry":
            bench.client.run(pools.retry(pool, claimed, delay=0))
        case "release":
            bench.client.run(pools.release(pool, [(1, entry, call)]))
        case "reclaim":
            bench.client.run(pools.reclaim(pool, "ta-b-1", reason="gone", charged=()))
        case _:
            bench.client.run(pools.bury(pool, claimed, reason="bad"))
    assert entry.encode() in bench.ask(b"SMEMBERS", keys.moved(call))


def test_cancel_finds_both_of_two_entries_with_one_id(bench: Bench) -> None:
    call, _ = twins(bench)
    bench.client.run(bench.client.calls.cancel(call))
    assert bench.inflight() == 0
    assert bench.claim(count=5) == []


def test_a_finished_call_cannot_be_cancelled(bench: Bench) -> None:
    call = bench.submit()
    bench.settle(*bench.claim())
    assert bench.client.run(bench.client.calls.cancel(call)) == []
    assert bench.record(call).state == "open"
    assert bench.outputs(call) == [(0, b"o", b"done")]


def test_a_pool_in_use_does_not_leave(bench: Bench) -> None:
    pools, pool = bench.client.pools, bench.pool
    bench.submit()
    assert not bench.client.run(pools.leave(pool)), "left with an input queued"
    (claimed,) = bench.claim()
    bench.settle(claimed)
    assert not bench.client.run(pools.leave(pool)), "left with a reader"
    bench.client.run(pools.reclaim(pool, "ta-a-1", reason="gone", charged=()))
    assert bench.client.run(pools.leave(pool))
    keys = bench.client.keys
    assert bench.ask(b"EXISTS", keys.inputs(pool), keys.again(pool)) == 0
    assert bench.ask(b"ZSCORE", keys.active(shard_of(pool)), pool) is None
    assert bench.left(keys.pool(pool)) > 0


def test_ids_go_on_where_a_pool_that_left_had_stopped(bench: Bench) -> None:
    """A repeated settle must not meet somebody else's entry of the same id."""
    keys, pools, pool = bench.client.keys, bench.client.pools, bench.pool
    bench.client.run(pools.join(pool))
    late = b"%d-7" % (int(bench.ask(b"TIME")[0]) * 1000 + 60_000)  # the clock is set back then
    for stream in (keys.inputs(pool), keys.again(pool)):
        bench.ask(b"XADD", stream, late, b"a", b"b")
        bench.ask(b"XDEL", stream, late)
    for _ in range(2):
        assert bench.client.run(pools.leave(pool))
    bench.submit()
    (first,) = bench.claim()
    assert first.entry == late.decode().replace("-7", "-8")
    bench.client.run(pools.retry(pool, first, delay=0))
    (again,) = bench.claim()
    assert (again.lane, again.entry) == (2, first.entry)


def test_join_mends_a_pool_whose_streams_were_deleted(bench: Bench, client: Client) -> None:
    deleted = bench.submit()
    bench.ask(b"DEL", client.keys.inputs(bench.pool))
    client.run(client.calls.cancel(deleted))
    bench.submit()
    assert client.run(client.pools.join(bench.pool))
    assert len(bench.claim(count=5)) == 1
    assert not client.run(client.pools.join(pool_id("ap-x", "unknown", b"")))
