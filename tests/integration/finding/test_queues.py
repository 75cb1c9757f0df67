"""What stands in a pool's streams: held, in line or put off; and a purge that spares what is held."""

from __future__ import annotations

from collections import Counter

from qmodal.store.results.outputs import CallRecord
from qmodal.store.watch.observing import QueuedEntry
from qmodal.transport.operation import ask_one
from tests.support.store.bench import Bench


def queue(bench: Bench, count: int = 100) -> list[QueuedEntry]:
    return bench.client.run(bench.client.observing.queue(bench.pool, count=count))


def test_entries_are_held_in_line_or_put_off(bench: Bench) -> None:
    call = bench.submit(5)
    first, second = bench.claim(count=2)
    bench.client.run(bench.client.pools.retry(bench.pool, second, delay=600.0))
    bench.client.run(bench.client.pools.release(bench.pool, [(first.lane, first.entry, call)]))
    third, fourth = bench.claim("ta-b-1")  # one of each stream
    places = {each.claimed.first: each for each in queue(bench)}
    assert {index: each.place for index, each in places.items()} == {
        0: "running",  # what was given back comes first
        1: "delayed",
        2: "running",
        3: "waiting",
        4: "waiting",
    }
    assert (third.first, fourth.first) == (0, 2)
    assert (places[0].container, places[0].deliveries) == ("ta-b-1", 1)
    assert (places[1].claimed.retries, places[1].claimed.call) == (1, call)
    assert places[1].since > places[3].since


def test_of_each_place_as_many_are_read_as_are_asked_for(bench: Bench) -> None:
    bench.submit(10)
    bench.claim(count=5)
    found = queue(bench, count=2)
    assert Counter(each.place for each in found) == {"running": 2, "waiting": 2}


def test_what_nobody_of_ours_wrote_is_left_out(bench: Bench) -> None:
    bench.submit()
    keys = bench.client.keys
    bench.ask(b"XADD", keys.inputs(bench.pool), b"*", b"what", b"ever")
    bench.ask(b"ZADD", keys.delayed(bench.pool), 5, b"\xc1")
    assert [each.place for each in queue(bench)] == ["waiting"]
    bench.client.run(ask_one(b"DEL", keys.delayed(bench.pool)))


def test_a_pool_that_is_not_active_has_no_entries(bench: Bench) -> None:
    assert queue(bench) == []


def test_a_purge_that_spares_leaves_what_containers_hold(bench: Bench) -> None:
    call = bench.submit(250)
    held = bench.claim(count=3)
    pools = bench.client.pools
    bench.client.run(pools.retry(bench.pool, held[2], delay=600.0))
    ended = bench.client.run(pools.purge(bench.pool, reason="stopped: over", spare=True))
    assert ended == 248
    assert [each.place for each in queue(bench)] == ["running", "running"]
    assert bench.settle(*held[:2]) == [0, 1, 1]
    assert len(bench.outputs(call)) == 250


def test_kept_calls_are_found_with_their_records(bench: Bench) -> None:
    calls = {bench.submit(), bench.submit(3)}
    kept = bench.client.kept_calls
    found = set(bench.client.run(kept.scan(most=10_000, seconds=30.0)))
    assert calls <= found
    records: dict[str, CallRecord] = bench.client.run(kept.records([*calls, "fc-00" + "A" * 20]))
    assert {call: record.submitted for call, record in records.items()}.keys() == calls
    assert sorted(record.submitted for record in records.values()) == [1, 3]
