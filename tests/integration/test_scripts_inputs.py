"""Each script that moves inputs, alone: its guards, and what it does when they let it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from qmodal.client import Client
from qmodal.exception import InternalFailure
from qmodal.store.calls import UnknownPoolError
from qmodal.store.exchange import Exchange
from qmodal.store.keys import GROUP, pool_id, shard_of
from tests.bench import Bench, index_of, state_of
from tests.walk import command_of

ENTRY = (b"e", b"x", b"c", b"fc-00nobody", b"i", 0, b"r", 0, b"d", 0, b"at", 1)


def test_a_repeated_submit_is_accepted_and_changes_nothing(bench: Bench) -> None:
    submission = bench.submission(3, blobs=[(0, b"big")])
    bench.client.run(bench.client.calls.submit(submission))
    before = state_of(bench.line, bench.client.settings.prefix)
    bench.client.run(bench.client.calls.submit(submission))
    assert state_of(bench.line, bench.client.settings.prefix) == before
    assert bench.inflight() == 3


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"digest": b"other"}, "another call has this id"),
        ({"first": 5, "total": 6}, "an earlier chunk"),
        ({"pool": pool_id("ap-x", "never opened", b"")}, None),
    ],
)
def test_what_does_not_fit_is_refused_and_writes_nothing(
    bench: Bench, changes: dict[str, Any], error: str | None
) -> None:
    call = bench.submit(1, total=None)
    before = state_of(bench.line, bench.client.settings.prefix)
    new = {"call": call, "first": 1} if error else {}
    wrong = bench.submission(1, **(new | changes))
    expected = InternalFailure if error else UnknownPoolError
    with pytest.raises(expected, match=error):
        bench.client.run(bench.client.calls.submit(wrong))
    assert state_of(bench.line, bench.client.settings.prefix) == before


def test_a_submit_whose_blob_is_missing_is_refused(bench: Bench) -> None:
    *_, submit = bench.client.calls.submit_commands(bench.submission(1, blobs=[(0, b"big")]))
    assert bench.ask(*submit) == b"BLOB"
    assert bench.inflight() == 0


def test_chunks_of_a_call_travel_in_order(bench: Bench) -> None:
    call = bench.submit(2, total=None)
    chunk = bench.submission(2, call=call, first=2, total=None)
    end = bench.submission(0, call=call, first=4, total=4)
    for submission in (chunk, chunk, end, end):
        bench.client.run(bench.client.calls.submit(submission))
    assert bench.record(call).submitted == 4
    assert bench.record(call).total == 4
    indexes = [int(one.fields[5]) for one in bench.claim(count=10)]
    assert indexes == [0, 1, 2, 3]


def test_a_call_without_inputs_has_a_lifetime_and_can_be_cancelled(bench: Bench) -> None:
    empty = bench.submit(0)
    assert bench.record(empty).is_finished
    assert bench.left(bench.client.keys.call(empty)) > 0
    waiting = bench.submit(0, total=None)
    bench.client.run(bench.client.calls.cancel(waiting))
    assert bench.record(waiting).state == "cancelled"


def test_a_blob_stays_until_its_input_ends(bench: Bench) -> None:
    submission = bench.submission(2, blobs=[(0, b"big"), (1, b"big too")])
    blob = bench.client.keys.blob(submission.call, 0)
    bench.client.run(bench.client.calls.submit(submission))
    assert bench.left(blob) == -1
    first, _ = bench.claim(count=2)
    bench.settle(first, has_blob=True)
    assert bench.left(blob) == -2
    bench.client.run(bench.client.calls.submit(submission))  # its reply was lost
    assert bench.left(blob) > 0, "a blob that came again after its input ended stays for ever"
    assert bench.left(bench.client.keys.blob(submission.call, 1)) == -1


def test_keys_of_a_call_have_a_lifetime_exactly_while_nothing_is_in_flight(bench: Bench) -> None:
    call = bench.submit(1, total=None)
    keys = (bench.client.keys.call(call), bench.client.keys.outputs(call))
    bench.settle(*bench.claim())
    assert all(0 < bench.left(key) <= 600_000 for key in keys)
    bench.submit(1, call=call, first=1)
    assert [bench.left(key) for key in keys] == [-1, -1]
    bench.settle(*bench.claim())
    assert all(bench.left(key) > 0 for key in keys)


def test_only_the_first_settle_of_an_entry_counts(bench: Bench) -> None:
    call = bench.submit()
    (claimed,) = bench.claim()
    assert bench.settle(claimed, outcome=b"first") == [0, 1]
    before = state_of(bench.line, bench.client.settings.prefix)
    assert bench.settle(claimed, outcome=b"second") == [0, 0]
    assert state_of(bench.line, bench.client.settings.prefix) == before
    assert bench.outputs(call) == [(0, b"o", b"first")]


def test_a_container_that_lost_its_input_cannot_settle_it(bench: Bench) -> None:
    call = bench.submit()
    (stale,) = bench.claim("ta-a-1")
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=["*"])
    assert bench.client.run(op) == (1, 0)
    (fresh,) = bench.claim("ta-a-2")
    assert (fresh.lane, fresh.lost) == (2, 1)
    assert bench.settle(stale, outcome=b"late") == [1, 0]
    assert bench.settle(fresh, outcome=b"good") == [0, 1]
    assert bench.outputs(call) == [(0, b"o", b"good")]


def test_several_inputs_of_several_calls_settle_in_one_script(bench: Bench) -> None:
    calls = [bench.submit(), bench.submit(2)]
    one, two, three = bench.claim(count=5)
    bench.settle(two)
    assert bench.settle(one, two, three) == [0, 1, 0, 1]
    assert [len(bench.outputs(call)) for call in calls] == [1, 2]


@pytest.mark.parametrize("way", ["settle", "retry", "delayed retry", "release", "reclaim", "bury"])
def test_an_input_whose_call_is_gone_ends_without_a_trace(bench: Bench, way: str) -> None:
    """Delivered and deleted, or lost with the server's data: nothing of it may come back."""
    call = bench.submit(blobs=[(0, b"big")])
    (claimed,) = bench.claim()
    bench.ask(*bench.client.calls.forget_command(call))
    pools, pool = bench.client.pools, bench.pool
    ops: dict[str, Callable[[], object]] = {
        "settle": lambda: bench.settle(claimed, has_blob=True),
        "retry": lambda: bench.client.run(pools.retry(pool, claimed, delay=0)),
        "delayed retry": lambda: bench.client.run(pools.retry(pool, claimed, delay=0.001)),
        "release": lambda: bench.client.run(
            pools.release(pool, [(claimed.lane, claimed.entry, call)])
        ),
        "reclaim": lambda: bench.client.run(
            pools.reclaim(pool, "ta-a-1", reason="gone", charged=())
        ),
        "bury": lambda: bench.client.run(pools.bury(pool, claimed, reason="unreadable")),
    }
    ops[way]()
    while way == "delayed retry" and bench.client.run(pools.promote(pool))[0] == 0:
        continue
    assert not bench.ask(b"KEYS", f"*{call}*")
    assert bench.claim() == []
    assert bench.inflight() == 0


def test_settle_of_a_pool_that_is_gone_does_not_bring_it_back(bench: Bench) -> None:
    bench.submit()
    (claimed,) = bench.claim()
    keys = bench.ask(b"KEYS", f"{bench.client.settings.prefix}:*pool*")
    bench.ask(b"DEL", *keys)
    assert bench.settle(claimed) == [0, 0]
    assert bench.left(bench.client.keys.pool(bench.pool)) == -2
    bench.open()
    bench.client.run(bench.client.pools.join(bench.pool))
    bench.client.run(bench.client.calls.cancel(claimed.call))


@pytest.mark.parametrize("delay", [0.0, 0.001])
def test_a_retry_counts_and_comes_before_what_was_never_tried(bench: Bench, delay: float) -> None:
    call = bench.submit(2)
    (first,) = bench.claim()
    bench.submit(200)
    assert bench.client.run(bench.client.pools.retry(bench.pool, first, delay=delay))
    assert not bench.client.run(bench.client.pools.retry(bench.pool, first, delay=delay))
    while delay and bench.client.run(bench.client.pools.promote(bench.pool))[0] == 0:
        continue
    again, *_ = bench.claim()
    assert (again.lane, again.retries, again.call) == (2, 1, call)
    assert again.envelope == first.envelope
    assert bench.inflight() == 202


def test_due_retries_are_promoted_in_the_order_of_their_times(bench: Bench) -> None:
    bench.submit(3)
    for claimed, delay in zip(bench.claim(count=3), (3600, 0.004, 0.002), strict=True):
        bench.client.run(bench.client.pools.retry(bench.pool, claimed, delay=delay))
    promoted, following = 0, None
    while promoted < 2:
        count, following = bench.client.run(bench.client.pools.promote(bench.pool))
        promoted += count
    assert following is not None
    assert 3590 < following <= 3600
    assert [index_of(one) for one in bench.claim(count=5)] == [2, 1]
    assert not bench.client.run(bench.client.pools.leave(bench.pool))


def test_more_retries_than_one_run_takes_are_promoted_by_the_next_ones(bench: Bench) -> None:
    bench.submit(250)
    for claimed in bench.claim(count=250):
        bench.client.run(bench.client.pools.retry(bench.pool, claimed, delay=0.001))
    counts = [bench.client.run(bench.client.pools.promote(bench.pool))[0] for _ in range(4)]
    assert counts == [100, 100, 50, 0]


def test_what_is_released_keeps_its_budget(bench: Bench) -> None:
    call = bench.submit(150)
    claimed = bench.claim(count=150)
    held = [(one.lane, one.entry, call) for one in claimed]
    assert bench.client.run(bench.client.pools.release(bench.pool, held)) == 150
    assert bench.client.run(bench.client.pools.release(bench.pool, held)) == 0
    again = bench.claim("ta-a-2", count=200)
    assert len(again) == 150
    assert {(one.lost, one.retries) for one in again} == {(0, 0)}


def test_only_started_inputs_are_charged_for_a_death(bench: Bench) -> None:
    bench.submit(3)
    started, *_ = bench.claim(count=3)
    op = bench.client.pools.reclaim(
        bench.pool, "ta-a-1", reason="gone", charged=[f"{started.lane} {started.entry}"]
    )
    assert bench.client.run(op) == (3, 0)
    assert [one.lost for one in bench.claim("ta-a-2", count=3)] == [1, 0, 0]


def test_an_input_that_kills_its_containers_ends_as_lost(bench: Bench) -> None:
    call = bench.submit(blobs=[(0, b"big")])
    ends = []
    for number in range(3):
        container = f"ta-a-{number}"
        bench.claim(container)
        op = bench.client.pools.reclaim(bench.pool, container, reason="oom", charged=["*"])
        ends.append(bench.client.run(op))
    assert ends == [(1, 0), (1, 0), (0, 1)]
    (output,) = bench.client.run(bench.client.calls.read(call, b"0", block=0))
    assert (output.index, output.note, output.signed) == (0, "oom", None)
    assert bench.record(call).is_finished
    assert bench.left(bench.client.keys.blob(call, 0)) == -2
    assert bench.left(bench.client.keys.moved(call)) == -2
    (dead,) = bench.dead()
    assert (dead[b"why"], dead[b"c"], dead[b"d"]) == (b"oom", call.encode(), b"3")
    assert bench.consumers() == set()


@pytest.mark.parametrize("count", [99, 100, 101, 1000])
def test_a_dead_container_gives_back_all_it_held_however_much(bench: Bench, count: int) -> None:
    for _ in range(count // 50):
        bench.submit(50)
    bench.submit(count % 50)
    assert len(bench.claim(count=2000)) == count
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=())
    assert bench.client.run(op) == (count, 0)
    assert bench.consumers() == set()
    assert bench.inflight() == count
    assert len(bench.claim("ta-a-2", count=2000)) == count


def test_one_run_of_reclaim_is_bounded_and_keeps_the_consumer(bench: Bench) -> None:
    bench.submit(150)
    bench.claim(count=150)
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=())
    assert bench.ask(*command_of(op)) == [100, 0, 0]
    assert bench.consumers() == {"ta-a-1"}


@pytest.mark.parametrize(
    "fields",
    [
        (b"hello", b"world"),
        (*ENTRY[:9], b"many", *ENTRY[10:]),
        (*ENTRY[:7], b"few", *ENTRY[8:]),
        (b"x", b"y", *ENTRY[2:]),
        tuple(b"%d" % n for n in range(400)),
    ],
    ids=["short", "bad deliveries", "bad retries", "other names", "long"],
)
@pytest.mark.parametrize("way", ["bury", "reclaim", "purge", "release"])
def test_what_others_wrote_into_a_stream_stops_no_script(
    bench: Bench, fields: tuple[Any, ...], way: str
) -> None:
    call = bench.submit()
    bench.ask(b"XADD", bench.client.keys.inputs(bench.pool), b"*", *fields)
    ours, foreign = bench.claim(count=2)
    pools, pool = bench.client.pools, bench.pool
    if way == "release":
        held = [(one.lane, one.entry, call) for one in (ours, foreign)]
        assert bench.client.run(pools.release(pool, held)) == 1
        retry = pools.retry(pool, replace(foreign, fields=ours.fields), delay=0)
        assert not bench.client.run(retry)
    elif way == "bury":
        assert bench.client.run(pools.bury(pool, foreign, reason="foreign"))
        assert not bench.client.run(pools.bury(pool, foreign, reason="foreign"))
    elif way == "purge":
        assert bench.client.run(pools.purge(pool, reason="over")) == 2
        return
    op = pools.reclaim(pool, "ta-a-1", reason="gone", charged=["*"])
    assert bench.client.run(op)[1] == 0
    (dead,) = bench.dead()
    assert dict(zip(fields[:2:2], fields[1:2:2], strict=True)).items() <= dead.items()
    assert bench.inflight() == 1
    (again,) = bench.claim("ta-a-2", count=5)
    assert again.call == call


def test_a_buried_input_tells_its_caller_why(bench: Bench) -> None:
    call = bench.submit(2)
    first, _ = bench.claim(count=2)
    assert bench.client.run(bench.client.pools.bury(bench.pool, first, reason="bad signature"))
    assert bench.outputs(call) == [(0, b"x", b"bad signature")]
    assert bench.inflight() == 1
    assert [dead[b"why"] for dead in bench.dead()] == [b"bad signature"]


def test_purge_ends_what_waits_runs_or_is_delayed(bench: Bench) -> None:
    call = bench.submit(250)
    delayed, released, *_ = bench.claim(count=10)
    pools = bench.client.pools
    bench.client.run(pools.retry(bench.pool, delayed, delay=3600))
    bench.client.run(pools.release(bench.pool, [(released.lane, released.entry, call)]))
    assert bench.client.run(pools.purge(bench.pool, reason="the app was stopped")) == 250
    assert {outcome for _, _, outcome in bench.outputs(call)} == {b"the app was stopped"}
    assert bench.record(call).is_finished
    assert bench.inflight() == 0


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


def test_a_cancelled_call_takes_no_more_inputs(bench: Bench) -> None:
    call = bench.submit(1, total=None)
    bench.client.run(bench.client.calls.cancel(call))
    bench.submit(1, call=call, first=1)
    assert bench.claim(count=5) == []
    assert bench.left(bench.client.keys.call(call)) > 0


def test_a_cancel_that_was_broken_off_goes_on_when_repeated(bench: Bench) -> None:
    call = bench.submit(3, total=None)
    bench.submit(3, call=call, first=3)
    op = bench.client.calls.cancel(call)
    request = next(op)
    for _ in range(3):  # record, ranges, and the walk of the first range
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


def test_claim_delivers_what_came_back_first(bench: Bench) -> None:
    bench.submit(2)
    (first,) = bench.claim()
    bench.client.run(bench.client.pools.retry(bench.pool, first, delay=0))
    assert [one.lane for one in bench.claim("ta-a-2")] == [2, 1]


def test_a_container_can_read_again_what_it_holds(bench: Bench) -> None:
    bench.submit(2)
    claimed = bench.claim(count=2)
    command = bench.client.pools.held_command(bench.pool, "ta-a-1")
    assert bench.client.pools.parse_claim(bench.pool, bench.ask(*command)) == claimed
