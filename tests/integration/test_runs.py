"""Inputs that came one by one and ended one after another: settled, and read, as one outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qmodal.fanout import Fanout, How
from qmodal.options import FunctionOptions
from qmodal.outputs import OutputReader, Plain, parts, value_at
from qmodal.store.entries import Claimed
from qmodal.wire.outcome import Result
from qmodal.wire.payload import dump_value
from qmodal.wire.plain import MAX_DEPTH
from qmodal.wire.remote_error import dump_exception
from qmodal_workers.container.admission import Admission
from qmodal_workers.container.conclude import Conclusions
from qmodal_workers.container.runs import SMALL_BYTES, Done
from tests.bench import Bench, fanout_of, index_of
from tests.pack_cases import outputs

CONTAINER = "ta-a-1"
COUNT = 8
Ending = Callable[[int], Result]


@pytest.fixture
def conclusions(bench: Bench) -> Conclusions:
    """Of a container of the bench's pool."""
    return Conclusions(
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


def submitted(bench: Bench, *rows: Any, **how: Any) -> Fanout[Any]:
    """A map whose inputs were submitted, `COUNT` or these."""
    fanout = fanout_of(bench, How(**how))
    inputs: list[Any] = [((row,), {}) for row in rows or range(COUNT)]
    bench.client.run(fanout.feed(inputs, is_last=True))
    return fanout


def end(
    bench: Bench, conclusions: Conclusions, claimed: list[Claimed], ending: Ending = value
) -> list[int]:
    """The inputs have ended so, and are settled together; the script's reply."""
    for one in claimed:
        envelope, _ = conclusions.admission.admit(one)
        conclusions.input(Done(one, envelope, ending(index_of(one)), 0, 0.1))
    attempts = conclusions.take()
    reply: list[int] = bench.ask(*bench.client.pools.settle_command(bench.pool, attempts))
    return reply


def places(bench: Bench, call: str) -> list[bytes]:
    """Which inputs each output is for."""
    return [place for place, _, _ in outputs(bench, call)]


def taken(fanout: Fanout[Any], bench: Bench) -> list[Any]:
    """The results that are there."""
    bench.client.run(fanout.receive(0))
    return fanout.arrivals.take()


def test_inputs_that_end_one_after_another_are_one_output(
    bench: Bench, conclusions: Conclusions
) -> None:
    fanout = submitted(bench)
    assert end(bench, conclusions, bench.claim(count=COUNT)) == [0, 1]
    assert places(bench, fanout.call) == [b"0+%d" % COUNT]
    assert taken(fanout, bench) == list(range(COUNT))
    assert fanout.is_done
    assert bench.record(fanout.call).settled == COUNT
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
    bench: Bench, conclusions: Conclusions, gone: list[int], recorded: list[bytes]
) -> None:
    fanout = submitted(bench, return_exceptions=True, ordered=False)
    held = bench.claim(count=COUNT)
    stale = [(one.lane, one.entry, one.call) for one in held if index_of(one) in gone]
    bench.client.run(bench.client.pools.release(bench.pool, stale))
    assert end(bench, conclusions, held, lambda index: value(("late", index))) == [len(gone), 0]
    assert places(bench, fanout.call) == recorded
    late = [("late", index) for index in range(COUNT) if index not in gone]
    assert taken(fanout, bench) == late
    again = bench.claim("ta-a-2", COUNT)
    assert sorted(map(index_of, again)) == gone
    end(bench, conclusions, again)
    assert sorted(taken(fanout, bench)) == gone
    assert fanout.is_done
    assert bench.inflight() == 0


def test_each_input_of_a_shared_outcome_can_be_asked_for(
    bench: Bench, conclusions: Conclusions
) -> None:
    fanout = submitted(bench, keep=True)
    held = bench.claim(count=COUNT)
    stale = [(one.lane, one.entry, one.call) for one in held if index_of(one) == 1]
    bench.client.run(bench.client.pools.release(bench.pool, stale))
    end(bench, conclusions, held, lambda index: value(str(index)))
    found = bench.client.run(OutputReader(bench.client, fanout.call).read(0))
    assert [output.fresh for output in found] == [range(1), range(2, COUNT)]
    opened = [each for output in found for each in parts(bench.client, fanout.call, output)]
    assert opened == [Plain(str(index)) for index in range(COUNT) if index != 1]


def test_failures_and_values_share_an_outcome_and_stay_apart(
    bench: Bench, conclusions: Conclusions
) -> None:
    fanout = submitted(bench, return_exceptions=True)
    odd_fails: Ending = lambda index: error(f"{index} is odd") if index % 2 else value({index})  # noqa: E731
    end(bench, conclusions, bench.claim(count=COUNT), odd_fails)
    assert places(bench, fanout.call) == [b"0+%d" % COUNT]
    found = taken(fanout, bench)
    assert found[::2] == [{0}, {2}, {4}, {6}]
    assert [str(each) for each in found[1::2]] == [f"{index} is odd" for index in (1, 3, 5, 7)]


def test_values_in_a_shared_outcome_may_be_as_deep_as_alone(
    bench: Bench, conclusions: Conclusions
) -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    fanout = submitted(bench)
    end(bench, conclusions, bench.claim(count=COUNT), lambda _: value(deep))
    assert places(bench, fanout.call) == [b"0+%d" % COUNT]
    assert taken(fanout, bench) == [deep] * COUNT


def test_large_results_and_arguments_have_outcomes_of_their_own(
    bench: Bench, conclusions: Conclusions
) -> None:
    fanout = submitted(bench, 0, 1, bytes(100_000), 3, 4, 5, 6, 7)
    large = bytes(SMALL_BYTES)
    ending: Ending = lambda index: value(large if index == 5 else index)  # noqa: E731
    end(bench, conclusions, bench.claim(count=COUNT), ending)
    assert places(bench, fanout.call) == [b"0+2", b"2", b"3+2", b"5", b"6+2"]
    assert bench.ask(b"EXISTS", bench.client.keys.blob(fanout.call, 2)) == 0
    assert taken(fanout, bench) == [0, 1, 2, 3, 4, large, 6, 7]


def test_inputs_of_two_calls_share_nothing(bench: Bench, conclusions: Conclusions) -> None:
    calls = [submitted(bench, 0, 1), submitted(bench, 0, 1, 2)]
    end(bench, conclusions, bench.claim(count=COUNT))
    assert [places(bench, each.call) for each in calls] == [[b"0+2"], [b"0+3"]]


def test_an_input_alone_is_answered_alone(bench: Bench, conclusions: Conclusions) -> None:
    fanout = submitted(bench, 0)
    end(bench, conclusions, bench.claim())
    (output,) = bench.client.run(OutputReader(bench.client, fanout.call).read(0))
    (outcome,) = parts(bench.client, fanout.call, output)
    assert bench.client.run(value_at(bench.client, fanout.call, 0, outcome)) == 0
