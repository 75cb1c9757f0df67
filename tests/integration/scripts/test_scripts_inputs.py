"""Each script that moves inputs, alone: its guards, and what it does when they let it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qmodal.transport.operation import Op, ask_one
from tests.model.model import command_of
from tests.support.store.bench import Bench, index_of, state_of
from tests.support.store.driving import before_step
from tests.support.waiting import wait_until

ENTRY = (b"e", b"x", b"c", b"fc-00nobody", b"i", 0, b"r", 0, b"d", 0, b"n", 1)


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


def test_of_several_settled_at_once_those_count_that_are_still_held(bench: Bench) -> None:
    calls = [bench.submit(1) for _ in range(4)]
    first, stale, third, fourth = bench.claim(count=4)
    bench.client.run(
        bench.client.pools.release(bench.pool, [(stale.lane, stale.entry, stale.call)])
    )
    (again,) = bench.claim("ta-b-1")
    assert bench.settle(first, stale, third, first) == [2, 1, 0, 1, 0]
    assert [bench.outputs(call) for call in calls] == [
        [(0, b"o", b"done")],
        [],
        [(0, b"o", b"done")],
        [],
    ]
    assert bench.settle(third, stale) == [2, 0, 0]
    assert bench.settle(again, fourth) == [0, 1, 1]
    assert all(bench.outputs(call) == [(0, b"o", b"done")] for call in calls)
    assert not bench.ask(b"XLEN", bench.client.keys.inputs(bench.pool))


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
    # What is a dead letter now can be run again.
    kept = [bench.client.keys.kept_arguments(call, 0).encode()] if way == "bury" else []
    assert bench.ask(b"KEYS", f"*{call}*") == kept
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
    ops = [
        bench.client.pools.retry(bench.pool, claimed, delay=delay)
        for claimed, delay in zip(bench.claim(count=3), (3600, 0.1, 0.05), strict=True)
    ]
    bench.line.exchange([command_of(op) for op in ops])  # in one moment
    promoted, following = 0, None
    while promoted < 2:
        count, following = bench.client.run(bench.client.pools.promote(bench.pool))
        promoted += count
    assert following is not None
    assert 3590 < following <= 3600
    assert [index_of(one) for one in bench.claim(count=5)] == [2, 1]
    assert not bench.client.run(bench.client.pools.leave(bench.pool))


def due(bench: Bench) -> int:
    """How many retries wait although their time has come."""
    seconds, micros = map(int, bench.ask(b"TIME"))
    delayed = bench.client.keys.delayed(bench.pool)
    return int(bench.ask(b"ZCOUNT", delayed, b"-inf", seconds * 1000 + micros // 1000))


def test_more_retries_than_one_run_takes_are_promoted_by_the_next_ones(bench: Bench) -> None:
    bench.submit(250)
    for claimed in bench.claim(count=250):
        bench.client.run(bench.client.pools.retry(bench.pool, claimed, delay=0.001))
    wait_until(lambda: due(bench) == 250, what="all of them are due")
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
    assert bench.ask(*command_of(op)) == [100, 0, 0, []]
    assert bench.consumers() == {"ta-a-1"}


@pytest.mark.parametrize(
    "fields",
    [
        (b"hello", b"world"),
        (*ENTRY[:9], b"many", *ENTRY[10:]),
        (*ENTRY[:7], b"few", *ENTRY[8:]),
        (*ENTRY[:5], b"zero", *ENTRY[6:]),
        (*ENTRY[:5], b"1" + b"0" * 15, *ENTRY[6:]),
        (*ENTRY[:11], 0),
        (*ENTRY[:11], b"1.5"),
        (*ENTRY[:11], 1000),
        (b"x", b"y", *ENTRY[2:]),
        tuple(b"%d" % n for n in range(400)),
    ],
    ids=[
        *("short", "bad deliveries", "bad retries", "bad index", "large index"),
        *("no inputs", "half inputs", "large pack", "other names", "long"),
    ],
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
        retry = pools.retry(pool, foreign._replace(fields=ours.fields), delay=0)
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


def test_what_a_marked_container_may_have_started_never_comes_back(bench: Bench) -> None:
    call = bench.submit(3)
    assert bench.ask(*bench.client.pools.mark_command(bench.pool, "ta-a-1")) == 1
    first, _, _ = bench.claim(count=3)
    charged = [f"{first.lane} {first.entry}"]
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=charged)
    assert bench.client.run(op) == (2, 1)
    assert bench.outputs(call) == [(0, b"x", b"gone")]
    assert [one.lost for one in bench.claim("ta-a-2", count=3)] == [0, 0]
    assert not bench.ask(b"HEXISTS", bench.client.keys.pool(bench.pool), b"once:ta-a-1")


def test_a_mark_is_kept_until_all_of_a_container_was_reclaimed(bench: Bench) -> None:
    call = bench.submit(250)
    bench.ask(*bench.client.pools.mark_command(bench.pool, "ta-a-1"))
    assert len(bench.claim(count=250)) == 250
    op = bench.client.pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=["*"])
    assert bench.client.run(op) == (0, 250)
    assert len(bench.outputs(call)) == 250


def test_a_mark_does_not_bring_a_forgotten_pool_back(bench: Bench) -> None:
    key = bench.client.keys.pool(bench.pool)
    bench.ask(b"DEL", key)
    assert bench.ask(*bench.client.pools.mark_command(bench.pool, "ta-a-1")) == 0
    assert not bench.ask(b"EXISTS", key)
    bench.open()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_what_is_submitted_while_a_purge_runs_stays(bench: Bench, step: int) -> None:
    bench.submit(250)
    purge = bench.client.pools.purge(bench.pool, reason="it cannot start")
    assert bench.client.run(before_step(purge, step, lambda: bench.submit(2))) == 250
    assert bench.inflight() == 2


def test_a_purge_ends_when_it_is_not_due_any_more(bench: Bench) -> None:
    bench.submit(250)
    due = iter([True, False])

    def is_due() -> Op[bool]:
        yield from ask_one(b"PING")
        return next(due)

    purge = bench.client.pools.purge(bench.pool, reason="it cannot start", is_due=is_due)
    assert bench.client.run(purge) == 100
    assert bench.inflight() == 150
