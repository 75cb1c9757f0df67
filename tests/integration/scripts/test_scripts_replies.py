"""What tells callers that wait together: submitting several calls at once, and the streams of replies."""

from __future__ import annotations

from typing import Any

import pytest

from qmodal.store.calls import Submission
from qmodal.transport.sharing.letter import Letter
from tests.support.store.bench import Bench
from tests.support.store.cases import cancel_command

MAILBOX = "0123456789abcdef"
LARGEST = 16 * 1024


class Box:
    """A mailbox's name, and nothing else."""

    name = MAILBOX

    def forget(self, letter: Letter) -> None:
        """Nobody waits."""

    def doubt(self) -> None:
        """Nobody doubts."""


def with_letter(bench: Bench, count: int = 1, **changes: Any) -> Submission:
    submission = bench.submission(count, **changes)
    submission.letter = Letter(Box(), stream_of(bench, submission.call), submission.call)
    return submission


def stream_of(bench: Bench, call: str) -> str:
    return bench.client.keys.replies(call, MAILBOX)


def submit_each(bench: Bench, *submissions: Submission) -> Any:
    parts = [bench.client.calls.part_of(each) for each in submissions]
    values = [part.values for part in parts if part is not None]
    return bench.ask(*bench.client.calls.submit_each_command(bench.pool, values))


def opened(bench: Bench, call: str) -> str:
    stream = stream_of(bench, call)
    bench.ask(b"XADD", stream, b"*", b"begin", b"")
    bench.ask(b"PEXPIRE", stream, 60_000)
    return stream


def told(bench: Bench, stream: str) -> list[list[bytes]]:
    found = bench.ask(b"XRANGE", stream, b"-", b"+")
    return [fields for _, fields in found if fields[0] != b"begin"]


def test_calls_that_go_out_together_are_as_if_each_had_come_alone(bench: Bench) -> None:
    together = [with_letter(bench) for _ in range(3)]
    alone = with_letter(bench)
    assert submit_each(bench, *together) == [b"OK"] * 3
    bench.client.run(bench.client.calls.submit(alone))
    records = [
        bench.ask(b"HGETALL", bench.client.keys.call(each.call)) for each in (*together, alone)
    ]
    fields = [dict(zip(each[::2], each[1::2], strict=True)) for each in records]
    for each in fields:
        del each[b"from"]
    assert fields == [fields[0]] * 4
    assert [claimed.call for claimed in bench.claim(count=9)] == [
        each.call for each in (*together, alone)
    ]
    assert bench.inflight() == 4


def test_a_call_that_is_submitted_again_is_not_submitted_twice(bench: Bench) -> None:
    first, second = with_letter(bench), with_letter(bench)
    assert submit_each(bench, first) == [b"OK"]
    assert submit_each(bench, first, second) == [b"OK", b"OK"]
    assert submit_each(bench, first, second) == [b"OK", b"OK"]
    assert bench.inflight() == 2
    other = with_letter(bench, call=first.call, digest=b"another")
    assert submit_each(bench, other) == [b"TAKEN"]


def test_nothing_is_submitted_to_a_pool_that_is_not_known(bench: Bench) -> None:
    bench.ask(b"UNLINK", bench.client.keys.pool(bench.pool))
    one = with_letter(bench)
    assert submit_each(bench, one) == b"POOL"
    assert not bench.ask(b"EXISTS", bench.client.keys.call(one.call))
    bench.open()


@pytest.mark.parametrize(
    "changes", [{"parent": "in-00x-0"}, {"blobs": [(0, b"x")]}, {"total": None}, {"total": 2}]
)
def test_what_is_not_one_small_input_has_a_script_of_its_own(
    bench: Bench, changes: dict[str, Any]
) -> None:
    assert bench.client.calls.part_of(with_letter(bench, **changes)) is None


def test_outcomes_of_one_settle_reach_their_mailbox_as_one_entry(bench: Bench) -> None:
    calls = [with_letter(bench) for _ in range(3)]
    submit_each(bench, *calls)
    stream = opened(bench, calls[0].call)
    bench.settle(*bench.claim(count=3), outcome=b"done")
    (fields,) = told(bench, stream)
    assert fields == [part for each in calls for part in (each.call.encode(), b"0", b"o", b"done")]
    assert all(bench.outputs(each.call) == [(0, b"o", b"done")] for each in calls)


def test_a_stream_of_replies_that_is_not_there_is_not_made(bench: Bench) -> None:
    call = with_letter(bench)
    submit_each(bench, call)
    bench.settle(*bench.claim())
    assert not bench.ask(b"EXISTS", stream_of(bench, call.call))
    assert bench.outputs(call.call) == [(0, b"o", b"done")]


def test_a_large_outcome_is_only_announced(bench: Bench) -> None:
    call = with_letter(bench)
    submit_each(bench, call)
    stream = opened(bench, call.call)
    bench.settle(*bench.claim(), outcome=b"x" * (LARGEST + 1))
    assert told(bench, stream) == [[call.call.encode(), b"0", b"l", b""]]


def test_a_value_of_another_kind_in_its_place_stops_nothing(bench: Bench) -> None:
    call = with_letter(bench)
    submit_each(bench, call)
    bench.ask(b"SET", stream_of(bench, call.call), b"foreign", b"EX", 60)
    bench.settle(*bench.claim())
    assert bench.inflight() == 0


def test_whatever_ends_an_input_tells_its_mailbox(bench: Bench) -> None:
    lost, cancelled = with_letter(bench), with_letter(bench)
    submit_each(bench, lost)
    stream = opened(bench, lost.call)
    bench.claim()
    pools = bench.client.pools
    bench.client.run(pools.reclaim(bench.pool, "ta-a-1", reason="gone", charged=["*"], budget=1))
    submit_each(bench, cancelled)
    bench.ask(*cancel_command(bench, cancelled.call))
    assert told(bench, stream) == [
        [lost.call.encode(), b"0", b"x", b"gone"],
        [cancelled.call.encode(), b"-1", b"x", b"cancelled"],
    ]
