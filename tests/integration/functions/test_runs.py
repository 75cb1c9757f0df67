"""Inputs that came one by one and ended one after another: settled, and read, as one outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from qmodal import FunctionCall
from qmodal.client import client as clients
from qmodal.exception import ExecutionError
from qmodal.functions.graph import graph_of
from qmodal.functions.map.map_call import MapCall, MapOptions
from qmodal.functions.results import OutputReader, PlainValue, open_output, outcomes_for, value_at
from qmodal.spec.options import FunctionOptions
from qmodal.store.entries import Claimed, Settled
from qmodal.types import InputStatus
from qmodal.wire.outcome import Outcome, Result
from qmodal.wire.payload import dump_value
from qmodal.wire.plain import MAX_DEPTH, pack
from qmodal.wire.remote_error import dump_exception
from qmodal_workers.container.run.admission import Admission
from qmodal_workers.container.settle.coalesce import SMALL_BYTES, Done
from qmodal_workers.container.settle.settlement import Settlement
from tests.support.store.bench import Bench, index_of, map_call_of
from tests.support.store.pack_cases import outputs

CONTAINER = "ta-a-1"
COUNT = 8
Ending = Callable[[int], Result]


@pytest.fixture
def settlement(bench: Bench) -> Settlement:
    """Of a container of the bench's pool."""
    return Settlement(
        client=bench.client,
        pool=bench.pool,
        container=CONTAINER,
        options=FunctionOptions(),
        admission=Admission(bench.client, bench.pool),
    )


def value(content: Any) -> Result:
    return "value", *dump_value(content, plain_only=False)


def error(text: str) -> Result:
    return "error", "x", dump_exception(ValueError(text), origin=CONTAINER, plain_only=False)


def submitted(bench: Bench, *rows: Any, **how: Any) -> MapCall[Any]:
    """A map whose inputs were submitted, `COUNT` or these."""
    map_call = map_call_of(bench, MapOptions(**how))
    inputs: list[Any] = [((row,), {}) for row in rows or range(COUNT)]
    bench.client.run(map_call.feed(inputs, is_last=True))
    return map_call


def finish(settlement: Settlement, claimed: list[Claimed], ending: Ending = value) -> None:
    """The inputs have ended so, a moment ago, each after as many ms as its index says."""
    now = time.monotonic_ns()
    for one in claimed:
        _, envelope, _ = settlement.admission.admit(one)
        index = index_of(one)
        settlement.input(Done(one, envelope, ending(index), now, index / 1000))


def settle(bench: Bench, settlement: Settlement) -> list[int]:
    """Settle what has ended; the script's reply."""
    attempts = settlement.take()
    reply: list[int] = bench.ask(*bench.client.pools.settle_command(bench.pool, attempts))
    return reply


def end(
    bench: Bench, settlement: Settlement, claimed: list[Claimed], ending: Ending = value
) -> list[int]:
    """Both."""
    finish(settlement, claimed, ending)
    return settle(bench, settlement)


def places(bench: Bench, call: str) -> list[bytes]:
    """Which inputs each output is for."""
    return [place for place, _, _ in outputs(bench, call)]


def taken(map_call: MapCall[Any], bench: Bench) -> list[Any]:
    """The results that are there."""
    bench.client.run(map_call.receive(0))
    return map_call.reorder.take()


def test_inputs_that_end_one_after_another_are_one_output(
    bench: Bench, settlement: Settlement
) -> None:
    map_call = submitted(bench)
    held = bench.claim(count=COUNT)
    finish(settlement, held)
    assert settlement.waiting == COUNT
    assert settle(bench, settlement) == [0, 1]
    assert settlement.waiting == 0
    assert places(bench, map_call.call) == [b"0+%d" % COUNT]
    assert taken(map_call, bench) == list(range(COUNT))
    assert map_call.is_done
    assert bench.record(map_call.call).settled == COUNT
    assert bench.ask(b"XLEN", bench.client.keys.inputs(bench.pool)) == 0


@pytest.mark.parametrize(
    ("gone", "recorded"),
    [
        ([0], [b"1+7"]),
        ([COUNT - 1], [b"0+7"]),
        ([3, 4], [b"0+3", b"5+3"]),
        ([1, 3, 5], [b"0", b"2", b"4", b"6+2"]),
        (list(range(COUNT)), []),
    ],
)
def test_an_outcome_counts_only_for_inputs_that_were_still_held(
    bench: Bench, settlement: Settlement, gone: list[int], recorded: list[bytes]
) -> None:
    map_call = submitted(bench, return_exceptions=True, ordered=False)
    held = bench.claim(count=COUNT)
    stale = [(one.lane, one.entry, one.call) for one in held if index_of(one) in gone]
    bench.client.run(bench.client.pools.release(bench.pool, stale))
    assert end(bench, settlement, held, lambda index: value(("late", index))) == [len(gone), 0]
    assert places(bench, map_call.call) == recorded
    late = [("late", index) for index in range(COUNT) if index not in gone]
    assert taken(map_call, bench) == late
    again = bench.claim("ta-a-2", COUNT)
    assert sorted(map(index_of, again)) == gone
    end(bench, settlement, again)
    assert sorted(taken(map_call, bench)) == gone
    assert map_call.is_done
    assert bench.inflight() == 0


def test_each_input_of_a_shared_outcome_can_be_asked_for(
    bench: Bench, settlement: Settlement
) -> None:
    map_call = submitted(bench, keep=True)
    held = bench.claim(count=COUNT)
    stale = [(one.lane, one.entry, one.call) for one in held if index_of(one) == 1]
    bench.client.run(bench.client.pools.release(bench.pool, stale))
    end(bench, settlement, held, lambda index: value(str(index)))
    found = bench.client.run(OutputReader(bench.client, map_call.call).read(0))
    assert [output.fresh for output in found] == [range(1), range(2, COUNT)]
    opened = [
        each for output in found for each in outcomes_for(bench.client, map_call.call, output)
    ]
    assert opened == [PlainValue(str(index)) for index in range(COUNT) if index != 1]


def test_failures_and_values_share_an_outcome_and_stay_apart(
    bench: Bench, settlement: Settlement
) -> None:
    map_call = submitted(bench, return_exceptions=True)

    def odd_fails(index: int) -> Result:
        return error(f"{index} is odd") if index % 2 else value({index})

    end(bench, settlement, bench.claim(count=COUNT), odd_fails)
    assert places(bench, map_call.call) == [b"0+%d" % COUNT]
    found = taken(map_call, bench)
    assert found[::2] == [{0}, {2}, {4}, {6}]
    assert [str(each) for each in found[1::2]] == [f"{index} is odd" for index in (1, 3, 5, 7)]


def test_values_in_a_shared_outcome_may_be_as_deep_as_alone(
    bench: Bench, settlement: Settlement
) -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    map_call = submitted(bench)
    end(bench, settlement, bench.claim(count=COUNT), lambda _: value(deep))
    assert places(bench, map_call.call) == [b"0+%d" % COUNT]
    assert taken(map_call, bench) == [deep] * COUNT


def test_large_results_and_arguments_have_outcomes_of_their_own(
    bench: Bench, settlement: Settlement
) -> None:
    map_call = submitted(bench, 0, 1, bytes(100_000), 3, 4, 5, 6, 7)
    large = bytes(SMALL_BYTES)
    end(bench, settlement, bench.claim(count=COUNT), lambda n: value(large if n == 5 else n))
    assert places(bench, map_call.call) == [b"0+2", b"2", b"3+2", b"5", b"6+2"]
    assert bench.ask(b"EXISTS", bench.client.keys.blob(map_call.call, 2)) == 0
    assert taken(map_call, bench) == [0, 1, 2, 3, 4, large, 6, 7]


def test_a_result_that_is_stored_apart_has_an_outcome_of_its_own(
    bench: Bench, settlement: Settlement
) -> None:
    map_call, large = submitted(bench), bytes(2_000_000)
    end(bench, settlement, bench.claim(count=COUNT), lambda n: value(large if n == 2 else n))
    assert places(bench, map_call.call) == [b"0+2", b"2", b"3+5"]
    assert taken(map_call, bench) == [0, 1, large, 3, 4, 5, 6, 7]


def test_inputs_of_two_lanes_share_nothing(bench: Bench, settlement: Settlement) -> None:
    map_call = submitted(bench)
    held = bench.claim(count=COUNT)
    stale = [(one.lane, one.entry, one.call) for one in held if index_of(one) in (3, 4)]
    bench.client.run(bench.client.pools.release(bench.pool, stale))
    kept = [one for one in held if index_of(one) not in (3, 4)]
    end(bench, settlement, sorted(kept + bench.claim(count=COUNT), key=index_of))
    assert places(bench, map_call.call) == [b"0+3", b"3+2", b"5+3"]
    assert taken(map_call, bench) == list(range(COUNT))
    assert bench.inflight() == 0


def test_no_outcome_is_for_more_inputs_than_readers_believe(
    bench: Bench, settlement: Settlement
) -> None:
    map_call = submitted(bench, *range(1000))
    end(bench, settlement, bench.claim(count=1000))
    assert places(bench, map_call.call) == [b"0+256", b"256+256", b"512+256", b"768+232"]
    assert taken(map_call, bench) == list(range(1000))


def test_a_shared_outcome_says_how_long_one_took_and_when_the_first_began(
    bench: Bench, settlement: Settlement
) -> None:
    map_call = submitted(bench)
    end(bench, settlement, bench.claim(count=COUNT)[1:])
    (output,) = bench.client.run(OutputReader(bench.client, map_call.call).read(0))
    outcome = open_output(bench.client, map_call.call, output, None)
    assert outcome.took == 4000  # 1 to 7 ms
    assert 0 <= time.time() * 1000 - outcome.started < 5000
    assert (outcome.first, outcome.size, outcome.container) == (1, COUNT - 1, CONTAINER)


def test_the_call_graph_tells_inputs_of_a_shared_outcome_apart(
    bench: Bench, settlement: Settlement
) -> None:
    map_call = submitted(bench, keep=True)
    end(bench, settlement, bench.claim(count=COUNT), lambda n: error("") if n == 5 else value(n))
    found = bench.client.run(graph_of(bench.client, map_call.call))
    assert [each.status for each in found] == [
        InputStatus.FAILURE if n == 5 else InputStatus.SUCCESS for n in range(COUNT)
    ]


@pytest.mark.parametrize(
    "result",
    [
        ("values", "m", pack([1, 2])),
        ("values", "m", pack({"a": 1})),
        ("values", "m", b"\xc1"),
        ("value", "m", pack(1)),
        ("mixed", "m", pack([("value", "m", b"\x01")])),
    ],
    ids=["too few", "no list", "no msgpack", "one", "too few outcomes"],
)
def test_an_outcome_that_does_not_hold_what_it_says_fails_its_inputs(
    bench: Bench, result: Result
) -> None:
    map_call = submitted(bench, return_exceptions=True)
    held = bench.claim(count=COUNT)
    sealed = Outcome(*result).seal(
        bench.client.signer, call=map_call.call, index=0, count=COUNT, request=b""
    )
    entries = " ".join(one.entry for one in held)
    settled = Settled(1, entries, map_call.call, 0, sealed, False, COUNT)
    bench.ask(*bench.client.pools.settle_command(bench.pool, [settled]))
    found = taken(map_call, bench)
    assert [isinstance(each, Exception) for each in found] == [True] * COUNT
    (output,) = bench.client.run(OutputReader(bench.client, map_call.call).read(0))
    with pytest.raises(ExecutionError):
        outcomes_for(bench.client, map_call.call, output)


def test_an_outcome_that_somebody_put_there_twice_is_taken_once(
    bench: Bench, settlement: Settlement
) -> None:
    map_call = submitted(bench, keep=True)
    end(bench, settlement, bench.claim(count=COUNT))
    key = bench.client.keys.outputs(map_call.call)
    ((entry, (*_, signed)),) = bench.ask(b"XRANGE", key, b"-", b"+")
    bench.ask(b"XDEL", key, entry)
    for place in ("0", "0+8", "-1+99999999999999", "0+8"):
        bench.ask(b"XADD", key, b"*", b"i", place, b"o", signed)
    before = clients.use(bench.client)
    try:
        assert FunctionCall.gather(FunctionCall.from_id(map_call.call)) == [0]
        assert len(bench.client.run(graph_of(bench.client, map_call.call))) == COUNT
    finally:
        clients.use(before)
    assert taken(map_call, bench) == list(range(COUNT))


def test_inputs_of_two_calls_share_nothing(bench: Bench, settlement: Settlement) -> None:
    calls = [submitted(bench, 0, 1), submitted(bench, 0, 1, 2)]
    end(bench, settlement, bench.claim(count=COUNT))
    assert [places(bench, each.call) for each in calls] == [[b"0+2"], [b"0+3"]]


def test_an_input_alone_is_answered_alone(bench: Bench, settlement: Settlement) -> None:
    map_call = submitted(bench, 0)
    end(bench, settlement, bench.claim())
    (output,) = bench.client.run(OutputReader(bench.client, map_call.call).read(0))
    (outcome,) = outcomes_for(bench.client, map_call.call, output)
    assert bench.client.run(value_at(bench.client, map_call.call, 0, outcome)) == 0
